"""Arm models by name: where the joints are, and what the vendor allows them.

Kinematics are nominal: they come from published tables, not from the calibration of one arm. Every model is a chain of
revolute joints about z, so a row of a table is enough: the placement of a joint in the frame of the one before it.
Units: metres and radians.

Sources: Universal Robots, "DH parameters for calculations of kinematics and dynamics" (standard Denavit-Hartenberg);
UFACTORY, xArm user manual, appendix "Kinematics" (modified Denavit-Hartenberg, Craig's); Franka Robotics, "Robot and
interface specifications" of the FR3 (Craig's); TheRobotStudio, URDF of the SO-101.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ConfigError, JointLimits
from cascade.contracts.errors import did_you_mean

Floats = NDArray[np.float64]
_RIGHT = math.pi / 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmModel:
    """A chain of J joints.

    Attributes:
        name: as in `DriverInfo.kinematics`.
        joint_names: J names, base first.
        placements: J arrays (4, 4): joint i at zero, in the frame of joint i - 1 (the base for the first).
        T_last_flange: (4, 4) flange in the frame of the last joint.
        joint_limits: the vendor's own, not yet tightened.
        rest_q: (J,) a pose in the middle of the reach, away from singularities, to start searches from.
    """

    name: str
    joint_names: tuple[str, ...]
    placements: tuple[Floats, ...]
    T_last_flange: Floats
    joint_limits: JointLimits
    rest_q: Floats

    @property
    def joints(self) -> int:
        """Number of joints J."""
        return len(self.joint_names)


def _about_x(angle: float) -> Floats:
    T = np.eye(4)
    c, s = math.cos(angle), math.sin(angle)
    T[1:3, 1:3] = [[c, -s], [s, c]]
    return T


def _about_z(angle: float) -> Floats:
    T = np.eye(4)
    c, s = math.cos(angle), math.sin(angle)
    T[:2, :2] = [[c, -s], [s, c]]
    return T


def _moved(x: float, y: float, z: float) -> Floats:
    T = np.eye(4)
    T[:3, 3] = (x, y, z)
    return T


def _standard_dh(rows: Iterable[tuple[float, float, float]]) -> tuple[tuple[Floats, ...], Floats]:
    """Placements and flange of standard DH rows (a, d, alpha): turn about z, d along z, a along x, alpha about x."""
    placements = [np.eye(4)]
    for a, d, alpha in rows:
        placements.append(_moved(a, 0.0, d) @ _about_x(alpha))
    return tuple(placements[:-1]), placements[-1]


def _modified_dh(rows: Iterable[tuple[float, float, float, float]]) -> tuple[Floats, ...]:
    """Placements of Craig's DH rows (alpha, a, d, offset): alpha about x, a along x, then turn about z, d along z."""
    return tuple(
        _about_x(alpha) @ _moved(a, 0.0, 0.0) @ _about_z(offset) @ _moved(0.0, 0.0, d) for alpha, a, d, offset in rows
    )


def _limits(
    lower: list[float], upper: list[float], speed: list[float], acceleration: float, jerk: float
) -> JointLimits:
    count = len(lower)
    return JointLimits(
        lower_rad=np.array(lower),
        upper_rad=np.array(upper),
        max_speed_rad_s=np.array(speed),
        max_acceleration_rad_s2=np.full(count, acceleration),
        max_jerk_rad_s3=np.full(count, jerk),
    )


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"joint{index + 1}" for index in range(count))


_UR_NAMES = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
_UR_REST = [0.0, -_RIGHT, _RIGHT, -_RIGHT, -_RIGHT, 0.0]
_UR_ACCELERATION, _UR_JERK = 15.0, 500.0


def _ur(name: str, lengths: tuple[float, float, float, float, float, float], speed_deg_s: list[float]) -> ArmModel:
    """A UR of the e-Series, in the frame of its controller (not of ROS, which is turned by half a turn about z).

    Positions and speeds are those of the user manual (±360 degrees). Universal Robots publishes no limit of joint
    acceleration or jerk; the values here are well inside what the arms do in their own programs.
    """
    d1, a2, a3, d4, d5, d6 = lengths
    placements, flange = _standard_dh(
        [(0, d1, _RIGHT), (a2, 0, 0), (a3, 0, 0), (0, d4, _RIGHT), (0, d5, -_RIGHT), (0, d6, 0)]
    )
    turn = 2 * math.pi
    speed = [math.radians(value) for value in speed_deg_s]
    return ArmModel(
        name=name,
        joint_names=_UR_NAMES,
        placements=placements,
        T_last_flange=flange,
        joint_limits=_limits([-turn] * 6, [turn] * 6, speed, _UR_ACCELERATION, _UR_JERK),
        rest_q=np.array(_UR_REST),
    )


def _ur3e() -> ArmModel:
    return _ur("ur3e", (0.15185, -0.24355, -0.2132, 0.13105, 0.08535, 0.0921), [180.0] * 3 + [360.0] * 3)


def _ur5e() -> ArmModel:
    return _ur("ur5e", (0.1625, -0.425, -0.3922, 0.1333, 0.0997, 0.0996), [180.0] * 6)


def _ur10e() -> ArmModel:
    return _ur("ur10e", (0.1807, -0.6127, -0.57155, 0.17415, 0.11985, 0.11655), [120.0] * 2 + [180.0] * 4)


_XARM_SPEED, _XARM_ACCELERATION, _XARM_JERK = math.pi, 20.0, 500.0
"""UFACTORY's manual: 180 deg/s, 1145 deg/s^2, 28647 deg/s^3 for every joint."""


def _xarm6() -> ArmModel:
    """Joint 2 and 3 carry an offset of atan(284.5 / 53.5), as the manual has it."""
    bend = math.atan2(0.2845, 0.0535)
    placements = _modified_dh(
        [
            (0, 0, 0.267, 0),
            (-_RIGHT, 0, 0, -bend),
            (0, math.hypot(0.2845, 0.0535), 0, bend),
            (-_RIGHT, 0.0775, 0.3425, 0),
            (_RIGHT, 0, 0, 0),
            (-_RIGHT, 0.076, 0.097, 0),
        ]
    )
    lower = [math.radians(value) for value in (-360, -118, -225, -360, -97, -360)]
    upper = [math.radians(value) for value in (360, 120, 11, 360, 180, 360)]
    return ArmModel(
        name="xarm6",
        joint_names=_numbered(6),
        placements=placements,
        T_last_flange=np.eye(4),
        joint_limits=_limits(lower, upper, [_XARM_SPEED] * 6, _XARM_ACCELERATION, _XARM_JERK),
        rest_q=np.array([0.0, -0.4, -0.8, 0.0, 1.2, 0.0]),
    )


def _xarm7() -> ArmModel:
    placements = _modified_dh(
        [
            (0, 0, 0.267, 0),
            (-_RIGHT, 0, 0, 0),
            (_RIGHT, 0, 0.293, 0),
            (_RIGHT, 0.0525, 0, 0),
            (_RIGHT, 0.0775, 0.3425, 0),
            (_RIGHT, 0, 0, 0),
            (-_RIGHT, 0.076, 0.097, 0),
        ]
    )
    lower = [math.radians(value) for value in (-360, -118, -360, -11, -360, -97, -360)]
    upper = [math.radians(value) for value in (360, 120, 360, 225, 360, 180, 360)]
    return ArmModel(
        name="xarm7",
        joint_names=_numbered(7),
        placements=placements,
        T_last_flange=np.eye(4),
        joint_limits=_limits(lower, upper, [_XARM_SPEED] * 7, _XARM_ACCELERATION, _XARM_JERK),
        rest_q=np.array([0.0, -0.4, 0.0, 0.8, 0.0, 1.2, 0.0]),
    )


def _fr3() -> ArmModel:
    """Franka Research 3; limits from "Robot and interface specifications": 10 rad/s^2 and 5000 rad/s^3 for every joint.

    Its speed limits shrink towards the ends of the range; the tightened ones (half the speed, 0.1 rad off) stay inside.
    """
    placements = _modified_dh(
        [
            (0, 0, 0.333, 0),
            (-_RIGHT, 0, 0, 0),
            (_RIGHT, 0, 0.316, 0),
            (_RIGHT, 0.0825, 0, 0),
            (-_RIGHT, -0.0825, 0.384, 0),
            (_RIGHT, 0, 0, 0),
            (_RIGHT, 0.088, 0, 0),
        ]
    )
    lower = [-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]
    upper = [2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]
    return ArmModel(
        name="fr3",
        joint_names=_numbered(7),
        placements=placements,
        T_last_flange=_moved(0.0, 0.0, 0.107),
        joint_limits=_limits(lower, upper, [2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26], 10.0, 5000.0),
        rest_q=np.array([0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, _RIGHT, math.pi / 4]),
    )


def _rpy(x: float, y: float, z: float, roll: float, pitch: float, yaw: float) -> Floats:
    """Placement of a URDF origin: turns about the fixed x, then y, then z."""
    about_y = np.eye(4)
    c, s = math.cos(pitch), math.sin(pitch)
    about_y[0, 0], about_y[0, 2], about_y[2, 0], about_y[2, 2] = c, s, -s, c
    return _moved(x, y, z) @ _about_z(yaw) @ about_y @ _about_x(roll)


def _so101() -> ArmModel:
    """SO-101 follower: five joints; the gripper is no part of the chain and its frame is the flange.

    Nominal: placements of the public URDF (zero in the middle of every joint's range). The arm is printed and its
    servos are zeroed by hand, so its calibration decides; expect millimetres to a centimetre of error without one.
    Speed is that of the STS3215 servo without load at 7.4 V (about 4.7 rad/s); acceleration and jerk are chosen, its
    data sheet names none.
    """
    placements = (
        _rpy(0.0388353, 0.0, 0.0624, math.pi, 0.0, -math.pi),
        _rpy(-0.0303992, -0.0182778, -0.0542, -_RIGHT, -_RIGHT, 0.0),
        _rpy(-0.11257, -0.028, 0.0, 0.0, 0.0, _RIGHT),
        _rpy(-0.1349, 0.0052, 0.0, 0.0, 0.0, -_RIGHT),
        _rpy(0.0, -0.0611, 0.0181, _RIGHT, 0.0486795, math.pi),
    )
    lower = [-1.91986, -1.74533, -1.69, -1.65806, -2.74385]
    upper = [1.91986, 1.74533, 1.69, 1.65806, 2.84121]
    return ArmModel(
        name="so101",
        joint_names=("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"),
        placements=placements,
        T_last_flange=_rpy(-0.0079, -0.000218121, -0.0981274, 0.0, math.pi, 0.0),
        joint_limits=_limits(lower, upper, [4.7] * 5, 40.0, 1000.0),
        rest_q=np.array([0.0, -0.6, 0.6, 0.8, 0.0]),
    )


_MODELS = {
    "ur3e": _ur3e,
    "ur5e": _ur5e,
    "ur10e": _ur10e,
    "xarm6": _xarm6,
    "xarm7": _xarm7,
    "fr3": _fr3,
    "so101": _so101,
}

MODEL_NAMES = tuple(_MODELS)
"""Names that `arm_model` knows."""


def arm_model(name: str) -> ArmModel:
    """Return the model of a name, such as 'ur5e'; raises ConfigError when there is none."""
    if name not in _MODELS:
        raise ConfigError(f"arm model {name!r}: not known.", did_you_mean(name, _MODELS))
    return _MODELS[name]()
