"""Which frames of a demonstration a plan shows: evenly spaced along what happens, not along the clock.

Frames even in time skip the instant of a grasp (descend, close and lift can pass within eight control steps) and waste
themselves on pauses. Here progress is the distance the hand has gone plus a distance for every change of its opening,
so that the frames of a close event are always kept and phases of different demonstrations line up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OPENING_WEIGHT_M = 0.30  # a full opening or closing counts as this much way, so that a grasp gets its frames
STILL_WEIGHT_M = 0.0005  # so that progress always increases, one step of standing still counts this much


def path_progress(position_m: NDArray[np.float64], opening: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N,) progress in metres, 0 at the first of N steps, strictly increasing.

    Args:
        position_m: (N, 3) measured end-effector positions.
        opening: (N,) measured gripper opening 0..1.
    """
    way = np.linalg.norm(np.diff(position_m, axis=0), axis=1)
    steps = way + OPENING_WEIGHT_M * np.abs(np.diff(opening)) + STILL_WEIGHT_M
    return np.concatenate([[0.0], np.cumsum(steps)])


def keyframe_indices(
    position_m: NDArray[np.float64], opening: NDArray[np.float64], count: int, *, start: int = 0
) -> NDArray[np.int64]:
    """Return `count` + 1 indices from `start` to the last step, evenly spaced in progress.

    Indices do not decrease; they repeat only when fewer than `count` + 1 steps are left.
    """
    progress = path_progress(position_m[start:], opening[start:])
    wanted = np.linspace(0.0, progress[-1], count + 1)
    nearest: NDArray[np.int64] = np.abs(progress[None, :] - wanted[:, None]).argmin(axis=1).astype(np.int64)
    return nearest + start
