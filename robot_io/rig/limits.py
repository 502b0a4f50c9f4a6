"""Limits of a rig's file: every one stated, none above the built-in caps, none against another."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from cascade.contracts import DataError, JointLimits, Limits, PluginConfig
from cascade.contracts.limits import HARD_CAPS

Point = tuple[float, float, float]
Box = tuple[Point, Point]


class JointLimitsConfig(PluginConfig):
    """Limits of the joints, where they are to be tighter than half of the vendor's."""

    lower_rad: tuple[float, ...] = Field(description="Lower positions [rad].")
    upper_rad: tuple[float, ...] = Field(description="Upper positions [rad].")
    max_speed_rad_s: tuple[float, ...] = Field(description="Largest speeds [rad/s].")
    max_acceleration_rad_s2: tuple[float, ...] = Field(description="Largest accelerations [rad/s^2].")
    max_jerk_rad_s3: tuple[float, ...] = Field(description="Largest jerks [rad/s^3].")

    def record(self) -> JointLimits:
        """Return them as the contracts' record; raises DataError when they contradict each other."""
        return JointLimits(**{name: np.array(value, dtype=np.float64) for name, value in self})


class LimitsConfig(PluginConfig):
    """What the arm may do; see `cascade.contracts.Limits`. There are no defaults: a rig says what it wants."""

    workspace_m: Box = Field(
        description="Lower and upper corner of the box the end effector must stay in, base frame [m]."
    )
    keep_outs_m: tuple[Box, ...] = Field(description="Boxes it must stay out of, base frame [m]; [] for none.")
    tool_radius_m: float = Field(ge=0, le=0.5, description="Sphere around the end effector that must fit too [m].")
    max_speed_m_s: float = Field(
        gt=0, le=HARD_CAPS["max_speed_m_s"], description="Speed cap of the end effector [m/s]."
    )
    max_acceleration_m_s2: float = Field(gt=0, le=5.0, description="Largest acceleration [m/s^2].")
    max_jerk_m_s3: float = Field(gt=0, le=100.0, description="Largest jerk [m/s^3].")
    max_angular_speed_rad_s: float = Field(
        gt=0, le=HARD_CAPS["max_angular_speed_rad_s"], description="Cap of its rotation [rad/s]."
    )
    max_angular_acceleration_rad_s2: float = Field(gt=0, le=15.0, description="Largest angular acceleration [rad/s^2].")
    max_angular_jerk_rad_s3: float = Field(gt=0, le=300.0, description="Largest angular jerk [rad/s^3].")
    max_step_m: float = Field(gt=0, le=0.25, description="Largest distance between consecutive targets [m].")
    max_rotation_rad: float = Field(gt=0, le=0.8, description="Largest rotation between consecutive targets [rad].")
    max_force_n: float | None = Field(gt=0, le=150.0, description="Measured force that stops the arm [N]; null: none.")
    max_torque_nm: float | None = Field(gt=0, le=30.0, description="Measured torque that stops it [Nm]; null: none.")
    max_tracking_error_m: float = Field(gt=0, le=0.1, description="Between setpoint and measured pose [m].")
    max_tracking_error_rad: float = Field(gt=0, le=0.5, description="Between setpoint and measured pose [rad].")
    tracking_error_s: float = Field(0.1, gt=0, le=0.5, description="How long either may last [s].")
    margin_m: float = Field(0.03, ge=0, le=0.2, description="Distance from walls at which motion slows down [m].")
    joints: JointLimitsConfig | None = Field(None, description="Limits of the joints; null: half of the vendor's.")

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        try:
            limits = self.record()
        except DataError as error:
            raise ValueError(str(error)) from error
        low, high = limits.workspace_m
        if np.any(high - low <= 2 * (self.tool_radius_m + self.margin_m)):
            raise ValueError("workspace_m: nothing is left of the box inside tool_radius_m and margin_m.")
        if self.max_step_m > float(np.linalg.norm(high - low)):
            raise ValueError("max_step_m: longer than the diagonal of workspace_m.")
        for index, box in enumerate(limits.keep_outs_m):
            if np.all(box[0] <= low) and np.all(box[1] >= high):
                raise ValueError(f"keep_outs_m.{index}: covers all of workspace_m.")
        # What a stop from full speed needs, at constant acceleration, has to fit into the workspace.
        way_m = self.max_speed_m_s**2 / (2 * self.max_acceleration_m_s2)
        if way_m > float((high - low).min()):
            raise ValueError(
                f"max_acceleration_m_s2: too small, a stop from max_speed_m_s takes {way_m:.2f} m of workspace_m."
            )
        return self

    def record(self, speed: float = 1.0) -> Limits:
        """Return the limits as the contracts' record, speed caps scaled by a share of 0..1."""
        numbers = {name: value for name, value in self if name not in ("workspace_m", "keep_outs_m", "joints")}
        numbers["max_speed_m_s"] *= speed
        numbers["max_angular_speed_rad_s"] *= speed
        return Limits(
            workspace_m=np.array(self.workspace_m, dtype=np.float64),
            keep_outs_m=tuple(np.array(box, dtype=np.float64) for box in self.keep_outs_m),
            joints=None if self.joints is None else self.joints.record(),
            **numbers,
        )
