"""Which target holds now: the latest one sent, or a schedule interpolated by time; both end by themselves."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot_io.process.channel import Command
from robot_io.process.poses import interpolate

Floats = NDArray[np.float64]


class Targets:
    """The targets that have not been executed. Flushed, they are gone: nothing comes back.

    A schedule replaces the tail of the one before: what lies before the first new time stays. Commands with a sequence
    number not above the newest are dropped.
    """

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._values: list[Floats] = []
        self._gripper: list[float] = []
        self._end_ns = 0
        self._scheduled = False
        self.newest = 0

    def __len__(self) -> int:
        return len(self._values)

    def flush(self, upto: int | None = None) -> None:
        """Forget everything; commands up to the sequence number `upto` will be dropped as well."""
        self._times_ns, self._values, self._gripper, self._end_ns = [], [], [], 0
        if upto is not None:
            self.newest = max(self.newest, upto)

    def take(self, command: Command, now_ns: int, here: Floats) -> bool:
        """Take a command; return False when it is out of order.

        Args:
            command: as sent; what is past its time is still the place to go to.
            now_ns: monotonic time.
            here: (7,) current setpoint, from where a first schedule begins.
        """
        if command.sequence <= self.newest:
            return False
        self.newest = command.sequence
        if command.times_ns is None:
            self._times_ns, self._values = [command.sent_ns], [command.values[0]]
            self._gripper = [float(command.gripper[0])]
            self._end_ns, self._scheduled = command.sent_ns + command.ttl_ns, False
            return True
        self._splice(command, command.times_ns.tolist(), now_ns, here)
        self._end_ns, self._scheduled = int(command.times_ns[-1]) + command.ttl_ns, True
        return True

    def _splice(self, command: Command, times_ns: Sequence[int], now_ns: int, here: Floats) -> None:
        start, gripper = self.at(now_ns)
        times, values = [now_ns], [here if start is None else start]
        openings: list[float] = []
        if self._scheduled:  # what comes before the first new target still holds
            for time_ns, value, opening in zip(self._times_ns, self._values, self._gripper, strict=True):
                if now_ns < time_ns < times_ns[0]:
                    times.append(time_ns)
                    values.append(value)
                    openings.append(opening)
        for time_ns, value, opening in zip(times_ns, command.values, command.gripper.tolist(), strict=True):
            if time_ns > now_ns or time_ns == times_ns[-1]:
                times.append(max(time_ns, times[-1]))
                values.append(value)
                openings.append(opening)
        self._times_ns, self._values = times, values
        self._gripper = [openings[0] if gripper is None else gripper, *openings]

    def at(self, now_ns: int) -> tuple[Floats | None, float | None]:
        """Return (pose (7,), gripper opening) to go to now; (None, None) when nothing holds any more."""
        if not self._values or now_ns > self._end_ns:
            return None, None
        if not self._scheduled or now_ns >= self._times_ns[-1]:
            return self._values[-1], self._gripper[-1]
        after = max(bisect_right(self._times_ns, now_ns), 1)
        t0, t1 = self._times_ns[after - 1], self._times_ns[after]
        share = (now_ns - t0) / (t1 - t0) if t1 > t0 else 1.0
        pose = interpolate(self._values[after - 1], self._values[after], share)
        return pose, self._gripper[after]  # a gripper opens or closes, it does not fade: the target ahead decides

    @property
    def expired(self) -> bool:
        """Whether nothing is left to go to."""
        return not self._values
