"""Which imagined moment belongs to which executed one: exact dynamic time warping of paths, or of the pictures.

The method is Sakoe and Chiba, "Dynamic programming algorithm optimization for spoken word recognition", 1978, without
a band: paths here are tens of frames by hundreds of steps, so the exact answer costs milliseconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from cascade.contracts.keyframes import OPENING_WEIGHT_M

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
THUMBNAIL_PX = 32


def warp(imagined: Floats, executed: Floats, *, open_end: bool = False) -> tuple[Indices, Indices]:
    """Return the cheapest monotone pairing of two paths as index arrays (i into imagined, j into executed).

    Args:
        imagined: (T, D) points.
        executed: (N, D) points.
        open_end: let the execution stop anywhere in the imagined path (it was cut off), instead of at its end.

    Returns:
        (i, j), both (L,), from (0, 0) to (T-1, N-1), each step advancing one or both by exactly 1; with `open_end` the
        last i is the one that explains the execution best.

    Raises:
        DataError: a path is empty, not finite, or the two have different widths.
    """
    if imagined.ndim != 2 or executed.ndim != 2 or imagined.shape[1:] != executed.shape[1:]:
        raise DataError(f"warp: expected two paths of one width, found {imagined.shape} and {executed.shape}.")
    if not len(imagined) or not len(executed):
        raise DataError("warp: expected at least one point on each path, found an empty one.")
    if not (np.isfinite(imagined).all() and np.isfinite(executed).all()):
        raise DataError("warp: expected finite points, found NaN or infinite ones.")
    total = _accumulate(np.stack([np.linalg.norm(executed - point, axis=1) for point in imagined]))
    # Ties go to the latest frame, so that a plan that ends standing still is shown to its end.
    last = len(imagined) - 1 - int(total[::-1, -1].argmin()) if open_end else len(imagined) - 1
    return _trace(total, last)


def _accumulate(cost: Floats) -> Floats:
    total = np.empty_like(cost)
    total[0] = np.cumsum(cost[0])
    for i in range(1, len(cost)):
        row, above = cost[i].tolist(), total[i - 1].tolist()
        best = above[0] + row[0]
        line = [best]
        for j in range(1, len(row)):
            best = min(best, above[j], above[j - 1]) + row[j]
            line.append(best)
        total[i] = line
    return total


def _trace(total: Floats, last: int) -> tuple[Indices, Indices]:
    i, j = last, total.shape[1] - 1
    pairs = [(i, j)]
    while i or j:
        if not i:
            j -= 1
        elif not j:
            i -= 1
        else:
            moves = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
            i, j = min(moves, key=lambda move: total[move])
        pairs.append((i, j))
    path = np.array(pairs[::-1], dtype=np.int64)
    return path[:, 0], path[:, 1]


def frame_of_each_step(
    imagined_m: Floats,
    executed_m: Floats,
    *,
    imagined_opening: Floats | None = None,
    executed_opening: Floats | None = None,
    open_end: bool = False,
) -> Indices:
    """Return (N,) index of the imagined frame shown beside each executed step; indices do not decrease.

    Gripper openings, where both are known, count as a fourth coordinate, since a hand that stands still while it
    closes has no path to align by.

    Args:
        imagined_m: (T, 3) imagined end-effector path.
        executed_m: (N, 3) measured end-effector path.
        imagined_opening: (T,) opening 0..1 in the imagined frames.
        executed_opening: (N,) measured opening 0..1.
        open_end: the execution was cut off before the plan's end.
    """
    a, b = imagined_m, executed_m
    if imagined_opening is not None and executed_opening is not None:
        both = np.isfinite(imagined_opening).all() and np.isfinite(executed_opening).all()
        if both and len(imagined_opening) == len(a) and len(executed_opening) == len(b):
            a = np.column_stack([a, OPENING_WEIGHT_M * imagined_opening])
            b = np.column_stack([b, OPENING_WEIGHT_M * executed_opening])
    return _nearest_partners(a, b, open_end=open_end)


def frame_of_each_picture(
    imagined: NDArray[np.uint8], executed: NDArray[np.uint8], *, open_end: bool = False
) -> Indices:
    """Return (N,) index of the imagined frame shown beside each executed picture, when no path was read in the plan.

    Args:
        imagined: (T, H, W, 3) frames of the plan.
        executed: (N, H, W, 3) pictures of the same size, through the same camera.
        open_end: the execution was cut off before the plan's end.
    """
    return _nearest_partners(_thumbnails(imagined), _thumbnails(executed), open_end=open_end)


def _thumbnails(frames: NDArray[np.uint8]) -> Floats:
    import cv2

    small = [cv2.resize(frame, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(small).reshape(len(frames), -1).astype(np.float64)


def _nearest_partners(a: Floats, b: Floats, *, open_end: bool) -> Indices:
    i, j = warp(a, b, open_end=open_end)
    frames = np.empty(len(b), dtype=np.int64)
    for step in range(len(b)):
        candidates = i[j == step]
        distances = np.linalg.norm(a[candidates] - b[step], axis=1)
        frames[step] = candidates[int(distances.argmin())]
    frames[-1] = i[-1]
    return frames


def by_time_fraction(frames: int, steps: int) -> Indices:
    """Return (N,) frame index per step when no path is known: both run evenly from first to last."""
    return np.rint(np.linspace(0, frames - 1, steps)).astype(np.int64)
