"""What a plan asks for: how the object moves, whether it is pushed or carried, and whether it is let go at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from cascade.contracts import CameraImage, DataError, EeReadout, VideoPlan
from flowact.appearance import JointSearch, look_of
from flowact.articulation import JointKind, Motion, Tracks, fit_models
from flowact.lifting import carried_path, path_at_depths
from flowact.motion_mask import motion_mask
from flowact.rigid import Bools, Floats, backproject, project
from flowact.scene import (
    ObjectView,
    base_pose,
    object_mask,
    points_at,
    robot_mask,
    support_height,
    to_camera_mask,
    to_plan,
    view_object,
)
from flowact.tracking import (
    FlowField,
    TrackSettings,
    choose_points,
    dense_flow,
    follow_colour,
    follow_flow,
    stands_out,
)

CLOSED_BY = 0.15  # the opening falls by this much when the gripper closes on something
OPENED_BY = 0.25  # ... and rises by this much when it lets go
NEAR_M = 0.10  # a hand this near the object can close on it
STILL_M = 0.006  # less way than this is no motion
LOOK_POINTS = 45
LONGEST_LEVER_M = 0.8
RISE_M = 0.03  # a hand (or object) that rises by this much carries


class Mode(StrEnum):
    """How the object is moved."""

    PUSH = "push"
    GRASP = "grasp"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanReading:
    """Everything read from a plan before anything moves.

    Attributes:
        mode: push or grasp; `why` says by which evidence.
        motion: how the object moves.
        tracks: the points that were followed, plan pixels.
        view: the object's surface as seen when the plan was made; `mask` (H, W) its camera pixels.
        support_m: height of what the object stands on.
        releases: whether the plan ends with the gripper opening.
        closes_at: frame in which the gripper closes on the object, or None when it is not known.
    """

    mode: Mode
    why: str
    motion: Motion
    tracks: Tracks
    view: ObjectView
    mask: Bools
    support_m: float
    releases: bool
    closes_at: int | None


def follow_object(
    plan: VideoPlan, image: CameraImage, mask: Bools, settings: TrackSettings, field: FlowField | None = None
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
        view = view_object(image, mask)
        return Tracks(points_m=view.surface_m[None], uv=uv, weight=weight)
    start = choose_points(in_plan, settings.points)
    points = points_at(image, plan.transform.to_camera(start))
    valid = np.isfinite(points).all(axis=1)
    if not valid.any():
        raise DataError("flow lost: expected depth over the object's mask, found NaN only.")
    field = field or dense_flow(plan.frames, settings.working_px)
    uv, weight = follow_flow(field, start[valid], settings)
    return Tracks(points_m=points[valid], uv=uv, weight=weight)


def closing_frame(readout: EeReadout, object_m: Floats) -> int | None:
    """Return the frame in which the gripper closes on the object and from which the hand rises, else None.

    A fist made on the way to a push is made elsewhere, where the hand has not come down, or it does not rise then.

    Args:
        readout: what was read in the plan.
        object_m: (3,) where the object rests.
    """
    opening, z = readout.opening, readout.position_m[:, 2]
    for t in range(1, len(opening)):
        if float(opening[: t + 1].max()) - opening[t] < CLOSED_BY:
            continue
        low = t + int(z[t : t + 4].argmin())  # fingers begin to close while the hand still comes down
        came_down = float(z[: t + 1].max()) - z[low] > RISE_M
        lowest_yet = z[low] <= float(z[: low + 1].min()) + 0.01
        near = float(np.linalg.norm(readout.position_m[low, :2] - object_m[:2])) < NEAR_M
        rises = float(z[low:].max()) - z[low] > RISE_M
        return low if near and came_down and lowest_yet and rises else None
    return None


def carried_up(motion: Motion) -> bool:
    """Return whether the object itself rises as nothing does that is pushed along a level or falling joint."""
    return bool(np.max(motion.shift_m[:, 2]) > RISE_M)


def read_plan(
    plan: VideoPlan, image: CameraImage, *, segment: str, masked: str, hand_hint: str, settings: TrackSettings
) -> PlanReading:
    """Read a plan through the camera image it was made from.

    Args:
        plan: the plan.
        image: RGB-D image, calibrated, of the plan's camera.
        segment: name of the object's segment.
        masked: 'segment', or 'motion' to find the object by what moves in the plan.
        hand_hint: 'none', 'gripper' or 'depth': what of `plan.readout` is used.
        settings: how points are followed.

    Raises:
        DataError: the object could not be followed ('flow lost: ...').
    """
    robot = robot_mask(image)
    if masked == "motion":
        found = motion_mask(plan.frames, to_plan(robot, plan.transform))
        mask = to_camera_mask(found, plan.transform, *image.rgb.shape[:2])
    else:
        mask = object_mask(image, segment)
    view = view_object(image, mask)
    field = dense_flow(plan.frames, settings.working_px)
    tracks = follow_object(plan, image, mask, settings, field)
    K = plan.transform.intrinsics(image.K)
    models = fit_models(tracks, K, base_pose(image))
    readout = plan.readout if hand_hint != "none" else None
    free = next(m for m in models if m.kind is JointKind.FREE)
    closes_at = closing_frame(readout, view.centre_m) if readout is not None else None
    support = support_height(image, mask | robot, view.surface_m)
    if readout is not None:
        grasp, why = closes_at is not None, "the plan's gripper"
    else:
        carried = carry(free, tracks, K, base_pose(image), view.surface_m, None, None)
        grasp, why = carried_up(carried), "the object's own motion"
    if grasp:
        hand = readout.position_m if readout is not None and hand_hint == "depth" else None
        motion = carry(free, tracks, K, base_pose(image), view.surface_m, closes_at, hand)
    else:
        hand_px = follow_hand(plan, image, settings, field)
        motion = joint_of(plan, to_plan(mask, plan.transform), view, models, tracks, K, image, hand_px)
    releases = bool(
        grasp
        and readout is not None
        and closes_at is not None
        and readout.opening[-1] > float(readout.opening[closes_at:].min()) + OPENED_BY
    )
    return PlanReading(
        mode=Mode.GRASP if grasp else Mode.PUSH,
        why=why,
        motion=motion,
        tracks=tracks,
        view=view,
        mask=mask,
        support_m=support,
        releases=releases,
        closes_at=closes_at,
    )


def carry(
    free: Motion, tracks: Tracks, K: Floats, T: Floats, rest_m: Floats, closes_at: int | None, hand_m: Floats | None
) -> Motion:
    """Return the carried motion with depth put in: from the hand's path, else from how things are carried.

    Args:
        free: the fit whose depth is weak.
        tracks: what it was fitted to.
        K: intrinsics of the plan's frames.
        T: pose of the camera.
        rest_m: (3,) where the object rests.
        closes_at: frame before which it cannot move, if known.
        hand_m: (T, 3) the hand's positions, if they may be used.
    """
    centre = tracks.points_m.mean(axis=0)
    uv, _ = project(K, T, centre + free.shift_m)
    rays = backproject(K, T, uv, np.ones(len(uv))) - T[:3, 3]
    first = closes_at or 0
    if hand_m is not None:
        z = T[:3, 2]
        depth = (centre - T[:3, 3]) @ z + np.where(np.arange(len(uv)) > first, (hand_m - hand_m[first]) @ z, 0.0)
        path = path_at_depths(rays, z, T[:3, 3], depth)
    else:
        path = carried_path(rays, T[:3, 3], centre, low_m=float(centre[2]) - 0.02)
    shift = path - centre
    shift[:first] = 0.0
    return replace(free, shift_m=shift)


def follow_hand(plan: VideoPlan, image: CameraImage, settings: TrackSettings, field: FlowField) -> Floats | None:
    """Return (T, 2) where the gripper is seen in the plan's frames, or None when its segment is not known."""
    if "gripper" not in image.segment_names or image.segmentation is None:
        return None
    mask = to_plan(np.asarray(image.mask("gripper"), dtype=bool), plan.transform)
    if int(mask.sum()) < 6:
        return None
    uv, weight = follow_flow(field, choose_points(mask, settings.points), settings)
    path = [
        np.median(p[w > 0], axis=0) if (w > 0).any() else np.full(2, np.nan) for p, w in zip(uv, weight, strict=True)
    ]
    found = np.stack(path)
    index, seen = np.arange(len(found)), np.isfinite(found[:, 0])
    return np.stack([np.interp(index, index[seen], column[seen]) for column in found.T], axis=1)


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
