"""Forward and inverse kinematics of the known arms, quick enough for every control cycle (pinocchio).

Damped least squares after Nakamura and Hanafusa (1986), the damping growing as the smallest singular value falls
(Chiaverini 1997). Lengths are metres and angles radians in one Jacobian, as is: a singular value of 0.02 is 2 cm/s or
0.02 rad/s of the end effector for 1 rad/s of the joints.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DeviceError, JointLimits
from robot_io.process.models import ArmModel, arm_model

Floats = NDArray[np.float64]

SIGMA_MIN = 0.02
"""Below this smallest singular value an arm counts as singular: it has lost a direction of motion."""
SIGMA_DAMPED = 0.06
"""Below this one, damping begins."""
_DAMPING = 0.04
_REACHED_M, _REACHED_RAD = 2e-4, 2e-3
_STEPS, _STEP_RAD = 40, 0.4  # of one search for joints
_STALLED = 6  # steps within which a search has to get a tenth nearer


def _pinocchio() -> Any:
    try:
        import pinocchio
    except ImportError as error:
        raise DeviceError(
            "inverse kinematics need the package 'pin', which is not installed.",
            'Run: pip install "cascade-wam[kinematics]"',
        ) from error
    return pinocchio


class Kinematics:
    """Kinematics of one arm with its tool; not thread-safe (it computes in place).

    Attributes:
        reach_m: length of the chain: a joint that turns by an angle moves the end effector by at most this times it.
        tracks_rotation: whether it has enough joints for any orientation.
        sigma: smallest singular value where the last step began.
        error: (6,) way to the target there [m, rad].

    Args:
        model: name as in `robot_io.process.models`, or a model of your own.
        T_flange_ee: (4, 4) end effector in the frame of the flange; None: the flange itself.

    Raises:
        ConfigError: the name is not known.
        DeviceError: pinocchio is not installed.
    """

    def __init__(self, model: str | ArmModel, T_flange_ee: Floats | None = None) -> None:
        from scipy.linalg import lapack

        pin = _pinocchio()
        self.arm = arm_model(model) if isinstance(model, str) else model
        self._pin, self._dgesdd, self._dposv = pin, lapack.dgesdd, lapack.dposv
        self._model = pin.Model()
        parent = 0
        for name, placement in zip(self.arm.joint_names, self.arm.placements, strict=True):
            parent = self._model.addJoint(parent, pin.JointModelRZ(), pin.SE3(placement), name)
        tool = self.arm.T_last_flange if T_flange_ee is None else self.arm.T_last_flange @ T_flange_ee
        self._model.addFrame(pin.Frame("ee", parent, 0, pin.SE3(tool), pin.FrameType.OP_FRAME))
        self._ee = self._model.getFrameId("ee")
        self._data = self._model.createData()
        self._axes = pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        self.reach_m = float(sum(np.linalg.norm(T[:3, 3]) for T in (*self.arm.placements[1:], tool)))
        self.tracks_rotation = self.arm.joints >= 6
        self.sigma = math.inf
        self.error = np.zeros(6)

    @property
    def joints(self) -> int:
        """Number of joints J."""
        return self.arm.joints

    def forward(self, q: Floats) -> Floats:
        """(4, 4) T_base_ee at joint positions (J,) [rad]."""
        self._pin.forwardKinematics(self._model, self._data, q)
        placed: Floats = self._pin.updateFramePlacement(self._model, self._data, self._ee).homogeneous
        return placed

    def position(self, q: Floats) -> list[float]:
        """Position of the end effector [m]; quicker than `forward`."""
        self._pin.forwardKinematics(self._model, self._data, q)
        where: list[float] = self._pin.updateFramePlacement(self._model, self._data, self._ee).translation.tolist()
        return where

    def pose(self, q: Floats) -> list[float]:
        """Pose of the end effector, xyz [m] + quaternion wxyz; quicker than `forward`."""
        self._pin.forwardKinematics(self._model, self._data, q)
        placed = self._pin.updateFramePlacement(self._model, self._data, self._ee)
        x, y, z, w = self._pin.Quaternion(placed.rotation).coeffs().tolist()
        return [*placed.translation.tolist(), w, x, y, z]

    def jacobian(self, q: Floats) -> Floats:
        """(6, J) of the end effector's velocity (m/s, rad/s) in base axes."""
        J: Floats = self._pin.computeFrameJacobian(self._model, self._data, q, self._ee, self._axes)
        return J

    def singular_value(self, q: Floats) -> float:
        """Smallest singular value of the Jacobian; of its three rows of position for arms of fewer than six joints."""
        return self._smallest(self.jacobian(q))

    def _smallest(self, J: Floats) -> float:
        _, values, _, _ = self._dgesdd(J if self.tracks_rotation else J[:3], compute_uv=0)
        return float(values[-1])

    def solve_step(self, q: Floats, T_target: Floats, dt: float, joint_limits: JointLimits) -> tuple[Floats, bool]:
        """One damped step from `q` towards a pose; returns (next joint positions (J,), whether limits cut it short).

        The step is shortened as a whole, direction kept, so that no joint is faster than its limit within `dt`, and
        then cut off at the limits of position. Arms of fewer than six joints go for the position first and turn as
        far as that leaves freedom. Afterwards `sigma` is the smallest singular value at `q`, and `error` (6,) the way
        to the target before the step [m, rad].
        """
        dq = self._direction(q, T_target)
        ratio = float((np.abs(dq) / joint_limits.max_speed_rad_s).max()) / dt
        clipped = ratio > 1.0
        goal = q + (dq / ratio if clipped else dq)
        bounded = np.minimum(np.maximum(goal, joint_limits.lower_rad), joint_limits.upper_rad)
        return bounded, clipped or bool((bounded != goal).any())

    def _direction(self, q: Floats, T_target: Floats) -> Floats:
        J = self.jacobian(q)
        placed = self._pin.updateFramePlacement(self._model, self._data, self._ee)
        self.error[:3] = T_target[:3, 3] - placed.translation
        self.error[3:] = self._pin.log3(T_target[:3, :3] @ placed.rotation.T)
        self.sigma = self._smallest(J)
        short = 1.0 - min(self.sigma / SIGMA_DAMPED, 1.0)
        damping = (_DAMPING * short) ** 2 + 1e-10
        if self.tracks_rotation:
            return self._least(J, self.error, damping)
        return self._position_first(J, damping)

    def _least(self, J: Floats, error: Floats, damping: float) -> Floats:
        A = J @ J.T
        A.flat[:: len(A) + 1] += damping
        _, x, _ = self._dposv(A, error)
        step: Floats = J.T @ x
        return step

    def _position_first(self, J: Floats, damping: float) -> Floats:
        """Rotation in the null space of the position (Nakamura, Hanafusa and Yoshikawa 1987)."""
        Jp, Jr = J[:3], J[3:]
        A = Jp @ Jp.T
        A.flat[::4] += damping
        _, solved, _ = self._dposv(A, np.column_stack([self.error[:3], Jp]))
        dq: Floats = Jp.T @ solved[:, 0]
        N: Floats = -Jp.T @ solved[:, 1:]
        N.flat[:: len(N) + 1] += 1.0
        turned = self._least(Jr @ N, self.error[3:] - Jr @ dq, 1e-3)
        step: Floats = dq + N @ turned
        return step

    def reachable(
        self, T: Floats, q_seed: Floats, joint_limits: JointLimits | None = None, *, restarts: int = 3
    ) -> Floats | None:
        """Joint positions (J,) that reach a pose, inside the limits of position, or None when none were found.

        Args:
            T: (4, 4) pose of the end effector; arms of fewer than six joints need only reach its position.
            q_seed: (J,) where the search begins; the answer is usually near.
            joint_limits: None: the vendor's.
            restarts: further searches, from the model's resting pose and from fixed random ones; each is at most 40
                steps, a few milliseconds. With 0 the answer is a continuous motion away from the seed.
        """
        limits = joint_limits or self.arm.joint_limits
        generator = np.random.default_rng(0)
        span = np.minimum(limits.upper_rad - limits.lower_rad, 2 * math.pi)
        for attempt in range(restarts + 1):
            if attempt == 0:
                start = np.array(q_seed, dtype=np.float64)
            elif attempt == 1:
                start = self.arm.rest_q.copy()
            else:
                middle = (limits.upper_rad + limits.lower_rad) / 2
                start = middle + (generator.random(self.joints) - 0.5) * span
            found = self._search(T, start, limits)
            if found is not None:
                return found
        return None

    def _search(self, T: Floats, q: Floats, limits: JointLimits) -> Floats | None:
        before = math.inf
        for step in range(_STEPS):
            dq = self._direction(q, T)
            if self._reached():
                return q if np.all(q >= limits.lower_rad - 1e-9) and np.all(q <= limits.upper_rad + 1e-9) else None
            if step % _STALLED == 0:
                left = float(np.abs(self.error).max() if self.tracks_rotation else np.abs(self.error[:3]).max())
                if left > 0.9 * before:
                    return None
                before = left
            largest = float(np.abs(dq).max())
            q = q + dq * min(1.0, _STEP_RAD / largest) if largest > 0 else q
            q = np.clip(q, limits.lower_rad, limits.upper_rad)
        self._direction(q, T)
        return q if self._reached() else None

    def _reached(self) -> bool:
        if float(np.linalg.norm(self.error[:3])) > _REACHED_M:
            return False
        return not self.tracks_rotation or float(np.linalg.norm(self.error[3:])) <= _REACHED_RAD
