"""Wall-clock training schedule: the learning rate reaches its floor when the minutes are over, on any machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class StageClock:
    """Minutes of one stage, pauses not counted.

    Args:
        minutes: length of the stage.
        elapsed_s: seconds already spent before an interruption.
        now: monotonic seconds.
    """

    def __init__(self, minutes: float, *, elapsed_s: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self._total_s = minutes * 60
        self._now = now
        self._began = now() - elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds spent in this stage, earlier sessions included."""
        return self._now() - self._began

    @property
    def share(self) -> float:
        """Share of the stage that is over, 0..1."""
        return 1.0 if self._total_s <= 0 else min(1.0, self.elapsed_s / self._total_s)

    @property
    def over(self) -> bool:
        """Whether the minutes are spent."""
        return self.share >= 1.0

    def rate(self, *, warm_up: float = 0.03, floor: float = 0.02) -> float:
        """Return the factor of the learning rate now: linear warm-up, then cosine down to `floor`."""
        share = self.share
        if share < warm_up:
            return max(0.05, share / warm_up)
        along = (share - warm_up) / (1 - warm_up)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along))


class Every:
    """Says yes once per interval of seconds."""

    def __init__(self, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._now = seconds, now
        self._last = now()

    def due(self) -> bool:
        """Return whether the interval is over, and begin the next one if so."""
        if self._now() - self._last < self._seconds:
            return False
        self._last = self._now()
        return True
