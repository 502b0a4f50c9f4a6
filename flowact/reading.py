"""What a plan asks for: how the object moves, whether it is pushed or carried, and whether it is let go at the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade.contracts import CameraImage, DataError, VideoPlan
from flowact.articulation import JointKind, Motion, Tracks
from flowact.following import follow_hand, follow_object
from flowact.growth import depth_by_growth
from flowact.handled import Handled, Mode, handled_by_gripper, handled_by_motion
from flowact.joint_fitting import fit_models
from flowact.motion_mask import changed_ever, motion_mask
from flowact.motions import carry, joint_of
from flowact.resting import Background
from flowact.rigid import Bools, Floats, project
from flowact.robot import gripper_of, robot_of
from flowact.scene import (
    ObjectView,
    base_pose,
    depth_of,
    object_mask,
    support_height,
    to_camera_mask,
    to_plan,
    view_object,
)
from flowact.settings import FlowConfig
from flowact.tracking import TrackSettings, dense_flow


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanReading:
    """Everything read from a plan before anything moves.

    Attributes:
        handled: push or grasp, why, and when the gripper closes.
        motion: how the object moves.
        tracks: the points that were followed, plan pixels.
        view: the object's surface as seen when the plan was made.
        mask: (H, W) the object's camera pixels then; robot: (H, W) the robot's.
        support_m: height of what the object stands on.
    """

    handled: Handled
    motion: Motion
    tracks: Tracks
    view: ObjectView
    mask: Bools
    robot: Bools
    support_m: float


def find_robot(plan: VideoPlan, image: CameraImage, hand_m: Floats, config: FlowConfig) -> Bools:
    """Return the (H, W) camera mask of the robot, by its segment only where the object's may be used too."""
    moved = to_camera_mask(changed_ever(plan.frames), plan.transform, *image.rgb.shape[:2])
    return robot_of(image, hand_m, by_segment=config.mask == "segment", moved=moved)


def find_object(
    plan: VideoPlan, image: CameraImage, config: FlowConfig, robot: Bools, hand_m: Floats, hand_px: Floats | None
) -> Bools:
    """Return the (H, W) camera mask of the object the plan moves; raises DataError when it cannot be found."""
    if config.mask == "segment":
        return object_mask(image, config.segment)
    support = support_height(image, robot, hand_m)
    return motion_mask(plan.frames, image, plan.transform, robot, support, hand_m, hand_px)


def read_plan(plan: VideoPlan, image: CameraImage, hand_m: Floats, config: FlowConfig) -> PlanReading:
    """Read a plan through the RGB-D image it was made from, the hand being at (3,).

    Raises:
        DataError: 'flow lost: ...' when the object could not be found or followed, or has no depth.
    """
    settings = TrackSettings(points=config.points, working_px=config.working_px)
    depth_of(image)
    K, T = plan.transform.intrinsics(image.K), base_pose(image)
    field = dense_flow(plan.frames, settings.working_px)
    robot = find_robot(plan, image, hand_m, config)
    hand_px = follow_hand(plan, gripper_of(image, hand_m, by_segment=config.mask == "segment"), settings, field)
    mask = find_object(plan, image, config, robot, hand_m, hand_px)
    view = view_object(image, mask)
    tracks = follow_object(plan, image, mask, settings, field)
    models = fit_models(tracks, K, T, free_axes=False)  # the search by look, for which they are, tries none
    free = next(m for m in models if m.kind is JointKind.FREE)
    readout = plan.readout if config.hand_hint != "none" else None
    if readout is not None:
        handled = handled_by_gripper(readout, view.centre_m)
    else:
        carried = carry(free, tracks, K, T, None)
        seen, _ = project(K, T, tracks.points_m.mean(axis=0) + carried.shift_m)
        handled = handled_by_motion(carried.shift_m, seen, hand_px)
    if handled.mode is Mode.GRASP:
        hand = readout.position_m if readout is not None and config.hand_hint == "depth" else None
        depth = None
        if handled.closes_at is not None and hand_px is not None and hand is None:
            away = float((tracks.points_m.mean(axis=0) - T[:3, 3]) @ T[:3, 2])
            depth = depth_by_growth(field, hand_px, handled.closes_at, away, float(K[0, 0]), settings)
        ends = Background(image, plan.frames, plan.transform, mask, robot)
        motion = carry(free, tracks, K, T, handled.closes_at, hand_px=hand_px, hand_m=hand, depth_m=depth, ends=ends)
    else:
        motion = joint_of(plan, to_plan(mask, plan.transform), view, models, tracks, K, image, hand_px)
    if not np.isfinite(motion.shift_m).all():
        raise DataError("flow lost: expected a finite motion of the object, found NaN.", "Sample another plan.")
    return PlanReading(
        handled=handled,
        motion=motion,
        tracks=tracks,
        view=view,
        mask=mask,
        robot=robot,
        support_m=support_height(image, mask | robot, view.surface_m),
    )
