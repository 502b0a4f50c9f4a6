"""A deadman: motion only while a person holds something."""

from __future__ import annotations

import time
from typing import Any

LOST_NS = 150_000_000
STUCK_NS = 60_000_000_000
STEADY_NS = 200_000_000


class Deadman:
    """What a person holds: call `beat(pressed)` at 10 Hz or more from whatever reads the switch.

    Without a beat for 150 ms it counts as released. After that, and at first, it must be seen released and then be held
    for 0.2 s before the arm moves. Held for 60 s without any change it counts as stuck, and the arm is disarmed.
    """

    def __init__(self) -> None:
        self._words: Any = None
        self._pressed = False

    def attach(self, words: Any) -> None:
        """Report from now on into an arm's shared memory (`ArmProcess.arm` does this)."""
        self._words = words
        words["deadman_changed_ns"] = time.monotonic_ns()
        self.beat(self._pressed)

    def beat(self, pressed: bool) -> None:
        """Report that the switch is alive, and whether it is pressed; any thread."""
        words, now = self._words, time.monotonic_ns()
        if words is not None:
            if pressed != bool(words["deadman_pressed"]):
                words["deadman_changed_ns"] = now
            words["deadman_pressed"] = int(pressed)
            words["deadman_ns"] = now
        self._pressed = pressed


class DeadmanWatch:
    """The arm process's view of a deadman.

    Attributes:
        used: whether this arming asked for one.
    """

    def __init__(self) -> None:
        self.used = False
        self._released = False
        self._pressed_ns = 0

    def begin(self, used: bool) -> None:
        """Arming: a switch that is pressed already does not count."""
        self.used, self._released, self._pressed_ns = used, False, 0

    def look(self, words: Any, now_ns: int) -> str:
        """Return '' when motion is allowed, else why not: 'deadman' or 'deadman_stuck'."""
        if not self.used:
            return ""
        if now_ns - words["deadman_ns"] > LOST_NS:
            self._released, self._pressed_ns = False, 0  # silent while pressed may be stuck: it must be seen released
            return "deadman"
        if not words["deadman_pressed"]:
            self._released, self._pressed_ns = True, 0
            return "deadman"
        if now_ns - words["deadman_changed_ns"] > STUCK_NS:
            self._released = False
            return "deadman_stuck"
        if not self._released:
            return "deadman"
        self._pressed_ns = self._pressed_ns or now_ns
        return "" if now_ns - self._pressed_ns >= STEADY_NS else "deadman"
