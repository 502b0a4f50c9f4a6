"""The arm behind the emulated UR controller: six joints, their motions, its safety and its power, in steps of 2 ms.

Dynamics are a caricature and meant to be: `servoj` is a critically damped follower that lags by its look-ahead time,
stops are constant decelerations. Units: m, rad, s; poses are UR's (xyz and rotation vector).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from robot_io.loopback.ur_kinematics import Kinematics, rotation, rotation_vector, transform, ur_pose

Floats = NDArray[np.float64]

DT_S = 0.002
HOME = np.array([0.0, -1.5708, 1.5708, -1.5708, -1.5708, 0.0])
_JOINT_ACCELERATION = 40.0  # rad/s^2, the most that the controller gives
_HARD_STOP = 20.0  # rad/s^2

ROBOT_MODES = {3: "POWER_OFF", 5: "IDLE", 7: "RUNNING"}
SAFETY_BITS = {
    "normal": 0,
    "reduced": 1,
    "protective_stop": 2,
    "safeguard_stop": 4,
    "emergency_stop": 7,
    "violation": 8,
    "fault": 9,
}
_SAFETY_MODES = {
    "fault": 9,
    "violation": 8,
    "emergency_stop": 7,
    "safeguard_stop": 5,
    "protective_stop": 3,
    "reduced": 2,
}


@dataclass(frozen=True, slots=True)
class Servo:
    """`servoj`: follow a joint target (6,), lagging by `lookahead_s`."""

    target: Floats
    lookahead_s: float
    gain: float


@dataclass(frozen=True, slots=True)
class SpeedTcp:
    """`speedl`: a twist (6,) in the base frame, reached with an acceleration [m/s^2]."""

    twist: Floats
    acceleration: float


@dataclass(frozen=True, slots=True)
class SpeedJoints:
    """`speedj`, and `stopj` with zeros: joint speeds (6,), reached with an acceleration [rad/s^2]."""

    qd: Floats
    acceleration: float


@dataclass(frozen=True, slots=True)
class StopTcp:
    """`stopl`: slow the tool down along its path [m/s^2]."""

    deceleration: float


@dataclass(frozen=True, slots=True)
class MoveJoints:
    """`movej`: to joints (6,), all arriving together."""

    target: Floats
    speed: float
    acceleration: float


@dataclass(frozen=True, slots=True)
class MoveLine:
    """`movel`: to a UR pose (6,) on a straight line."""

    pose: Floats
    speed: float
    acceleration: float


Motion = Servo | SpeedTcp | SpeedJoints | StopTcp | MoveJoints | MoveLine
STAND = SpeedJoints(np.zeros(6), 4.0)


class World:
    """One arm and the state of its controller, apart from any program."""

    def __init__(self, model: str, q: Floats | None = None) -> None:
        self.model = model
        self.kinematics = Kinematics(model)
        self.q = np.array(HOME if q is None else q, dtype=np.float64)
        self.qd = np.zeros(6)
        self.target_q = self.q.copy()
        self.time_s = 0.0
        self.timestamp_s = 0.0
        self.timestamp_frozen = False
        self.motion: Motion = STAND
        self.tcp_offset = np.zeros(6)
        self.payload_kg, self.payload_cog_m = 0.0, np.zeros(3)
        self.wrench = np.zeros(6)
        self.robot_mode = 7
        self.remote = True
        self.stops: set[str] = set()  # names of SAFETY_BITS that are set, apart from 'normal'
        self.stopped_at_s = 0.0
        self.no_inverse = False
        # Where the tool was, 60 s of it: (monotonic time is added by the controller's loop).
        self.trace: deque[tuple[float, ...]] = deque(maxlen=30_000)
        self._twist = np.zeros(6)
        self._refresh()

    def _refresh(self) -> None:
        self.T_base_tcp, self.J = self.kinematics.forward(self.q, transform(self.tcp_offset))
        self.pose = ur_pose(self.T_base_tcp)
        self.twist = self.J @ self.qd
        self.where = (*self.pose.tolist(), *self.q.tolist())

    @property
    def free(self) -> bool:
        """Whether brakes are off and no stop is active."""
        return self.robot_mode == 7 and not (self.stops - {"reduced"})

    @property
    def safety_bits(self) -> int:
        """`safety_status_bits` as RTDE reports them."""
        bits = sum(1 << SAFETY_BITS[name] for name in self.stops)
        return bits | 1 if not (self.stops - {"reduced"}) else bits | (1 << 10)

    @property
    def safety_mode(self) -> int:
        """`safety_mode` as RTDE reports it."""
        return next((code for name, code in _SAFETY_MODES.items() if name in self.stops), 1)

    @property
    def still(self) -> bool:
        """Whether the arm stands."""
        return bool(np.abs(self.qd).max() < 1e-6)

    def set_stop(self, name: str, on: bool) -> None:
        """Set or clear one bit of the safety state, with what follows for the power of the arm."""
        if on:
            self.stops.add(name)
            self.stopped_at_s = self.time_s
            self.motion = STAND
            if name in ("emergency_stop", "fault", "violation"):
                self.robot_mode = 3
        else:
            self.stops.discard(name)

    def inverse(self, pose: Floats) -> Floats | None:
        """`get_inverse_kin` near the present joints; None where the real one ends the program."""
        if self.no_inverse:
            return None
        return self.kinematics.inverse(pose, self.q, transform(self.tcp_offset))

    def place(self, q: Floats) -> None:
        """Put the arm at joints (6,) at once."""
        self.q, self.qd, self.motion = np.array(q, dtype=np.float64), np.zeros(6), STAND
        self._refresh()

    def set_tcp(self, offset: Floats) -> None:
        """`set_tcp`: pose (6,) of the tool centre point in the flange's frame."""
        self.tcp_offset = np.array(offset, dtype=np.float64)
        self._refresh()

    def arrived(self) -> bool:
        """Whether the present motion, if it has an end, has come to it."""
        match self.motion:
            case MoveJoints(target=target):
                return bool(np.abs(self.q - target).max() < 1e-4 and self.still)
            case MoveLine(pose=pose):
                return bool(np.abs(pose[:3] - self.pose[:3]).max() < 1e-4 and np.abs(self.qd).max() < 1e-3)
            case StopTcp() | SpeedJoints():
                return self.still
            case _:
                return False

    def step(self) -> None:
        """Advance by 2 ms."""
        self.time_s += DT_S
        if not self.timestamp_frozen:
            self.timestamp_s = self.time_s
        if self.free:
            qd = self._speeds()
        elif self.robot_mode == 7:
            qd = self._toward(np.zeros(6), _HARD_STOP)
        else:
            qd = np.zeros(6)  # the brakes
        if not isinstance(self.motion, SpeedTcp):
            self._twist = self.twist
        if float(np.abs(qd).max()) < 1e-9 and not self.qd.any():
            return  # it stands: nothing to work out
        self.qd = np.clip(qd, -self.kinematics.max_speed, self.kinematics.max_speed)
        self.qd[np.abs(self.qd) < 1e-9] = 0.0
        self.q = self.q + self.qd * DT_S
        self._refresh()

    def _toward(self, qd: Floats, acceleration: float) -> Floats:
        change = acceleration * DT_S
        result: Floats = self.qd + np.clip(qd - self.qd, -change, change)
        return result

    def _speeds(self) -> Floats:
        motion = self.motion
        match motion:
            case Servo():
                self.target_q = motion.target
                omega = 2.0 / motion.lookahead_s * sqrt(max(0.5, min(2.0, motion.gain / 300.0)))
                acceleration = omega * omega * (motion.target - self.q) - 2 * omega * self.qd
                return self.qd + np.clip(acceleration, -_JOINT_ACCELERATION, _JOINT_ACCELERATION) * DT_S
            case SpeedTcp():
                size = max(1e-9, float(np.linalg.norm(motion.twist - self._twist)))
                self._twist = self._twist + (motion.twist - self._twist) * min(1.0, motion.acceleration * DT_S / size)
                return self._joint_speeds(self._twist)
            case SpeedJoints():
                return self._toward(motion.qd, motion.acceleration)
            case StopTcp():
                speed = float(np.linalg.norm(self.twist[:3])) + float(np.linalg.norm(self.twist[3:])) * 0.1
                return self.qd * max(0.0, 1.0 - motion.deceleration * DT_S / speed) if speed > 1e-6 else np.zeros(6)
            case MoveJoints():
                return self._move_joints(motion)
            case MoveLine():
                return self._move_line(motion)

    def _joint_speeds(self, twist: Floats) -> Floats:
        J = self.J
        result: Floats = J.T @ np.linalg.solve(J @ J.T + 1e-6 * np.eye(6), twist)
        return result

    def _move_joints(self, motion: MoveJoints) -> Floats:
        rest = motion.target - self.q
        far = float(np.abs(rest).max())
        if far < 1e-5:
            return np.zeros(6)
        # One step before the end the remaining way is gone in that step.
        speed = min(motion.speed, sqrt(2 * motion.acceleration * far), far / DT_S)
        return self._toward(rest / far * speed, max(motion.acceleration, speed / DT_S if far < 1e-4 else 0.0))

    def _move_line(self, motion: MoveLine) -> Floats:
        goal = rotation(motion.pose[3:])
        turn = rotation_vector(goal @ self.T_base_tcp[:3, :3].T)
        rest = np.concatenate([motion.pose[:3] - self.pose[:3], turn])
        far = max(float(np.linalg.norm(rest[:3])), 0.5 * float(np.linalg.norm(turn)))
        if far < 1e-5:
            return np.zeros(6)
        speed = min(motion.speed, sqrt(2 * motion.acceleration * far), 0.2 * far / DT_S)
        now = float(np.linalg.norm(self.twist[:3]))
        return self._joint_speeds(rest / far * min(speed, now + motion.acceleration * DT_S))
