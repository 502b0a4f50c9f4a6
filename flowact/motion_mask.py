"""Finding the manipulated object without a segmentation: what moves in the plan and is not the arm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from flowact.rigid import Bools


def motion_mask(frames: NDArray[np.uint8], robot: Bools, *, threshold: float = 24.0, smallest_px: int = 6) -> Bools:
    """Return the (H, W) mask in frame 0 of what has left its place by the last frame.

    A pixel counts when its colour differs between frame 0 and all of the last quarter of the plan, and when it does not
    belong to the robot in frame 0. Of the patches found, one that stood out from its surroundings more at first than at
    last is where the object was; the others are where it or the arm came to.

    Args:
        frames: (T, H, W, 3) uint8.
        robot: (H, W) mask of the robot in frame 0; may be empty.
        threshold: least change of colour, 0..255.
        smallest_px: smaller patches are noise.

    Raises:
        DataError: nothing but the robot moves.
    """
    import cv2

    last = frames[-max(2, len(frames) // 4) :].astype(np.float32)
    change = np.abs(last - frames[0].astype(np.float32)).max(axis=-1).min(axis=0)
    grown = cv2.dilate(robot.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    moved = (change > threshold) & ~grown
    count, labels, stats, _ = cv2.connectedComponentsWithStats(moved.astype(np.uint8), connectivity=8)
    patches = [labels == i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= smallest_px]
    if not patches:
        raise DataError(
            "flow lost: expected something besides the arm to move in the plan, found nothing.",
            "Use `mask: segment` where the camera has a segmentation.",
        )
    left = [p for p in patches if _contrast(frames[0], p) > _contrast(frames[-1], p)]
    return max(left or patches, key=lambda p: int(p.sum()))


def _contrast(frame: NDArray[np.uint8], patch: Bools) -> float:
    """Return how much a patch differs from what is around it: an object does, the ground that it left does not."""
    import cv2

    near = cv2.dilate(patch.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~patch
    if not near.any():
        return 0.0
    inside, outside = frame[patch].astype(np.float64), frame[near].astype(np.float64)
    spread = outside.std(axis=0).mean() + 5.0
    return float(
        np.linalg.norm(inside.mean(axis=0) - outside.mean(axis=0)) / spread + inside.std(axis=0).mean() / spread
    )
