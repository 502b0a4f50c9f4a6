"""What an arm may do, and what is known of it before it is connected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import checks
from cascade.contracts.action import ActionSpace
from cascade.contracts.errors import DataError
from cascade.contracts.frozen import assign as _set

Floats = NDArray[np.float64]

HARD_CAPS = {
    "max_speed_m_s": 1.0,
    "max_angular_speed_rad_s": 1.5,
}
"""What no rig that drives a real arm may exceed, whatever its file says."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointLimits:
    """Limits of J joints: (J,) arrays in rad, rad/s, rad/s^2, rad/s^3."""

    lower_rad: Floats
    upper_rad: Floats
    max_speed_rad_s: Floats
    max_acceleration_rad_s2: Floats
    max_jerk_rad_s3: Floats

    def __post_init__(self) -> None:
        count = (len(np.atleast_1d(self.lower_rad)),)
        for name in self.__dataclass_fields__:
            _set(self, **{name: checks.array(name, getattr(self, name), count, np.float64)})
        if not np.all(self.upper_rad > self.lower_rad):
            raise DataError("joint limits: expected every upper limit above the lower one.")
        for name in ("max_speed_rad_s", "max_acceleration_rad_s2", "max_jerk_rad_s3"):
            if not np.all(getattr(self, name) > 0):
                raise DataError(f"joint limits: expected positive {name}.")

    def tightened(self, margin_rad: float = 0.1, share: float = 0.5) -> JointLimits:
        """Return these limits with a margin on the positions and a share of speed, acceleration and jerk."""
        return JointLimits(
            lower_rad=self.lower_rad + margin_rad,
            upper_rad=self.upper_rad - margin_rad,
            max_speed_rad_s=self.max_speed_rad_s * share,
            max_acceleration_rad_s2=self.max_acceleration_rad_s2 * share,
            max_jerk_rad_s3=self.max_jerk_rad_s3 * share,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Limits:
    """What an arm may do; required configuration of every rig.

    Attributes:
        workspace_m: (2, 3) lower and upper corner of the box the end effector must stay in, base frame.
        keep_outs_m: boxes (2, 3) the end effector must stay out of, base frame.
        tool_radius_m: radius of the sphere around the end effector that must fit inside the workspace and outside
            the keep-outs; margin_m: distance from their walls at which motion slows down.
        max_speed_m_s, max_acceleration_m_s2, max_jerk_m_s3: of the end effector.
        max_angular_speed_rad_s, max_angular_acceleration_rad_s2, max_angular_jerk_rad_s3: of its rotation.
        max_step_m: largest distance between consecutive targets.
        max_rotation_rad: largest rotation between consecutive targets.
        max_force_n, max_torque_nm: measured at the end effector before the arm stops; None where nothing measures it.
        max_tracking_error_m, max_tracking_error_rad: between setpoint and measured pose, longer than
            `tracking_error_s`, before the arm stops.
        joints: positions, speeds, accelerations and jerks of the joints; None: those of the driver, tightened.
    """

    workspace_m: Floats
    max_speed_m_s: float
    max_acceleration_m_s2: float
    max_jerk_m_s3: float
    max_step_m: float
    max_rotation_rad: float
    max_angular_speed_rad_s: float = 0.5
    max_angular_acceleration_rad_s2: float = 2.5
    max_angular_jerk_rad_s3: float = 25.0
    max_tracking_error_m: float = 0.03
    max_tracking_error_rad: float = 0.2
    tracking_error_s: float = 0.1
    keep_outs_m: tuple[Floats, ...] = ()
    tool_radius_m: float = 0.0
    margin_m: float = 0.03
    max_force_n: float | None = None
    max_torque_nm: float | None = None
    joints: JointLimits | None = None

    def __post_init__(self) -> None:
        _set(self, workspace_m=_box("workspace_m", self.workspace_m))
        _set(self, keep_outs_m=tuple(_box("keep_outs_m", box) for box in self.keep_outs_m))
        for name in (
            "max_speed_m_s",
            "max_acceleration_m_s2",
            "max_jerk_m_s3",
            "max_step_m",
            "max_rotation_rad",
            "max_angular_speed_rad_s",
            "max_angular_acceleration_rad_s2",
            "max_angular_jerk_rad_s3",
            "max_tracking_error_m",
            "max_tracking_error_rad",
            "tracking_error_s",
        ):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise DataError(f"{name}: expected a positive number, found {getattr(self, name)}.")
        for name in ("max_force_n", "max_torque_nm"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise DataError(f"{name}: expected a positive number or null, found {value}.")
        for name in ("tool_radius_m", "margin_m"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise DataError(f"{name}: expected a number of 0 or more, found {getattr(self, name)}.")
        if np.any(self.workspace_m[1] - self.workspace_m[0] <= 2 * self.tool_radius_m):
            raise DataError("workspace_m: expected a box larger than the tool's sphere.")


def _box(name: str, value: Floats) -> Floats:
    box: Floats = checks.array(name, value, (2, 3), np.float64)
    if not np.all(box[1] > box[0]):
        raise DataError(f"{name}: expected the upper corner above the lower one on every axis.")
    return box


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmSpec:
    """What is known of an arm before it is connected."""

    name: str
    joint_names: tuple[str, ...]
    accepts: ActionSpace
    control_hz: float
    limits: Limits
