"""Which frames of a video a plan shows when nothing but the video is known: evenly spaced along what changes in it.

Demonstrations are spaced along the way of the hand, see `cascade.contracts.keyframes`. A video without labels has no
such way; the change of its image stands in for it. Pauses change nothing and get few frames, motion gets many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELL_PX = 4  # images are compared in cells of this size: what a codec does to single pixels is no change
NOISE = 2.0  # of 255: a cell that differs by less has not changed
STILL = 0.01  # so that progress always increases, a step without change counts this much of 255


def video_progress(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (N,) progress of a video (N, H, W, 3), 0 at its first frame, strictly increasing.

    A step counts what its cells differ by, in parts of 255 of the whole image.
    """
    count, height, width, _ = frames.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    cells = frames[:, : rows * CELL_PX, : columns * CELL_PX].reshape(count, rows, CELL_PX, columns, CELL_PX, 3)
    means = cells.mean(axis=(2, 4), dtype=np.float32)
    change = np.abs(np.diff(means, axis=0))
    steps = np.where(change > NOISE, change, 0).mean(axis=(1, 2, 3), dtype=np.float64) + STILL
    return np.concatenate([[0.0], np.cumsum(steps)])


def progress_indices(
    progress: NDArray[np.float64], count: int, *, start: int = 0, share: float = 1.0
) -> NDArray[np.int64]:
    """Return `count` + 1 indices from `start` on, evenly spaced over a share of what is left of `progress` (N,).

    Indices do not decrease; they repeat only when fewer than `count` + 1 frames are left, or where the image jumps.
    """
    rest = progress[start:]
    wanted = np.linspace(rest[0], rest[0] + share * (rest[-1] - rest[0]), count + 1)
    nearest: NDArray[np.int64] = np.abs(rest[None, :] - wanted[:, None]).argmin(axis=1).astype(np.int64)
    return nearest + start
