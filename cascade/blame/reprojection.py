"""Does the camera stand where its calibration says? Points of the known scene, reprojected and looked for.

The scene as the calibration has it gives an image with depth. Its corners are lifted to the base frame, projected with
the calibrated pose (which is where they lie in that image) and looked for in what the camera really saw. A camera that
has moved shows all of them elsewhere; its pose follows from the same points (PnP with RANSAC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import CameraImage

Floats = NDArray[np.float64]
ENLARGE_TO_PX = 512
MOST_POINTS = 240
LEAST_POINTS = 12
RETURN_PX = 0.35  # largest forward-backward error of a point, in pixels of the camera image
FLAT = 0.03  # a point on a depth edge has no depth of its own
REFERENCE_WIDTH_PX = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprojection:
    """What was found.

    Attributes:
        shift_px: median distance between where points should be and where they are, per 128 px of image width.
        points: how many were found again.
        moved_m: how far the camera is from its calibrated place by PnP, None where that cannot be told.
        turned_rad: the same for its direction.
    """

    shift_px: float
    points: int
    moved_m: float | None
    turned_rad: float | None


def reproject(reference: CameraImage, seen: NDArray[np.uint8]) -> Reprojection | None:
    """Compare the scene as calibrated with an image of it.

    Args:
        reference: with depth and T_base_cam.
        seen: (H, W, 3) uint8 of the same size.

    Returns:
        None when too few points are found again to say anything.
    """
    there = _found_again(reference.rgb, seen)
    if there is None:
        return None
    uv, found = there
    shift = np.linalg.norm(found - uv, axis=1)
    moved = turned = None
    if reference.depth_m is not None:
        depth, smooth = _depth_at(np.asarray(reference.depth_m, dtype=np.float64), uv)
        moved, turned = _pose(uv[smooth], found[smooth], depth[smooth], np.asarray(reference.K))
    per = REFERENCE_WIDTH_PX / reference.rgb.shape[1]
    return Reprojection(shift_px=float(np.median(shift)) * per, points=len(uv), moved_m=moved, turned_rad=turned)


def _found_again(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[Floats, Floats] | None:
    import cv2

    scale = max(1, round(ENLARGE_TO_PX / a.shape[1]))
    size = (a.shape[1] * scale, a.shape[0] * scale)
    first, second = (
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_CUBIC) for image in (a, b)
    )
    corners: Any = cv2.goodFeaturesToTrack(first, MOST_POINTS, 0.004, 2.5 * scale)
    if corners is None or len(corners) < LEAST_POINTS:
        return None
    window = (6 * scale + 1, 6 * scale + 1)
    there, ok, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, corners.copy(), winSize=window, maxLevel=3)
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(second, first, there, there.copy(), winSize=window, maxLevel=3)
    gap = np.linalg.norm((back - corners).reshape(-1, 2), axis=1) / scale
    good = (ok.ravel() > 0) & (ok_back.ravel() > 0) & (gap < RETURN_PX)
    if good.sum() < LEAST_POINTS:
        return None
    at = (corners.reshape(-1, 2)[good] + 0.5) / scale
    found = (there.reshape(-1, 2)[good] + 0.5) / scale
    return np.asarray(at, dtype=np.float64), np.asarray(found, dtype=np.float64)


def _depth_at(depth_m: Floats, uv: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    height, width = depth_m.shape
    columns = np.clip(np.floor(uv[:, 0]).astype(int), 1, width - 2)
    rows = np.clip(np.floor(uv[:, 1]).astype(int), 1, height - 2)
    around = np.stack([depth_m[rows + i, columns + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    with np.errstate(invalid="ignore"):
        smooth = np.isfinite(around).all(axis=0) & (np.ptp(around, axis=0) < FLAT * np.abs(around[4]))
    return around[4], smooth


def _pose(uv: Floats, found: Floats, depth: Floats, K: Floats) -> tuple[float | None, float | None]:
    """Return how far the camera has moved [m] and turned [rad] from where the points were lifted."""
    import cv2

    if len(uv) < LEAST_POINTS:
        return None, None
    points = np.column_stack([uv, np.ones(len(uv))]) @ np.linalg.inv(K).T * depth[:, None]
    try:
        done, turn, shift, inliers = cv2.solvePnPRansac(
            points, found, K, np.zeros(4), reprojectionError=1.0, iterationsCount=200, flags=cv2.SOLVEPNP_ITERATIVE
        )
    except cv2.error:
        return None, None
    if not done or inliers is None or len(inliers) < LEAST_POINTS:
        return None, None
    R = np.asarray(cv2.Rodrigues(turn)[0], dtype=np.float64)
    centre = -R.T @ np.asarray(shift, dtype=np.float64).ravel()
    return float(np.linalg.norm(centre)), float(np.linalg.norm(turn))
