"""Finding the manipulated object without a segmentation: what moves in the plan and is not the arm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from flowact.rigid import Bools


def motion_mask(frames: NDArray[np.uint8], robot: Bools, *, threshold: float = 24.0, smallest_px: int = 6) -> Bools:
    """Return the (H, W) mask in frame 0 of what has left its place by the last frame.

    A pixel counts when its colour differs between frame 0 and most of the last quarter of the plan, and when it does
    not belong to the robot in frame 0. What the arm merely covers at the end is told apart by coming back: the darkest
    change over those frames is taken, so that a pixel covered in some of them only does not count.

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
    if count < 2 or stats[1:, cv2.CC_STAT_AREA].max() < smallest_px:
        raise DataError(
            "flow lost: expected something besides the arm to move in the plan, found nothing.",
            "Use `mask: segment` where the camera has a segmentation.",
        )
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), dtype=bool)
