"""An arm without hardware: a point that goes where it is told. For tests and for trying things; it proves nothing.

There are no dynamics, no collisions, no forces. It takes poses, or joints of a known model; an optional lag is that of
a first-order system.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.contracts import DeviceError, JointLimits, PluginConfig
from cascade.contracts.driver import DriverInfo, Reading, Takes
from robot_io.process.poses import interpolate, matrix_of

Floats = NDArray[np.float64]
GRIPPER_PER_S = 5.0


class VirtualConfig(PluginConfig):
    """Options of the arm without hardware."""

    model: str | None = Field(
        None,
        description="Arm model whose joints it has, such as 'ur5e'; null: a flying hand without joints.",
    )
    takes: Takes = Field(Takes.POSE, description="Setpoints: pose or joints; joints need a model.")
    rate_hz: float = Field(125.0, ge=10.0, le=500.0, description="Setpoints per second.")
    lag_s: float = Field(0.0, ge=0.0, le=1.0, description="Time constant with which it follows setpoints [s].")
    start_m: tuple[float, float, float] = Field((0.4, 0.0, 0.3), description="Where it begins, without a model [m].")
    start_wxyz: tuple[float, float, float, float] = Field(
        (0.0, 1.0, 0.0, 0.0), description="Its orientation there: by default the hand points down."
    )
    address: str = Field("", description="Name of the device; two processes never share one. Empty: nothing to share.")


class VirtualDriver:
    """A kinematic point (an ArmDriver)."""

    def __init__(self, config: VirtualConfig) -> None:
        self._config = config
        self._kinematics: Any = None
        self._armed = False
        self._at_s = self._began_s = 0.0
        self._opening = self._wanted_opening = 1.0
        start = np.array([*config.start_m, *config.start_wxyz])
        start[3:] /= np.linalg.norm(start[3:])
        names: tuple[str, ...] = ("virtual",)
        limits = _unlimited(1)
        rest: Floats | None = None
        if config.model is not None:
            from robot_io.process.models import arm_model

            model = arm_model(config.model)
            names, limits, rest = model.joint_names, model.joint_limits, model.rest_q
        elif config.takes is Takes.JOINTS:
            raise DeviceError("virtual arm: joints need a model.", "Set model, or takes: pose.")
        self._joints = np.zeros(1) if rest is None else np.array(rest, dtype=np.float64)
        self._is: Floats = self._joints if config.takes is Takes.JOINTS else start
        self._goal = self._is
        self._info = DriverInfo(
            name="virtual",
            model=config.model or "virtual",
            joint_names=names,
            takes=config.takes,
            rate_hz=config.rate_hz,
            joint_limits=limits,
            kinematics=config.model,
            watchdog_s=None,
            rest_q=rest,
            address=config.address,
        )

    @property
    def info(self) -> DriverInfo:
        """What is known of it."""
        return self._info

    def connect(self, timeout_s: float) -> None:
        """Begin to exist."""
        if self._config.model is not None:
            from robot_io.process.kinematics import Kinematics

            self._kinematics = Kinematics(self._config.model)
            if self._config.takes is Takes.POSE:
                from robot_io.process.poses import pose_of

                self._is = self._goal = pose_of(self._kinematics.forward(self._joints))
        self._began_s = self._at_s = time.monotonic()

    def arm(self) -> None:
        """Follow setpoints from now on."""
        self._armed, self._goal = True, self._is

    def read(self) -> Reading:
        """Where the point is by now."""
        now_s = time.monotonic()
        dt, self._at_s = now_s - self._at_s, now_s
        before = self._is
        share = 1.0 if self._config.lag_s == 0 else 1.0 - float(np.exp(-dt / self._config.lag_s))
        pose = self._config.takes is Takes.POSE
        self._is = interpolate(before, self._goal, share) if pose else before + share * (self._goal - before)
        way = np.clip(self._wanted_opening - self._opening, -GRIPPER_PER_S * dt, GRIPPER_PER_S * dt)
        self._opening += float(way)
        q = self._joints if pose else self._is
        qd = np.zeros_like(q) if pose or dt <= 0 else (self._is - before) / dt
        T = matrix_of(self._is) if pose else None
        return Reading(
            t_dev_s=now_s - self._began_s, q=q, qd=qd, T_base_ee=T, gripper_opening=self._opening, running=self._armed
        )

    def send(self, setpoint: Floats, gripper: float | None) -> None:
        """Go there."""
        if self._armed:
            self._goal = np.array(setpoint)
            self._wanted_opening = self._wanted_opening if gripper is None else gripper

    def halt(self) -> None:
        """Stay here."""
        self._goal = self._is

    def recover(self) -> None:
        """Nothing breaks."""
        self.halt()

    def disarm(self) -> None:
        """Stay here and follow nothing."""
        self.halt()
        self._armed = False

    def close(self) -> None:
        """Cease to exist."""
        self._armed = False


def _unlimited(joints: int) -> JointLimits:
    big = np.full(joints, 100.0)
    return JointLimits(
        lower_rad=-big, upper_rad=big, max_speed_rad_s=big, max_acceleration_rad_s2=big, max_jerk_rad_s3=big
    )
