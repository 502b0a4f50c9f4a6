"""The simulated Sawyer as an arm."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ActionSpace, ArmMode, ArmSpec, ArmState, DataError, Limits
from robot_io.sim.clock import FrozenClock, MirrorClock, RealtimeClock
from robot_io.sim.driver import GAIN, action_towards
from robot_io.sim.process import SimProcess
from robot_io.sim.world import ARM_JOINTS, CONTROL_HZ, World

Floats = NDArray[np.float64]

__all__ = ["GAIN", "SimArm", "quaternion_of", "rotation_of"]


def rotation_of(quaternion: Floats) -> Floats:
    """(3, 3) rotation of a unit quaternion wxyz."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(R: Floats) -> Floats:
    """Unit quaternion wxyz with w >= 0 of a (3, 3) rotation."""
    K = np.array(
        [
            [R[0, 0] - R[1, 1] - R[2, 2], 0, 0, 0],
            [R[0, 1] + R[1, 0], R[1, 1] - R[0, 0] - R[2, 2], 0, 0],
            [R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], R[2, 2] - R[0, 0] - R[1, 1], 0],
            [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], R.trace()],
        ]
    )
    x, y, z, w = np.linalg.eigh(K, UPLO="L")[1][:, -1]
    q = np.array([w, x, y, z])
    return -q if q[0] < 0 else q


class SimArm:
    """Meta-World's Sawyer: a proportional position controller on its hand, and a gripper driven by force.

    Meta-World holds the orientation of the hand. A target's rotation is accepted when it is within
    `limits.max_rotation_rad` of the held one (not of the measured one, which tilts in contact) and has no further
    effect. The gripper's opening becomes a force, 0 closing fully, 1 opening fully, 0.5 none; so a gripper told to
    close holds what is between its fingers.

    Args:
        world: where the hand is.
        limits: of the rig.
        process: the arm process that moves it; None: the rig moves it in this process.
    """

    def __init__(self, world: World, limits: Limits, process: SimProcess | None = None) -> None:
        self._world, self._process = world, process
        self._limits = limits
        self._target_m: Floats | None = None
        self._gripper = 1.0
        self._clock: FrozenClock | MirrorClock | RealtimeClock | None = None
        self._spec = ArmSpec(
            name="sawyer", joint_names=ARM_JOINTS, accepts=ActionSpace(), control_hz=CONTROL_HZ, limits=limits
        )

    @property
    def spec(self) -> ArmSpec:
        """Name, joints, control rate and limits."""
        return self._spec

    def attach(self, clock: FrozenClock | MirrorClock | RealtimeClock) -> None:
        """Tell the arm the clock that stamps its states."""
        self._clock = clock

    def begin(self) -> None:
        """An episode begins: hold here, gripper open."""
        self._target_m, self._gripper = None, 1.0

    def __enter__(self) -> Self:
        """Connect: nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def read(self) -> ArmState:
        """Measured state now."""
        if self._clock is not None:
            self._clock.catch_up()
        return ArmState(
            q=self._world.joints_rad,
            T_base_ee=self._world.T_base_ee,
            gripper_opening=self._world.opening,
            stamp_s=self._clock.now_s() if self._clock is not None else 0.0,
            mode=self._mode(),
            faults=() if self._process is None else self._process.arm.faults,
        )

    def _mode(self) -> ArmMode:
        if self._process is not None:
            return self._process.arm.mode
        return ArmMode.HOLD if self._target_m is None else ArmMode.MOVING

    def send(self, target: Floats, gripper: float) -> Floats:
        """Accept one target (7,) xyz [m] + quaternion wxyz for the point between the fingers, and an opening 0..1.

        Returns the target as sent: inside the workspace, with the held orientation.

        Raises:
            DataError: NaN, wrong shape, or a rotation farther than `max_rotation_rad` from the held one.
            DeviceError: the arm is in fault, or its process has ended.
        """
        asked = np.asarray(target, dtype=np.float64)
        if asked.shape != (7,):
            raise DataError(f"arm.send: expected a target of shape (7,), found {asked.shape}.", "xyz + quaternion.")
        if not np.isfinite(asked).all() or not np.isfinite(gripper):
            raise DataError("arm.send: expected finite numbers, found NaN or infinity.", "The arm goes on as before.")
        if not -1e-6 <= gripper <= 1 + 1e-6:
            raise DataError(f"arm.send: expected a gripper opening in 0..1, found {gripper:.3g}.")
        if abs(np.linalg.norm(asked[3:]) - 1) > 1e-2:
            raise DataError("arm.send: expected a unit quaternion wxyz in target[3:].")
        R = rotation_of(self._world.held_quaternion)
        angle = float(np.arccos(np.clip(((rotation_of(asked[3:]) * R).sum() - 1) / 2, -1.0, 1.0)))
        if angle > self._limits.max_rotation_rad:
            raise DataError(
                f"arm.send: expected a rotation within {self._limits.max_rotation_rad:.2f} rad of the held one, "
                f"found {angle:.2f} rad.",
                "Meta-World holds the hand's orientation: send the one it begins with.",
            )
        position = np.clip(asked[:3], self._limits.workspace_m[0], self._limits.workspace_m[1])
        sent = np.concatenate([position, quaternion_of(R)])
        self._gripper = float(np.clip(gripper, 0.0, 1.0))
        if self._process is not None:
            return self._process.arm.send(sent, self._gripper)
        self._target_m = position
        return sent

    def stop(self) -> None:
        """Hold here with the gripper as it was last told; any thread, never raises."""
        self._target_m = None
        if self._process is not None:
            self._process.arm.stop()

    def action(self) -> Floats:
        """Meta-World's action (4,) towards the latest target, where the rig moves the arm in this process."""
        return action_towards(self._target_m, self._world.T_base_ee[:3, 3], self._gripper)
