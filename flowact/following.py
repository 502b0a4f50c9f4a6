"""Where the object and the hand go in the pixels of a plan."""

from __future__ import annotations

import numpy as np

from cascade.contracts import CameraImage, DataError, VideoPlan
from flowact.articulation import Tracks
from flowact.rigid import Bools, Floats
from flowact.scene import points_at, to_plan, view_object
from flowact.tracking import FlowField, TrackSettings, choose_points, follow_colour, follow_flow, stands_out

SURVIVES = 0.8  # share of frames in which colour has to find a small object again


def follow_object(
    plan: VideoPlan, image: CameraImage, mask: Bools, settings: TrackSettings, field: FlowField
) -> Tracks:
    """Follow the object under a (H, W) camera mask through the plan; small ones by colour.

    Raises:
        DataError: nothing to follow, or no depth where it is.
    """
    in_plan = to_plan(mask, plan.transform)
    if not in_plan.any():
        raise DataError("flow lost: expected the object inside the plan's view, found none of its pixels there.")
    if int(in_plan.sum()) < settings.small_px and stands_out(plan.frames[0], in_plan):
        uv, weight = follow_colour(plan.frames, in_plan)
        if float((weight > 0).mean()) >= SURVIVES:  # else its colour did not last: blurred, shaded or covered
            return Tracks(points_m=view_object(image, mask).surface_m[None], uv=uv, weight=weight)
    start = choose_points(in_plan, settings.points)
    points = points_at(image, plan.transform.to_camera(start))
    valid = np.isfinite(points).all(axis=1)
    if not valid.any():
        raise DataError("flow lost: expected depth over the object's mask, found NaN only.")
    uv, weight = follow_flow(field, start[valid], settings)
    return Tracks(points_m=points[valid], uv=uv, weight=weight)


def follow_hand(plan: VideoPlan, gripper: Bools, settings: TrackSettings, field: FlowField) -> Floats | None:
    """Return (T, 2) where the gripper under a (H, W) camera mask is seen in the plan, or None when it does not show."""
    mask = to_plan(gripper, plan.transform)
    if int(mask.sum()) < 6:
        return None
    uv, weight = follow_flow(field, choose_points(mask, settings.points), settings)
    path = [
        np.median(p[w > 0], axis=0) if (w > 0).any() else np.full(2, np.nan) for p, w in zip(uv, weight, strict=True)
    ]
    found = np.stack(path)
    index, seen = np.arange(len(found)), np.isfinite(found[:, 0])
    return np.stack([np.interp(index, index[seen], column[seen]) for column in found.T], axis=1)
