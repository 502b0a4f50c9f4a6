"""The hand in videos of several calibrated cameras: its two finger pads, found by their colours and triangulated.

Nothing is learnt, and nothing that the robot recorded is needed but what belongs to the robot itself: the colours of
its pads, and where its end effector lies between them. Triangulation is by the midpoint of view rays, the point nearest
to all of them in the least squares (Hartley and Sturm, "Triangulation", 1997).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from flowact.rigid import Bools, Floats, project

LEAST_PIXELS = 3
APART_PX = 40.0  # the other pad is nearer than this in the image
OFF_PX = 3.0  # views that disagree by more do not see the same thing


@dataclass(frozen=True, slots=True)
class Pads:
    """What the finger pads of a robot look like, and where its end effector is.

    Attributes:
        first: lowest and highest hue (0..180), saturation and value (0..255) of the pad that nothing else looks like.
        second: the same of the other one, looked for near the first.
        ee_from_middle_m: from the middle between what is seen of both pads to the end effector, base axes.
        closed_m: how far what is seen of them is apart when the gripper is closed; open_m: when it is open.
    """

    first: tuple[tuple[int, int, int], tuple[int, int, int]]
    second: tuple[tuple[int, int, int], tuple[int, int, int]]
    ee_from_middle_m: tuple[float, float, float]
    closed_m: float
    open_m: float


SAWYER = Pads(
    first=((82, 90, 110), (98, 255, 255)),
    second=((0, 0, 215), (180, 25, 255)),
    ee_from_middle_m=(-0.002, 0.0, -0.04),
    closed_m=0.0,
    open_m=0.1,
)


def read_pads(
    frames: Mapping[str, NDArray[np.uint8]], K: Mapping[str, Floats], T_base_cam: Mapping[str, Floats], pads: Pads
) -> tuple[Floats, Floats] | None:
    """Return where the hand is, (T, 3) in metres, and how open it is, (T,) 0..1, in videos (T, H, W, 3) by camera.

    Where fewer than two cameras see the pads it is interpolated; None if that is more than half of the frames.

    Raises:
        DataError: fewer than two cameras.
    """
    cameras = list(frames)
    if len(cameras) < 2:
        raise DataError(f"hand by its pads: expected two cameras or more, found {', '.join(cameras) or 'none'}.")
    first = [blobs(frames[name], *pads.first) for name in cameras]
    second = [blobs(frames[name], *pads.second, near=uv) for name, uv in zip(cameras, first, strict=True)]
    views = [(K[name], T_base_cam[name]) for name in cameras]
    one = triangulate(np.array(first), views)
    across = triangulate(np.array(second), views) - one
    if 2 * np.isfinite(across).all(axis=1).sum() < len(across):
        return None
    across = _filled(across)
    middle = _filled(one) + across / 2
    apart = np.linalg.norm(across, axis=1)
    opening = np.clip((apart - pads.closed_m) / (pads.open_m - pads.closed_m), 0.0, 1.0)
    return middle + np.asarray(pads.ee_from_middle_m), opening


def blobs(
    frames: NDArray[np.uint8], low: tuple[int, int, int], high: tuple[int, int, int], *, near: Floats | None = None
) -> Floats:
    """Return (T, 2) middles of what has a colour in each frame, NaN where nothing has it near enough."""
    found = np.full((len(frames), 2), np.nan)
    for t, frame in enumerate(frames):
        mask = cv2.inRange(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV), np.array(low), np.array(high))
        v, u = np.nonzero(mask)
        if near is not None and len(u):
            close = np.hypot(u - near[t, 0], v - near[t, 1]) < APART_PX  # False where the first was not seen
            u, v = u[close], v[close]
        if len(u) >= LEAST_PIXELS:
            found[t] = u.mean() + 0.5, v.mean() + 0.5  # the centre of a pixel
    return found


def triangulate(uv: Floats, views: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Return (T, 3) points seen at (V, T, 2) pixels, NaN where fewer than two views see and agree about one.

    Args:
        uv: pixels, NaN where a view does not see the point.
        views: K and T_base_cam of each.
    """
    seen = np.asarray(np.isfinite(uv).all(axis=-1))
    point, off = _solved(uv, seen, views)
    # Where three views or more do not agree, one of them sees something else, a part of the pad perhaps: leave one out.
    apart = off > OFF_PX
    for view in range(len(views)):
        others = seen & (np.arange(len(views)) != view)[:, None]
        without, off_without = _solved(uv, others, views)
        better = apart & (off_without < off)
        point[better], off[better] = without[better], off_without[better]
    point[off > OFF_PX] = np.nan
    return point


def _solved(uv: Floats, seen: Bools, views: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return (T, 3) points, and by how many pixels (T,) they miss the view that agrees least, infinite without two."""
    point = _nearest(uv, seen, views)
    miss = np.array(
        [np.linalg.norm(project(K, T, point)[0] - pixels, axis=1) for pixels, (K, T) in zip(uv, views, strict=True)]
    )
    worst = np.where(seen, np.nan_to_num(miss, nan=np.inf), 0.0).max(axis=0)
    return point, np.where(seen.sum(axis=0) >= 2, worst, np.inf)


def _nearest(uv: Floats, seen: Bools, views: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Return (T, 3) points nearest to the rays of the views that see them, NaN for fewer than two."""
    total, side = np.zeros((uv.shape[1], 3, 3)), np.zeros((uv.shape[1], 3))
    for pixels, sees, (K, T) in zip(uv, seen, views, strict=True):
        ray = np.column_stack([np.nan_to_num(pixels), np.ones(len(pixels))]) @ np.linalg.inv(K).T @ T[:3, :3].T
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
        total += np.where(sees[:, None, None], across, 0.0)
        side += np.where(sees[:, None], across @ T[:3, 3], 0.0)
    enough = seen.sum(axis=0) >= 2
    points = np.full_like(side, np.nan)
    points[enough] = np.linalg.solve(total[enough], side[enough][..., None])[..., 0]
    return points


def _filled(values: Floats) -> Floats:
    """Return (T, 3) values, those that are NaN interpolated."""
    known = np.isfinite(values).all(axis=1)
    t = np.arange(len(values))
    return np.column_stack([np.interp(t, t[known], values[known, k]) for k in range(values.shape[1])])
