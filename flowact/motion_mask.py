"""Finding the manipulated object without a segmentation: what leaves its place in the plan and is not the arm.

Of a plan only colours are known, of the present image also depth. So the present image is cut into patches of like
colour and unbroken depth that stand out of what carries them, and each is judged by how much of it looks different when
the plan is over. An arm that comes to rest in front changes part of large things; what has been moved changes whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import CameraImage, DataError, ImageTransform
from flowact.patches import patches_of
from flowact.rigid import Bools, Floats
from flowact.scene import to_camera_mask, to_plan

STANDS_OUT_M = 0.008  # above the table
ARM_M = 0.4  # things this far from the hand are half as likely meant
CHANGED = 0.45  # share of an object's pixels that look different at the end
FADES_PX = 30.0  # ... or counts less by e every so many pixels more
NEAR_PX = 10.0  # what is handled is seen within this of the hand's way, in plan pixels
SMALLEST_PX = 4
JOINED_M = 0.03  # patches of one thing are this close, ...
JOINED_CHANGED = 0.7  # ... and have both gone
COVERED = 22.0  # colours of the robot are met within this (Lab)


def changed_at_end(frames: NDArray[np.uint8], *, threshold: float = 24.0) -> Bools:
    """Return (H, W) pixels whose colour differs between frame 0 and both of the last two frames."""
    last = frames[-2:].astype(np.float32)
    return np.asarray(np.abs(last - frames[0].astype(np.float32)).max(axis=-1).min(axis=0) > threshold, dtype=bool)


def changed_ever(frames: NDArray[np.uint8], *, threshold: float = 24.0) -> Bools:
    """Return (H, W) pixels whose colour differs from frame 0 at some time."""
    later = frames[1:].astype(np.float32)
    return np.asarray(np.abs(later - frames[0].astype(np.float32)).max(axis=(0, -1)) > threshold, dtype=bool)


def motion_mask(
    frames: NDArray[np.uint8],
    image: CameraImage,
    transform: ImageTransform,
    robot: Bools,
    support_m: float,
    hand_m: Floats,
    hand_px: Floats | None,
) -> Bools:
    """Return the (H, W) camera mask of the object that a plan moves.

    Args:
        frames: (T, h, w, 3) uint8 of the plan.
        image: RGB-D image that the plan was made from.
        transform: from camera to plan pixels.
        robot: (H, W) the robot's camera pixels.
        support_m: height of the table.
        hand_m: (3,) where the hand is.
        hand_px: (T, 2) where the hand is seen in the plan, plan pixels, if known.

    Raises:
        DataError: nothing but the robot moves.
    """
    import cv2

    points = image.points_m()
    size = robot.shape
    inside = to_camera_mask(np.ones(frames.shape[1:3], dtype=bool), transform, *size)
    around = cv2.dilate(robot.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    with np.errstate(invalid="ignore"):
        within = (points[..., 2] > support_m + STANDS_OUT_M) & ~around & inside
    changed = to_camera_mask(changed_at_end(frames), transform, *size)
    covered = to_camera_mask(_like_robot(frames, to_plan(robot, transform)), transform, *size)
    patches = patches_of(image.rgb, points, within)
    area = np.bincount(patches.ravel())
    share = np.bincount(patches.ravel(), weights=changed.ravel()) / np.maximum(area, 1)
    hidden = np.bincount(patches.ravel(), weights=(changed & covered).ravel()) / np.maximum(area, 1)
    smallest = max(SMALLEST_PX, 0.6 * inside.sum() / frames[0, ..., 0].size)
    able = [i for i in range(1, len(area)) if area[i] >= smallest and share[i] >= CHANGED]
    if not able:
        raise DataError(
            "flow lost: expected something besides the arm to leave its place in the plan, found nothing.",
            "Use `mask: segment` where the camera has a segmentation.",
        )
    scores = {}
    for i in able:
        rows, columns = np.nonzero(patches == i)
        near = 1.0
        if hand_px is not None:
            uv = (np.stack([columns + 0.5, rows + 0.5], axis=1) - transform.crop_px[:2]) * transform.scale
            away = float(np.linalg.norm(uv[:, None] - hand_px[None], axis=-1).min())
            near = float(np.exp(-max(away - NEAR_PX, 0.0) / FADES_PX))
        near /= 1.0 + (float(np.linalg.norm(np.median(points[patches == i], axis=0) - hand_m)) / ARM_M) ** 2
        scores[i] = share[i] * (1 - 0.6 * hidden[i]) * near * min(1.0, area[i] / (3 * smallest))
    best = max(scores, key=lambda i: scores[i])
    return _whole(patches, best, [i for i in able if share[i] >= JOINED_CHANGED], points)


def _whole(patches: NDArray[np.int64], best: int, able: list[int], points: Floats) -> Bools:
    """Return the mask of a patch with those that touch it in space and have gone as well."""
    from scipy.spatial import cKDTree

    mask = patches == best
    tree = cKDTree(points[mask])
    for i in able:
        part = patches == i
        if i != best and float(tree.query(points[part])[0].min()) < JOINED_M:
            mask |= part
    return np.asarray(mask, dtype=bool)


def _like_robot(frames: NDArray[np.uint8], robot: Bools) -> Bools:
    """Return (H, W) pixels that have one of the robot's colours at the end of the plan."""
    import cv2

    if not robot.any():
        return np.zeros(robot.shape, dtype=bool)
    lab = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2LAB) for f in (frames[0], frames[-1])]).astype(np.float64)
    own = lab[0][robot]
    order = np.argsort(own[:, 0])
    kinds = own[order[np.linspace(0, len(own) - 1, 12).round().astype(int)]]
    away = np.linalg.norm(lab[1][:, :, None] - kinds[None, None], axis=-1).min(axis=-1)
    return np.asarray(away < COVERED, dtype=bool)
