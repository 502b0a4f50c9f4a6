"""When an image was taken, on this machine's monotonic clock, from a device's clock and the time of arrival."""

from __future__ import annotations

from collections import deque

WINDOW = 300  # images; ten seconds at 30 images per second
JUMP_S = 0.5


class Stamps:
    """Maps device times to monotonic times by the quickest arrival seen lately.

    An image never arrives before it was taken, and now and then one arrives with next to no delay; the smallest
    difference between arrival and device time within the window is therefore the difference between the clocks. An
    image that was held up in a queue then shows its true age. Nothing here reads the wall clock, so that setting it
    does no harm: a jump of the device's clock only starts the window again.
    """

    def __init__(self) -> None:
        self._offsets: deque[float] = deque(maxlen=WINDOW)

    def stamp_s(self, t_dev_s: float, t_host_s: float) -> float:
        """Return the monotonic time of an image taken at `t_dev_s` that arrived at `t_host_s`; never after arrival."""
        offset = t_host_s - t_dev_s
        if self._offsets and abs(offset - min(self._offsets)) > JUMP_S and self._stepped(offset):
            self._offsets.clear()
        self._offsets.append(offset)
        return min(t_host_s, t_dev_s + min(self._offsets))

    def _stepped(self, offset: float) -> bool:
        """Tell a step of the clock (it stays) from one late image (it does not): the last image was off as much."""
        return offset < min(self._offsets) or abs(offset - self._offsets[-1]) < JUMP_S / 10
