"""Clocks of a simulated world: one that waits for compute, and one that does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from robot_io.sim.world import CONTROL_HZ, World

PERIOD_S = 1.0 / CONTROL_HZ
_PATIENCE_S = 1.0


class FrozenClock:
    """Simulated time: every tick is exactly one control step; between ticks the world stands still."""

    def __init__(self, world: World, advance: Callable[[], None]) -> None:
        self._world, self._advance = world, advance

    def now_s(self) -> float:
        """Simulated time since the rig was built [s]; it does not jump back at a reset."""
        return self._world.total_steps * PERIOD_S

    def tick(self) -> None:
        """Move the world on by one control step."""
        self._advance()

    def start(self) -> None:
        """An episode begins."""

    def catch_up(self) -> None:
        """Nothing happens while the caller thinks."""


class RealtimeClock:
    """Wall time: the world goes on with the latest target while the caller thinks or sleeps."""

    def __init__(self, advance: Callable[[], None]) -> None:
        self._advance = advance
        self._lock = threading.RLock()
        self._start_s = time.monotonic()
        self._done = 0

    def now_s(self) -> float:
        """Monotonic wall time [s]."""
        return time.monotonic()

    def start(self) -> None:
        """An episode begins now."""
        with self._lock:
            self._start_s, self._done = time.monotonic(), 0

    def catch_up(self) -> None:
        """Simulate the control periods that have begun since the last call."""
        with self._lock:
            due = int((time.monotonic() - self._start_s) * CONTROL_HZ)
            while self._done < due:
                self._advance()
                self._done += 1

    def tick(self) -> None:
        """Sleep until the next control period begins, then catch up."""
        self.catch_up()
        with self._lock:
            next_s = self._start_s + (self._done + 1) * PERIOD_S
        time.sleep(max(0.0, next_s - time.monotonic()))
        self.catch_up()


class MirrorClock:
    """Wall time of a world that goes on in another process: the mirror here is brought up to date when looked at."""

    def __init__(self, pull: Callable[[], bool]) -> None:
        self._pull = pull

    def now_s(self) -> float:
        """Monotonic wall time [s]."""
        return time.monotonic()

    def start(self) -> None:
        """An episode begins now."""

    def catch_up(self) -> None:
        """Show the world as it is by now."""
        self._pull()

    def tick(self) -> None:
        """Wait until the world has gone on by a control period."""
        end_s = time.monotonic() + _PATIENCE_S
        time.sleep(0.5 * PERIOD_S)
        while not self._pull() and time.monotonic() < end_s:
            time.sleep(0.05 * PERIOD_S)
