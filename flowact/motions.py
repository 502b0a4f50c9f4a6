"""How the object moves in 3-D: carried, or along the joint that explains the frames best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cascade.contracts import CameraImage, DataError, VideoPlan
from flowact.appearance import JointSearch, look_of
from flowact.articulation import JointKind, Motion, Tracks
from flowact.lifting import carried_path, path_at_depths
from flowact.resting import EndDepth
from flowact.rigid import Bools, Floats, backproject, project
from flowact.scene import ObjectView, base_pose

STILL_M = 0.006  # less way than this is no motion
LOOK_POINTS = 45
LEFT_HAND_PX = 8.0  # tracks of a held object farther than this from where the hand has it are wrong
LONGEST_LEVER_M = 0.8


def carry(
    free: Motion,
    tracks: Tracks,
    K: Floats,
    T: Floats,
    closes_at: int | None,
    *,
    hand_px: Floats | None = None,
    hand_m: Floats | None = None,
    depth_m: Floats | None = None,
    ends: EndDepth | None = None,
) -> Motion:
    """Return the carried motion with depth put in: from the hand's path, else from how things are carried.

    Args:
        free: the fit whose depth is weak.
        tracks: what it was fitted to.
        K: intrinsics of the plan's frames.
        T: pose of the camera.
        closes_at: frame before which it cannot move, if known; from there on it moves as the hand does.
        hand_px: (T, 2) where the hand is seen, if known.
        hand_m: (T, 3) the hand's positions, if they may be used.
        depth_m: (T,) rough z-depths of the object, NaN where not known; used without `hand_m`.
        ends: knows how far away it probably ends; used without `hand_m`.
    """
    centre = tracks.points_m.mean(axis=0)
    first = closes_at or 0
    uv, _ = project(K, T, centre + free.shift_m)
    if closes_at is not None:
        uv = _borne(uv, tracks, _borne_px(uv, centre, K, T, first, hand_px, hand_m), first)
    rays = backproject(K, T, uv, np.ones(len(uv))) - T[:3, 3]
    if hand_m is not None:
        z = T[:3, 2]
        depth = (centre - T[:3, 3]) @ z + np.where(np.arange(len(uv)) > first, (hand_m - hand_m[first]) @ z, 0.0)
        path = path_at_depths(rays, z, T[:3, 3], depth)
    else:
        end_m = ends.at(uv[-1] - uv[0]) if ends is not None else None
        low_m = float(centre[2]) - 0.02
        path = carried_path(rays, T[:3, 3], centre, low_m, camera_z=T[:3, 2], depth_m=depth_m, end_depth_m=end_m)
    shift = path - centre
    shift[:first] = 0.0
    return replace(free, shift_m=shift)


def _borne_px(
    uv: Floats, centre: Floats, K: Floats, T: Floats, first: int, hand_px: Floats | None, hand_m: Floats | None
) -> Floats | None:
    """Return (T, 2) where the object is seen if it keeps its place in the hand from frame `first` on."""
    if hand_m is not None:
        return project(K, T, centre + hand_m - hand_m[first])[0]
    if hand_px is not None:
        return np.asarray(uv[0] + hand_px - hand_px[first], dtype=np.float64)
    return None


def _borne(uv: Floats, tracks: Tracks, borne: Floats | None, first: int) -> Floats:
    """Return the object's pixels, put back into the hand where its tracks are lost or have left it."""
    if borne is None:
        return uv
    held = np.arange(len(uv)) > first
    lost = ~tracks.alive | (np.linalg.norm(uv - borne, axis=1) > LEFT_HAND_PX)
    return np.where((held & lost)[:, None], borne, uv)


def joint_of(
    plan: VideoPlan,
    mask: Bools,
    view: ObjectView,
    models: list[Motion],
    tracks: Tracks,
    K: Floats,
    image: CameraImage,
    hand_px: Floats | None,
) -> Motion:
    """Return the sliding or turning motion that explains the frames best.

    Raises:
        DataError: the object does not move in the plan.
    """
    T = base_pose(image)
    keep = np.linspace(0, len(view.points_m) - 1, min(len(view.points_m), LOOK_POINTS)).round().astype(int)
    # The middle of the object rather than its front: the same pixels now, nearer to all of it once it has turned.
    rays = view.points_m[keep] - T[:3, 3]
    points = view.points_m[keep] + view.half_width_m * rays / np.linalg.norm(rays, axis=1, keepdims=True)
    uv, z = project(K, T, points)
    look = look_of(plan.frames[0], mask, float(np.median(z)), K, T, points, uv)
    search = JointSearch(look, plan.frames, K, T, hand_px, tracks if len(tracks.points_m) > 1 else None)
    hinges = [m for m in models if m.kind is JointKind.REVOLUTE and np.abs(m.axis).max() > 0.999]
    best, _ = search.best([m for m in hinges if m.way_per_unit(search.centre) < LONGEST_LEVER_M])
    way = float(np.max(np.linalg.norm(best.shift_m, axis=1)))
    if way < STILL_M:
        raise DataError(
            f"flow lost: expected the object to move in the plan, found {way * 1000:.1f} mm.",
            "Sample another plan, or check that the object's mask is right.",
        )
    return best
