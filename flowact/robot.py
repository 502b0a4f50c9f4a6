"""Where the robot is in an image: by its segment, or without one, from depth and from where the hand was measured.

The hand's place is known from the joints. What is seen there is the gripper; what hangs together with it in space,
upwards from the wrist and on as far as it goes, is the arm. Things on the table keep apart from it, because nothing
below the wrist is taken that is not right under it.
"""

from __future__ import annotations

import numpy as np

from cascade.contracts import CameraImage
from flowact.patches import patches_of
from flowact.rigid import Bools, Floats
from flowact.scene import robot_mask

COLUMN_M, BELOW_M, WRIST_M = 0.06, 0.02, 0.08  # the gripper: radius, below and above the tool centre
SHOULDER_M = 0.25  # farther than this from the hand, level, the arm may come down, but ...
CLEAR_M = 0.06  # ... not as low as this above what stands the lowest
LINK_M = 0.25  # something as large as this that moves above the hand is a link of the arm
STILL = 0.15  # share of a patch that looks different at some time, below which it is furniture
FOOT_M = 0.01  # what is lower than this is what things stand on
MOVED = 0.3  # share of it that has to look different at some time in the plan
VOXEL_M = 0.02  # parts of the arm less than this apart hang together
REACH_M = 1.0
GRIPPER_M = 0.11  # what is nearer to the tool centre moves with the hand


def robot_of(image: CameraImage, hand_m: Floats, *, by_segment: bool, moved: Bools | None = None) -> Bools:
    """Return the (H, W) mask of the robot; `by_segment` where the camera names it, else from depth and the hand.

    Args:
        image: RGB-D image with a calibrated camera.
        hand_m: (3,) the measured tool centre.
        by_segment: whether the camera's segmentation may be used.
        moved: (H, W) camera pixels that change in a plan, where there is one: links that something hides the
            connection of are found by it.
    """
    if by_segment and (named := robot_mask(image)).any():
        return named
    return robot_by_depth(image, hand_m, moved)


def gripper_of(image: CameraImage, hand_m: Floats, *, by_segment: bool) -> Bools:
    """Return the (H, W) mask of the gripper, empty when it does not show."""
    if by_segment and image.segmentation is not None and "gripper" in image.segment_names:
        return np.asarray(image.mask("gripper"), dtype=bool)
    points = image.points_m()
    with np.errstate(invalid="ignore"):
        near = np.linalg.norm(points - hand_m, axis=-1) < GRIPPER_M
    return np.asarray(near & robot_by_depth(image, hand_m), dtype=bool)


def robot_by_depth(image: CameraImage, hand_m: Floats, moved: Bools | None = None) -> Bools:
    """Return the (H, W) mask of the arm whose tool centre is at (3,)."""
    from scipy import ndimage

    points_m = image.points_m()
    away = points_m - hand_m
    with np.errstate(invalid="ignore"):
        level = np.linalg.norm(away[..., :2], axis=-1)
        inside = np.isfinite(away).all(axis=-1) & (np.abs(away).max(axis=-1) < REACH_M)
        column = inside & (level < COLUMN_M) & (away[..., 2] > -BELOW_M) & (away[..., 2] < WRIST_M)
        near = inside & (level < SHOULDER_M * 2)
        ground = float(np.percentile(away[near, 2], 10)) if near.any() else -np.inf
        far = (level > SHOULDER_M) & (away[..., 2] > np.maximum(-0.5 * level, ground + CLEAR_M))
        may = inside & (far | column | (away[..., 2] > WRIST_M))
    if not may.any():
        return np.zeros(may.shape, dtype=bool)
    index = np.floor((away[may] + REACH_M) / VOXEL_M).astype(int) + 1
    size = int(2 * REACH_M / VOXEL_M) + 3
    filled = np.zeros((size, size, size), dtype=bool)
    filled[tuple(index.T)] = True
    labels, count = ndimage.label(filled, np.ones((3, 3, 3), dtype=bool))
    of_points = np.zeros(may.shape, dtype=np.int64)
    of_points[may] = labels[tuple(index.T)]
    ours = np.zeros(count + 1, dtype=bool)
    ours[of_points[column]] = True
    ours[0] = False
    if moved is not None:
        for label in np.unique(of_points[may & moved & ~ours[of_points]]):
            part = of_points == label
            size_m = float(np.ptp(away[part], axis=0).max())
            ours[label] |= size_m > LINK_M and float(moved[part].mean()) > MOVED
    arm = ours[of_points] & may & ~_standing(image, away, inside, ground, moved)
    return np.asarray(column | arm, dtype=bool)


def _standing(image: CameraImage, away: Floats, inside: Bools, ground: float, moved: Bools | None) -> Bools:
    """Return what stands on the ground or keeps still: furniture that the arm is next to."""
    with np.errstate(invalid="ignore"):
        patches = patches_of(image.rgb, away, inside & (away[..., 2] > ground + FOOT_M))
    flat = patches.ravel()
    low = inside & (patches > 0)
    lowest = np.full(patches.max() + 1, np.inf)
    np.minimum.at(lowest, patches[low], away[low, 2])
    stands = lowest < ground + CLEAR_M
    if moved is not None:
        stands |= np.bincount(flat, weights=moved.ravel()) / np.maximum(np.bincount(flat), 1) < STILL
    stands[0] = False
    return np.asarray(stands[patches], dtype=bool)
