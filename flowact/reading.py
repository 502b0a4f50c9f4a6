"""What a plan asks for: how the object moves, whether it is pushed or carried, and whether it is let go at the end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cascade.contracts import CameraImage, DataError, EeReadout, VideoPlan
from flowact.articulation import JointKind, Motion, Tracks, fit_models
from flowact.motion_mask import motion_mask
from flowact.rigid import Bools, Floats
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
from flowact.tracking import TrackSettings, choose_points, follow_colour, follow_flow

CLOSED_BY = 0.15  # the opening falls by this much when the gripper closes on something
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
        view: the object's surface as seen when the plan was made.
        support_m: height of what the object stands on.
        releases: whether the plan ends with the gripper opening.
        closes_at: frame in which the gripper closes on the object, or None when it is not known.
    """

    mode: Mode
    why: str
    motion: Motion
    tracks: Tracks
    view: ObjectView
    support_m: float
    releases: bool
    closes_at: int | None


def follow_object(plan: VideoPlan, image: CameraImage, mask: Bools, settings: TrackSettings) -> Tracks:
    """Follow the object under a (H, W) camera mask through the plan; small ones by colour.

    Raises:
        DataError: nothing to follow, or no depth where it is.
    """
    in_plan = to_plan(mask, plan.transform)
    if not in_plan.any():
        raise DataError("flow lost: expected the object inside the plan's view, found none of its pixels there.")
    small = int(in_plan.sum()) < settings.small_px
    if small:
        uv, weight = follow_colour(plan.frames, in_plan)
        view = view_object(image, mask)
        return Tracks(points_m=view.surface_m[None], uv=uv, weight=weight)
    start = choose_points(in_plan, settings.points)
    points = points_at(image, plan.transform.to_camera(start))
    valid = np.isfinite(points).all(axis=1)
    if not valid.any():
        raise DataError("flow lost: expected depth over the object's mask, found NaN only.")
    uv, weight = follow_flow(plan.frames, start[valid], settings)
    return Tracks(points_m=points[valid], uv=uv, weight=weight)


def closing_frame(readout: EeReadout) -> int | None:
    """Return the frame at which the gripper has closed on something low and after which the hand rises, else None.

    A fist made on the way, as for a push, is followed by no lower place where the opening falls.
    """
    opening, z = readout.opening, readout.position_m[:, 2]
    for t in range(1, len(opening)):
        before = float(opening[:t].max())
        if before - opening[t] < CLOSED_BY:
            continue
        lowest = float(z[max(0, t - 2) : t + 1].min())
        came_down = float(z[:t].max()) - lowest > RISE_M or t <= 2
        if came_down and float(z[t:].max()) - lowest > RISE_M and float(z[: t + 1].min()) >= lowest - 0.01:
            return t
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
    tracks = follow_object(plan, image, mask, settings)
    K = plan.transform.intrinsics(image.K)
    models = fit_models(tracks, K, base_pose(image))
    readout = plan.readout if hand_hint != "none" else None
    free = next(m for m in models if m.kind is JointKind.FREE)
    closes_at = closing_frame(readout) if readout is not None else None
    if readout is not None:
        grasp, why = closes_at is not None, "the plan's gripper"
    else:
        grasp, why = carried_up(free), "the object's own motion"
    motion = free if grasp else _joint(models)
    releases = bool(
        grasp
        and readout is not None
        and closes_at is not None
        and readout.opening[-1] > float(readout.opening[closes_at:].min()) + CLOSED_BY
    )
    return PlanReading(
        mode=Mode.GRASP if grasp else Mode.PUSH,
        why=why,
        motion=motion,
        tracks=tracks,
        view=view,
        support_m=support_height(image, mask | robot, view.surface_m),
        releases=releases,
        closes_at=closes_at,
    )


def _joint(models: list[Motion]) -> Motion:
    """Return the best sliding or turning motion; raises DataError when the object does not move at all."""
    joints = [m for m in models if m.kind in (JointKind.PRISMATIC, JointKind.REVOLUTE)]
    best = joints[0]
    way = float(np.max(np.linalg.norm(best.shift_m, axis=1)))
    if way < 0.004:
        raise DataError(
            f"flow lost: expected the object to move in the plan, found {way * 1000:.1f} mm.",
            "Sample another plan, or check that the object's mask is right.",
        )
    return best


def resting_height(view: ObjectView) -> Floats:
    """Return (2,) lowest and highest point of the visible surface [m]."""
    return np.asarray(np.percentile(view.points_m[:, 2], [2, 98]), dtype=np.float64)
