"""What the metrics of a plan can draw on; every part but the frames may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.records import Limits
from cascade.metrics.arrays import Bools, Floats, Frames
from cascade.metrics.image_motion import Flow, dense_flow

WORDS: Mapping[str, str] = {
    "reference": "an executed video",
    "camera_frame": "the camera image at the plan's start",
    "path_m": "the imagined end-effector path",
    "motion_m": "a commanded or measured path",
    "motion_opening": "gripper openings over time",
    "motion_times_s": "times of the path",
    "limits": "the rig's limits",
    "object_mask": "a mask of the object",
    "gripper_px": "the gripper's path in pixels",
    "depth_m": "depth",
    "K": "intrinsics",
    "features": "features",
    "reference_features": "features of reference clips",
    "ik": "an inverse-kinematics solver",
    "obstacles_m": "obstacle shapes",
    "trials": "open-loop trials",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class IkSolutions:
    """What an inverse-kinematics solver reached for N poses.

    Attributes:
        position_error_m, rotation_error_rad: (N,) what is left between pose asked for and pose reached.
        joint_margin_rad: (N,) distance of the nearest joint to its limit, negative beyond it.
        manipulability: (N,) Yoshikawa's measure, or None.
    """

    position_error_m: Floats
    rotation_error_rad: Floats
    joint_margin_rad: Floats
    manipulability: Floats | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """A plan and whatever else is known about it.

    Attributes:
        frames: (T, H, W, 3) uint8 of the plan.
        frame_dt_s: time between frames, None when the plan's time is only ordinal.
        reference: (T, H, W, 3) executed frames, one per plan frame.
        camera_frame: (H, W, 3) what the camera saw when the plan was made, as the plan sees it.
        path_m: (T, 3) imagined end-effector path, base frame.
        motion_m: (N, 3) measured path of a run, or the targets read in a plan.
        motion_opening: (N,) gripper opening along it; `motion_times_s`: (N,).
        limits: of the arm.
        object_mask: (H, W) bool, the handled object in frame 0.
        gripper_px: (T, 2) where the gripper is in each frame.
        depth_m: (T, H, W) metric depth of the frames [m]; `K`: (3, 3) intrinsics of the plan image.
        features, reference_features: (n, d) one row per clip, for distances of distributions.
        ik: solutions for the path's poses.
        obstacles_m: (M, 4) spheres x, y, z, radius.
        trials: (successes, trials) of extracted actions run open loop.
        reasons: field -> why it is missing, in words.
    """

    frames: Frames
    frame_dt_s: float | None = None
    reference: Frames | None = None
    camera_frame: Frames | None = None
    path_m: Floats | None = None
    motion_m: Floats | None = None
    motion_opening: Floats | None = None
    motion_times_s: Floats | None = None
    limits: Limits | None = None
    object_mask: Bools | None = None
    gripper_px: Floats | None = None
    depth_m: NDArray[np.float32] | None = None
    K: Floats | None = None
    features: Floats | None = None
    reference_features: Floats | None = None
    ik: IkSolutions | None = None
    obstacles_m: Floats | None = None
    trials: tuple[int, int] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def flow(self) -> Flow:
        """Dense flow between consecutive frames, computed once."""
        return dense_flow(self.frames)

    def reason(self, lacking: Sequence[str]) -> str:
        """Return 'needs ...' with the reason where one is known."""
        first = lacking[0]
        known = self.reasons.get(first)
        return f"needs {WORDS.get(first, first)}" + (f" ({known})" if known else "")
