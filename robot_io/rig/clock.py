"""Wall time in even control periods."""

from __future__ import annotations

import time
from collections.abc import Callable


class WallClock:
    """Ticks at a fixed rate; a late tick shifts those after it, so that two are never closer than a period.

    Args:
        hz: ticks per second.
        on_tick: called at the start of every period, such as a simulated table that catches up.
    """

    def __init__(self, hz: float, on_tick: Callable[[], None] | None = None) -> None:
        self._on_tick = on_tick
        self._period_s = 1.0 / hz
        self._next_s = time.monotonic()

    def now_s(self) -> float:
        """Monotonic wall time [s]."""
        return time.monotonic()

    def tick(self) -> None:
        """Sleep until the next control period begins."""
        now = time.monotonic()
        self._next_s += self._period_s
        if self._next_s < now:
            self._next_s = now
        else:
            time.sleep(self._next_s - now)
        if self._on_tick is not None:
            self._on_tick()
