"""What a camera shows now: the object's mask and surface in 3-D, and the height of what it stands on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade.contracts import CameraImage, DataError, ImageTransform
from flowact.rigid import Bools, Floats, backproject

ROBOT_SEGMENTS = ("robot", "arm", "gripper", "hand")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectView:
    """The visible surface of an object.

    Attributes:
        uv: (M, 2) camera pixels of the mask that have depth.
        points_m: (M, 3) their points in the base frame.
        half_width_m: half the width of the mask across its thinner direction, at the object's depth.
        ray: (3,) unit vector from the camera to the surface's centre.
    """

    uv: Floats
    points_m: Floats
    half_width_m: float
    ray: Floats

    @property
    def surface_m(self) -> Floats:
        """(3,) centre of the visible surface (median, so that a few pixels of background do not matter)."""
        return np.asarray(np.median(self.points_m, axis=0), dtype=np.float64)

    @property
    def centre_m(self) -> Floats:
        """(3,) estimated middle of the object: the visible surface pushed back along the view by the half-width."""
        return self.surface_m + self.half_width_m * self.ray


def base_pose(image: CameraImage) -> Floats:
    """Return `T_base_cam` of an image; raises DataError when the camera is not calibrated to the arm."""
    if image.T_base_cam is None:
        raise DataError("flow: expected T_base_cam, found a camera without it.", "Calibrate the camera to the arm.")
    return image.T_base_cam


def depth_of(image: CameraImage) -> Floats:
    """Return (H, W) depth [m]; raises DataError when the image has none."""
    if image.depth_m is None:
        raise DataError("flow: expected depth, found an image without it.", "Use an RGB-D camera, or recipe unipi.")
    return np.asarray(image.depth_m, dtype=np.float64)


def object_mask(image: CameraImage, segment: str) -> Bools:
    """Return the (H, W) mask of the object; raises DataError when the image has no such segment or none of it shows."""
    mask = np.asarray(image.mask(segment), dtype=bool)
    if not mask.any():
        raise DataError(
            f"flow lost: expected to see segment {segment!r}, found no pixel of it.",
            "Move what hides it, or use another camera.",
        )
    return mask


def robot_mask(image: CameraImage) -> Bools:
    """Return the (H, W) mask of the robot, empty when segmentation does not name it."""
    ids = [i for name in ROBOT_SEGMENTS for i in image.segment_names.get(name, ())]
    if image.segmentation is None or not ids:
        return np.zeros(image.rgb.shape[:2], dtype=bool)
    return np.asarray(np.isin(image.segmentation, ids), dtype=bool)


def to_plan(mask: Bools, transform: ImageTransform) -> Bools:
    """Return a camera mask as plan pixels see it (nearest neighbour)."""
    rows, columns, inside = _camera_indices(transform, mask.shape[0], mask.shape[1])
    return np.asarray(mask[rows, columns] & inside, dtype=bool)


def to_camera_mask(mask: Bools, transform: ImageTransform, height: int, width: int) -> Bools:
    """Return a mask of plan pixels as camera pixels see it (nearest neighbour)."""
    v, u = np.mgrid[:height, :width] + 0.5
    x = (u - transform.crop_px[0]) * transform.scale[0]
    y = (v - transform.crop_px[1]) * transform.scale[1]
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    rows = np.clip(y.astype(int), 0, mask.shape[0] - 1)
    columns = np.clip(x.astype(int), 0, mask.shape[1] - 1)
    return np.asarray(mask[rows, columns] & inside, dtype=bool)


def _camera_indices(transform: ImageTransform, height: int, width: int) -> tuple[Floats, Floats, Bools]:
    w, h = transform.size_px
    v, u = np.mgrid[:h, :w] + 0.5
    at = transform.to_camera(np.stack([u, v], axis=-1))
    columns, rows = np.floor(at[..., 0]).astype(int), np.floor(at[..., 1]).astype(int)
    inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
    return np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1), inside


def points_at(image: CameraImage, uv: Floats) -> Floats:
    """Return (N, 3) base-frame points of camera pixels (N, 2), NaN where there is no depth."""
    depth = depth_of(image)
    rows = np.clip(uv[:, 1].astype(int), 0, depth.shape[0] - 1)
    columns = np.clip(uv[:, 0].astype(int), 0, depth.shape[1] - 1)
    z = depth[rows, columns]
    return backproject(image.K, base_pose(image), uv, np.where(z > 0, z, np.nan))


def view_object(image: CameraImage, mask: Bools) -> ObjectView:
    """Return the surface under a (H, W) mask.

    Raises:
        DataError: the mask is empty or has no depth.
    """
    rows, columns = np.nonzero(mask)
    uv = np.stack([columns + 0.5, rows + 0.5], axis=1)
    points = points_at(image, uv)
    valid = np.isfinite(points).all(axis=1)
    if not valid.any():
        found = "NaN only" if len(uv) else "an empty mask"
        raise DataError(f"flow lost: expected depth over the object's mask, found {found}.")
    uv, points = uv[valid], points[valid]
    T = base_pose(image)
    depth = float((np.median(points, axis=0) - T[:3, 3]) @ T[:3, 2])
    spread = np.linalg.eigvalsh(np.cov(uv.T) + np.eye(2) / 12) if len(uv) > 2 else np.array([0.1, 0.1])
    half_px = float(np.sqrt(max(spread[0], 1 / 12)) * 2.0)  # a disc's edge lies at two standard deviations
    ray = np.median(points, axis=0) - T[:3, 3]
    return ObjectView(
        uv=uv, points_m=points, half_width_m=half_px * depth / float(image.K[0, 0]), ray=ray / np.linalg.norm(ray)
    )


def support_height(image: CameraImage, without: Bools, near_m: Floats) -> float:
    """Return the height [m] of the largest level surface within reach of `near_m`, seen outside a mask.

    The most common height (bins of 5 mm) among level pixels below the object, within half a metre of it.

    Raises:
        DataError: the image has no depth there.
    """
    points = image.points_m()
    level = np.full(points.shape[:2], False)
    with np.errstate(invalid="ignore"):
        slope = np.maximum(
            np.abs(points[1:-1, 2:, 2] - points[1:-1, :-2, 2]), np.abs(points[2:, 1:-1, 2] - points[:-2, 1:-1, 2])
        )
        level[1:-1, 1:-1] = slope < 0.004
        close = np.linalg.norm(points[..., :2] - near_m[:2], axis=-1) < 0.5
        below = points[..., 2] < near_m[2] + 0.02
    z = points[level & close & below & ~without, 2]
    if not len(z):
        z = points[np.isfinite(points[..., 2]) & ~without, 2]
        if not len(z):
            raise DataError("flow lost: expected depth around the object, found none.")
        return float(np.percentile(z, 5))
    edges = np.arange(z.min() - 0.0025, z.max() + 0.0075, 0.005)
    counts, edges = np.histogram(z, bins=edges)
    best = int(counts.argmax())
    return float(np.median(z[(z >= edges[best]) & (z <= edges[best + 1])]))
