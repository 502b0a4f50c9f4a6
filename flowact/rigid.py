"""Pinhole projection and rigid motion: the geometry everything else in this package rests on. Numpy only.

Camera axes are OpenCV's (x right, y down, z forward); `T_base_cam` maps camera points to the base frame. Pixel
coordinates are continuous: the centre of pixel (row i, column j) is (u, v) = (j + 0.5, i + 0.5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def project(K: Floats, T_base_cam: Floats, points_m: Floats) -> tuple[Floats, Floats]:
    """Return ((..., 2) pixels, (...,) z-depth [m]) of (..., 3) base-frame points.

    Points at or behind the camera get NaN pixels.
    """
    R, t = T_base_cam[:3, :3], T_base_cam[:3, 3]
    camera = (points_m - t) @ R
    z = camera[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        uv = camera[..., :2] / np.where(z > 1e-9, z, np.nan)[..., None]
    return uv @ K[:2, :2].T + K[:2, 2], z


def backproject(K: Floats, T_base_cam: Floats, uv: Floats, depth_m: Floats) -> Floats:
    """Return (..., 3) base-frame points of (..., 2) pixels at (...,) z-depth [m]; the inverse of `project`."""
    rays = (uv - K[:2, 2]) @ np.linalg.inv(K[:2, :2]).T
    camera = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1) * np.asarray(depth_m)[..., None]
    return np.asarray(camera @ T_base_cam[:3, :3].T + T_base_cam[:3, 3], dtype=np.float64)


def view_ray(T_base_cam: Floats, point_m: Floats) -> Floats:
    """Return the unit vector from the camera's centre to a base-frame point (3,)."""
    ray = point_m - T_base_cam[:3, 3]
    return np.asarray(ray / np.linalg.norm(ray), dtype=np.float64)


def rotation_about(axis: Floats, angle_rad: Floats | float) -> Floats:
    """Return rotation matrices (..., 3, 3) about a unit `axis` (3,) by `angle_rad` (...,) (Rodrigues)."""
    angle = np.asarray(angle_rad, dtype=np.float64)[..., None, None]
    x, y, z = axis
    S = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * S + (1.0 - np.cos(angle)) * (S @ S), dtype=np.float64)


def fit_rigid(source: Floats, target: Floats, weights: Floats | None = None) -> Floats:
    """Return the (4, 4) rigid transform that maps (N, 3) `source` best onto `target` in (weighted) least squares.

    Kabsch's solution by SVD. With all points on a line the turn about that line is arbitrary.

    Raises:
        DataError: shapes differ, or fewer than three points have weight.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise DataError(f"fit_rigid: expected two equal (N, 3) arrays, found {source.shape} and {target.shape}.")
    w = np.ones(len(source)) if weights is None else weights
    if int((w > 0).sum()) < 3:
        raise DataError(f"fit_rigid: expected at least 3 points with weight, found {int((w > 0).sum())}.")
    w = w / w.sum()
    a, b = w @ source, w @ target
    U, _, Vt = np.linalg.svd((source - a).T @ ((target - b) * w[:, None]))
    R = Vt.T @ np.diag([1.0, 1.0, np.sign(np.linalg.det(Vt.T @ U.T))]) @ U.T
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, b - R @ a
    return T


def fit_rigid_robust(
    source: Floats, target: Floats, *, tolerance_m: float = 0.01, trials: int = 64, seed: int = 0
) -> tuple[Floats, Bools]:
    """Return ((4, 4) transform, (N,) inliers) in spite of outliers: RANSAC over triples, then refits on the inliers.

    Raises:
        DataError: shapes differ or fewer than three points agree.
    """
    rng = np.random.default_rng(seed)
    best = np.zeros(len(source), dtype=bool)
    for _ in range(trials):
        chosen = rng.choice(len(source), 3, replace=False) if len(source) >= 3 else np.arange(len(source))
        inliers = _residuals(fit_rigid(source[chosen], target[chosen]), source, target) < tolerance_m
        if inliers.sum() > best.sum():
            best = inliers
    for _ in range(3):
        if best.sum() < 3:
            raise DataError(
                f"fit_rigid_robust: expected 3 points moving together within {tolerance_m} m, found {int(best.sum())}."
            )
        T = fit_rigid(source[best], target[best])
        best = _residuals(T, source, target) < tolerance_m
    return T, best


def _residuals(T: Floats, source: Floats, target: Floats) -> Floats:
    return np.asarray(np.linalg.norm(source @ T[:3, :3].T + T[:3, 3] - target, axis=1), dtype=np.float64)


def similarity_inliers(
    source_px: Floats, target_px: Floats, *, tolerance_px: float = 1.0, trials: int = 48, seed: int = 0
) -> Bools:
    """Return which of (N, 2) points move by one common shift, turn and scale (2-D RANSAC over pairs, all at once).

    With fewer than three points all are kept: there is nothing to disagree.
    """
    count = len(source_px)
    if count < 3:
        return np.ones(count, dtype=bool)
    rng = np.random.default_rng(seed)
    a = source_px[:, 0] + 1j * source_px[:, 1]
    b = target_px[:, 0] + 1j * target_px[:, 1]
    first = rng.integers(0, count, trials)
    second = (first + rng.integers(1, count, trials)) % count
    gap = a[second] - a[first]
    usable = np.abs(gap) > 1.0
    ratio = np.where(usable, (b[second] - b[first]) / np.where(usable, gap, 1.0), 1.0)
    shift = b[first] - ratio * a[first]
    inliers = np.abs(ratio[:, None] * a[None, :] + shift[:, None] - b[None, :]) < tolerance_px
    return np.asarray(inliers[int(inliers.sum(axis=1).argmax())], dtype=bool)
