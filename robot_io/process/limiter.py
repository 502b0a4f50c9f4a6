"""From targets to setpoints that keep every limit: what the arm process sends, one per cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ConfigError, DeviceError, Limits
from cascade.contracts.driver import DriverInfo, Takes
from robot_io.process.braking import Vector
from robot_io.process.joint_limiter import JointLimiter, joint_limits
from robot_io.process.kinematics import Kinematics
from robot_io.process.mover import Mover, Pose
from robot_io.process.poses import pose_of
from robot_io.process.quaternions import Quaternion
from robot_io.process.region import Region

Floats = NDArray[np.float64]

TOLERANCE_M = 0.01
"""How far outside the workspace an arm may stand when it is armed; it can then only move inwards."""
INSET_M = 0.001
"""How much farther from the walls joint devices are led, so that the rest of the inverse kinematics has room."""
STOP_INSET_M = 50e-6
"""How much farther from the walls the setpoints of joint devices are kept: between two of them the end effector goes on
a curve, 40 micrometres beyond the straight line at 5 m/s2 and 125 Hz."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setpoint:
    """What is to be sent.

    Attributes:
        pose: (7,) xyz [m] + quaternion wxyz of the end effector, continuous in sign.
        q: (J,) joint positions [rad] for devices that take joints, else None.
        gripper: opening 0..1, or None to leave it.
        limited: what held the motion back: 'workspace' (target beyond the wall), 'margin', 'region', 'keep_out',
            'turn', 'plan', 'joints', 'singular', 'reach', 'bad_target'; empty when nothing did.
    """

    pose: Floats
    q: Floats | None = None
    gripper: float | None = None
    limited: tuple[str, ...] = ()


class Limiter:
    """Follows targets inside all limits; see `robot_io.process.mover` for why nothing gets out.

    Pose devices: position inside the region, and the norms of speed, acceleration and jerk of position and rotation,
    between consecutive setpoints. Joint devices: position, speed, acceleration and jerk of every joint, and the end
    effector inside the region. Without a target the arm brakes with 2.5 m/s^2 and 50 m/s^3 (6 rad/s^2 and 120 rad/s^3),
    or with the rig's own limits where those are smaller or where there is no room for so gentle a stop; then it stands
    exactly still.

    Args:
        limits: of the rig; info: of the device; kinematics: its model, needed where it takes joints.
        period_s: time between setpoints.

    Raises:
        ConfigError: the device takes joints and there is no model, or limits and model differ in joints.
    """

    def __init__(self, limits: Limits, info: DriverInfo, kinematics: Kinematics | None, period_s: float) -> None:
        joints = info.takes is Takes.JOINTS
        self._region = Region(limits)
        self._mover = Mover(limits, Region(limits, INSET_M) if joints else self._region, period_s)
        self._joints: JointLimiter | None = None
        if joints:
            if kinematics is None:
                raise ConfigError(
                    f"{info.name}: it takes joint positions, and there is no kinematic model of {info.model!r}.",
                    "Choose a model that is known, or let the controller solve the kinematics.",
                )
            bounds, stops = joint_limits(limits, info), Region(limits, STOP_INSET_M)
            self._joints = JointLimiter(bounds, kinematics, stops, period_s)

    def reset(self, T_base_ee: Floats, q: Floats) -> None:
        """Begin at rest at a measured pose (4, 4) and joint positions (J,).

        Raises:
            DeviceError: the arm stands outside the workspace or inside a keep-out, so nothing may be sent.
        """
        if self._joints is not None:
            T_base_ee = self._joints.reset(q)
        position, orientation = _split(pose_of(T_base_ee))
        region, inner = self._region, self._inner()
        for each in (region, *inner):
            each.restore()
        if region.in_keep_out(position) or region.distance_m(position) < -TOLERANCE_M:
            where = "inside a keep-out" if region.in_keep_out(position) else "outside the workspace"
            raise DeviceError(
                "arm: its end effector stands {} at ({:.3f}, {:.3f}, {:.3f}) m.".format(where, *position),
                "Move it by hand, or correct the limits of the rig.",
            )
        region.widen(position)
        for tighter in inner:
            tighter.widen(position)
            if tighter.in_keep_out(position):  # right at one: no room for the inset
                tighter.keep_outs = region.keep_outs
        self._mover.reset(position, orientation)

    def _inner(self) -> tuple[Region, ...]:
        """Regions that are tighter than the limits."""
        return () if self._joints is None else (self._mover.region, self._joints.region)

    def step(self, target: Floats | None, speed_scale: float = 1.0, gripper: float | None = None) -> Setpoint:
        """Return the next setpoint.

        Args:
            target: (7,) pose to go to, or None to come to rest. What cannot be followed counts as None.
            speed_scale: share of the speed limits, 0..1.
            gripper: opening 0..1, passed on.
        """
        goal, held = self._goal(target)
        scale = min(max(speed_scale, 0.0), 1.0) if math.isfinite(speed_scale) else 0.0
        q = None
        if self._joints is None:
            held += self._mover.step(goal, scale)
            position, orientation = self._mover.place.x, self._mover.orientation
        else:
            more, q = self._joints.step(self._mover, goal, scale)
            held += more
            position, orientation = self._joints.position, self._joints.orientation
            self._joints.region.narrow(position)
        self._region.narrow(position)
        self._mover.region.narrow(self._mover.place.x)
        if gripper is not None:
            gripper = min(max(gripper, 0.0), 1.0) if math.isfinite(gripper) else None
        return Setpoint(pose=np.array((*position, *orientation)), q=q, gripper=gripper, limited=held)

    def _goal(self, target: Floats | None) -> tuple[Pose | None, tuple[str, ...]]:
        if target is None:
            return None, ()
        values = target.tolist()
        size = math.hypot(*values[3:]) if len(values) == 7 else 0.0
        if not (math.isfinite(size) and size > 0.5 and math.isfinite(sum(values))):
            return None, ("bad_target",)
        x, y, z, qw, qx, qy, qz = values
        position: Vector = (x, y, z)
        held: tuple[str, ...] = ()
        if not self._mover.region.inside(position, 0.0):
            position, held = self._mover.region.clamped(position), ("workspace",)
        return (position, (qw / size, qx / size, qy / size, qz / size)), held


def _split(pose: Floats) -> tuple[Vector, Quaternion]:
    x, y, z, qw, qx, qy, qz = pose.tolist()
    return (x, y, z), (qw, qx, qy, qz)
