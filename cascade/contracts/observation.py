"""What a rig senses: camera images and the state of the arm, taken together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import checks
from cascade.contracts.errors import DataError
from cascade.contracts.frozen import assign as _set

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraImage:
    """One upright image of one camera.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32 metric z-depth, NaN where there is no return, or None.
        segmentation: (H, W) int32 of segment ids, -1 for nothing, or None.
        segment_names: name of a body or part -> its ids in `segmentation`.
        K: (3, 3) intrinsics [px]; pixel centres at (i + 0.5).
        T_base_cam: (4, 4) maps camera points (OpenCV axes: x right, y down, z forward) to the arm base.
        stamp_s: monotonic time of exposure [s].
    """

    rgb: Image
    K: Floats
    stamp_s: float
    depth_m: NDArray[np.float32] | None = None
    segmentation: NDArray[np.int32] | None = None
    segment_names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    T_base_cam: Floats | None = None

    def __post_init__(self) -> None:
        rgb = checks.array("rgb", self.rgb, (None, None, 3), np.uint8)
        size = rgb.shape[:2]
        _set(self, rgb=rgb, K=checks.array("K", self.K, (3, 3), np.float64))
        if self.depth_m is not None:
            _set(self, depth_m=checks.array("depth_m", self.depth_m, size, np.float32, finite=False))
        if self.segmentation is not None:
            _set(self, segmentation=checks.array("segmentation", self.segmentation, size, np.int32))
        if self.T_base_cam is not None:
            _set(self, T_base_cam=checks.pose("T_base_cam", self.T_base_cam))

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return the (H, W) mask of a named segment; raises DataError when there is none of that name."""
        if self.segmentation is None or name not in self.segment_names:
            raise DataError(f"segment {name!r}: not in this image.", f"Known: {', '.join(sorted(self.segment_names))}.")
        return np.isin(self.segmentation, self.segment_names[name])

    def points_m(self) -> Floats:
        """Return (H, W, 3) points in the arm's base frame, NaN where there is no depth.

        Raises:
            DataError: the image has no depth, or nobody has said where the camera stands.
        """
        if self.depth_m is None or self.T_base_cam is None:
            missing = "depth" if self.depth_m is None else "T_base_cam"
            raise DataError(
                f"camera image: expected {missing}, found an image without it.",
                "Use an RGB-D camera." if self.depth_m is None else "Calibrate the camera to the arm.",
            )
        height, width = self.depth_m.shape
        v, u = np.mgrid[:height, :width] + 0.5
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(self.K).T
        depth = np.where(self.depth_m > 0, self.depth_m, np.nan)[..., None]
        points: Floats = (rays * depth) @ self.T_base_cam[:3, :3].T + self.T_base_cam[:3, 3]
        return points


class ArmMode(StrEnum):
    """What an arm is doing; FAULT and ESTOP latch until a person clears them."""

    DISCONNECTED = "disconnected"
    IDLE = "idle"  # connected, refuses targets
    ARMED = "armed"  # accepts targets, stands still
    MOVING = "moving"
    HOLD = "hold"
    FAULT = "fault"
    ESTOP = "estop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why an arm stopped itself.

    Attributes:
        code: stable name, such as 'link_lost' or 'protective_stop'.
        message: what happened and what to do, for people.
        token: what `Arm.clear_fault` wants to see, so that nobody clears a fault they have not read.
        stamp_s: monotonic time [s].
    """

    code: str
    message: str = ""
    token: str = ""
    stamp_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmState:
    """Proprioception at one instant.

    Attributes:
        q: (J,) joint positions [rad].
        T_base_ee: (4, 4) end-effector pose in the arm base; the origin is the point between the finger tips.
        gripper_opening: measured, 0 closed .. 1 open.
        stamp_s: monotonic time of the reading [s].
        qd: (J,) joint speeds [rad/s], or None; twist: (6,) end-effector speed [m/s, rad/s] in the base frame, or None.
        wrench: (6,) external force and torque at the end effector [N, Nm] in the base frame, or None.
        setpoint: (7,) xyz + quaternion wxyz last sent to the arm, or None.
        faults: latched faults, oldest first.
    """

    q: Floats
    T_base_ee: Floats
    gripper_opening: float
    stamp_s: float
    mode: ArmMode = ArmMode.IDLE
    faults: tuple[Fault, ...] = ()
    qd: Floats | None = None
    twist: Floats | None = None
    wrench: Floats | None = None
    setpoint: Floats | None = None

    def __post_init__(self) -> None:
        q = checks.array("q", self.q, (None,), np.float64)
        sizes = {"qd": len(q), "twist": 6, "wrench": 6, "setpoint": 7}
        for name, size in sizes.items():
            if getattr(self, name) is not None:
                _set(self, **{name: checks.array(name, getattr(self, name), (size,), np.float64)})
        _set(self, q=q, T_base_ee=checks.pose("T_base_ee", self.T_base_ee))
        checks.unit_interval("gripper_opening", np.array([self.gripper_opening], dtype=np.float64))

    @property
    def position_m(self) -> Floats:
        """(3,) end-effector position in the base frame [m]."""
        position: Floats = self.T_base_ee[:3, 3]
        return position


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """Named camera images and the arm's state, taken together."""

    images: Mapping[str, CameraImage]
    arm: ArmState

    def image(self, camera: str) -> CameraImage:
        """Return one camera's image; raises DataError naming the known cameras."""
        if camera not in self.images:
            raise DataError(f"camera {camera!r}: not in this observation.", f"Known: {', '.join(sorted(self.images))}.")
        return self.images[camera]
