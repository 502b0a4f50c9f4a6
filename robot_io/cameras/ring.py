"""Images in shared memory: one process writes, others copy out the newest, and neither ever waits for the other.

A few slots are written in turn. Each slot carries its sequence number before and after the pixels; a reader copies and
then looks whether both still are what they were (a seqlock). A torn copy is simply read again. With several slots the
one being read is written again only some images later, so that the order of stores on weakly ordered processors does
not matter either.
"""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Self

import numpy as np
from numpy.typing import NDArray

SLOTS = 4
_COUNTERS = ("latest", "alarms", "ready", "missed", "duplicated", "stale", "skewed", "received")
_HEAD = 256  # bytes: counters, then measurements
_SLOT_HEAD = 128  # bytes: begin, end, alarms, number, then stamp_s, t_dev_s, skew_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RingFrame:
    """A copy of one image in the ring; fields as in `SourceFrame`, `stamp_s` on the host's monotonic clock."""

    seq: int
    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32] | None
    stamp_s: float
    t_dev_s: float
    skew_s: float
    number: int
    alarms: int


class Ring:
    """Shared memory for images of one size.

    Args:
        height, width: of the images [px].
        depth: whether they carry depth.
        name: of an existing ring to attach to, or None to make one. Who made it must call `unlink`.
    """

    def __init__(self, height: int, width: int, *, depth: bool, name: str | None = None) -> None:
        self._shape, self._depth = (height, width), depth
        pixels = height * width
        self._slot_bytes = _round(_SLOT_HEAD + pixels * 3) + (_round(pixels * 4) if depth else 0)
        size = _HEAD + SLOTS * self._slot_bytes
        self._memory = SharedMemory(name=name, create=name is None, size=size if name is None else 0)
        buffer = self._memory.buf
        self._counters = np.ndarray(len(_COUNTERS), np.int64, buffer, 0)
        self._measures = np.ndarray(2, np.float64, buffer, 128)  # fps, last skew
        self._slots = [self._slot(_HEAD + i * self._slot_bytes) for i in range(SLOTS)]

    @property
    def name(self) -> str:
        """Name to attach with."""
        return self._memory.name

    @property
    def latest(self) -> int:
        """Sequence number of the newest image; 0 when there is none."""
        return int(self._counters[0])

    @property
    def ready(self) -> bool:
        """Whether enough good images have come in a row."""
        return bool(self._counters[2])

    @property
    def fps(self) -> float:
        """Images per second, measured by the writer."""
        return float(self._measures[0])

    @property
    def counters(self) -> dict[str, int]:
        """All counters by name."""
        return {name: int(value) for name, value in zip(_COUNTERS, self._counters, strict=True)}

    def note(self, *, fps: float | None = None, **counters: int) -> None:
        """Write counters by name, and the rate (writer only)."""
        for name, value in counters.items():
            self._counters[_COUNTERS.index(name)] = value
        if fps is not None:
            self._measures[0] = fps

    def write(
        self,
        rgb: NDArray[np.uint8],
        depth_m: NDArray[np.float32] | None,
        *,
        stamp_s: float,
        t_dev_s: float,
        skew_s: float,
        number: int,
        alarms: int,
    ) -> int:
        """Publish one image (writer only) and return its sequence number."""
        seq = self.latest + 1
        integers, floats, pixels, depth = self._slots[seq % SLOTS]
        integers[0] = seq
        integers[2:4] = alarms, number
        floats[:3] = stamp_s, t_dev_s, skew_s
        pixels[:] = rgb
        if depth is not None:
            depth[:] = np.nan if depth_m is None else depth_m
        integers[1] = seq
        self._counters[1] = alarms
        self._counters[0] = seq
        return seq

    def newest(self) -> RingFrame | None:
        """Copy out the newest image, or return None when there is none yet."""
        for _ in range(100):
            seq = self.latest
            if seq == 0:
                return None
            integers, floats, pixels, depth = self._slots[seq % SLOTS]
            frame = RingFrame(
                seq=seq,
                rgb=pixels.copy(),
                depth_m=None if depth is None else depth.copy(),
                stamp_s=float(floats[0]),
                t_dev_s=float(floats[1]),
                skew_s=float(floats[2]),
                alarms=int(integers[2]),
                number=int(integers[3]),
            )
            if integers[0] == seq and integers[1] == seq:
                return frame
        return None

    def newest_stamp(self) -> tuple[float, float] | None:
        """Return stamp and skew [s] of the newest image without copying it, or None when there is none yet."""
        seq = self.latest
        return None if seq == 0 else (float(self._slots[seq % SLOTS][1][0]), float(self._slots[seq % SLOTS][1][2]))

    def close(self) -> None:
        """Detach; the arrays handed out were copies and stay valid."""
        del self._slots, self._counters, self._measures
        self._memory.close()

    def unlink(self) -> None:
        """Free the memory (by whoever made the ring)."""
        self._memory.unlink()

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Detach."""
        self.close()

    def _slot(
        self, at: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8], NDArray[np.float32] | None]:
        buffer, (height, width) = self._memory.buf, self._shape
        depth_at = at + _round(_SLOT_HEAD + height * width * 3)
        return (
            np.ndarray(4, np.int64, buffer, at),
            np.ndarray(4, np.float64, buffer, at + 64),
            np.ndarray((height, width, 3), np.uint8, buffer, at + _SLOT_HEAD),
            np.ndarray((height, width), np.float32, buffer, depth_at) if self._depth else None,
        )


def _round(size: int) -> int:
    return -(-size // 64) * 64
