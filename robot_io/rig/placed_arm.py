"""An arm seen from the rig: in the rig's base frame, and by the frame of its hand."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmEvent, ArmSpec, ArmState, DataError, DeviceError, Lateness, Limits, Pressed

Floats = NDArray[np.float64]


class Placement:
    """The two transforms between the rig's view of an arm and the arm's own.

    Args:
        T_base_robot: (4, 4) the arm's own base in the rig's base frame, turned by right angles.
        T_ee_hand: (4, 4) the hand in the arm's end-effector frame; a rotation alone, since both have one origin.
    """

    def __init__(self, T_base_robot: Floats, T_ee_hand: Floats) -> None:
        self.T_base_robot, self.T_ee_hand = T_base_robot, T_ee_hand
        self._T_robot_base = np.asarray(np.linalg.inv(T_base_robot), dtype=np.float64)
        self._T_hand_ee = np.asarray(np.linalg.inv(T_ee_hand), dtype=np.float64)

    def to_robot(self, T_base_hand: Floats) -> Floats:
        """Return the arm's own end-effector pose for a pose of the hand."""
        pose: Floats = self._T_robot_base @ T_base_hand @ self._T_hand_ee
        return pose

    def to_base(self, T_robot_ee: Floats) -> Floats:
        """Return the pose of the hand in the rig's base frame for the arm's own pose."""
        pose: Floats = self.T_base_robot @ T_robot_ee @ self.T_ee_hand
        return pose

    def limits_to_robot(self, limits: Limits) -> Limits:
        """Return limits whose boxes are in the arm's own base frame."""
        boxes = tuple(self._box(box) for box in limits.keep_outs_m)
        return replace(limits, workspace_m=self._box(limits.workspace_m), keep_outs_m=boxes)

    def _box(self, box: Floats) -> Floats:
        corners: Floats = box @ self._T_robot_base[:3, :3].T + self._T_robot_base[:3, 3]
        limits: Floats = np.stack([corners.min(axis=0), corners.max(axis=0)])
        return limits

    def state_to_base(self, state: ArmState) -> ArmState:
        """Return an arm's state as the rig sees it."""
        R = self.T_base_robot[:3, :3]
        turned: dict[str, Any] = {"T_base_ee": self.to_base(state.T_base_ee)}
        for name in ("twist", "wrench"):
            value = getattr(state, name)
            if value is not None:
                turned[name] = np.concatenate([R @ value[:3], R @ value[3:]])
        if state.setpoint is not None:
            turned["setpoint"] = target_of(self.to_base(pose_of(state.setpoint)))
        return replace(state, **turned)


class PlacedArm:
    """The rig's arm: the arm process in the rig's base frame (a `cascade.contracts.ArmableArm`).

    Args:
        spec: what the rig says of it; limits in the rig's base frame.
        placement: where it stands.
    """

    def __init__(self, spec: ArmSpec, placement: Placement) -> None:
        self._spec, self._placement = spec, placement
        self._arm: Any = None
        self._gripper: float | None = None

    @property
    def spec(self) -> ArmSpec:
        """Name, joints, control rate and limits."""
        return self._spec

    @property
    def process(self) -> Any:
        """The arm process; raises DeviceError before it is connected."""
        if self._arm is None:
            raise DeviceError(f"arm {self._spec.name!r}: not connected.", "Enter the rig first.")
        return self._arm

    def attach(self, process: Any) -> None:
        """Use this arm process, or none."""
        self._arm = process

    def __enter__(self) -> Self:
        """Nothing to do: the rig connects it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def read(self) -> ArmState:
        """Measured state now, in the rig's base frame; raises DeviceError when it is stale."""
        return self._placement.state_to_base(self.process.read())

    def send(self, target: Floats, gripper: float) -> Floats:
        """Pass one target (7,) xyz [m] + quaternion wxyz of the hand to the arm process.

        Returns the target as the arm will follow it.

        Raises:
            DataError: NaN, wrong shape, no unit quaternion.
            DeviceError: the arm does not take targets now.
        """
        asked = np.asarray(target, dtype=np.float64)
        if asked.shape != (7,):
            raise DataError(f"arm.send: expected a target of shape (7,), found {asked.shape}.", "xyz + quaternion.")
        if not np.isfinite(asked).all() or not np.isfinite(gripper):
            raise DataError("arm.send: expected finite numbers, found NaN or infinity.", "The arm goes on as before.")
        if abs(np.linalg.norm(asked[3:]) - 1) > 1e-2:
            raise DataError("arm.send: expected a unit quaternion wxyz in target[3:].")
        self._gripper = gripper
        sent = self.process.send(target_of(self._placement.to_robot(pose_of(asked))), gripper)
        return target_of(self._placement.to_base(pose_of(np.asarray(sent, dtype=np.float64))))

    def connect(self, timeout_s: float = 5.0) -> None:
        """Nothing to do: the rig connects it."""

    def arm(self, deadman: Pressed | None = None) -> None:
        """Make ready to move; raises DeviceError when it is in fault or its state is stale."""
        self.process.arm(deadman)

    def stay(self) -> None:
        """Ask the arm to stay where it was last sent, gripper as last told, so that its hold does not run out."""
        state = self.process.read()
        here = target_of(state.T_base_ee) if state.setpoint is None else state.setpoint
        self.process.send(here, state.gripper_opening if self._gripper is None else self._gripper)

    def disarm(self) -> None:
        """Stop, wait for standstill, refuse targets from now on."""
        self.process.disarm()

    def clear_fault(self, token: str) -> None:
        """Clear the latched fault that carries this token; never clears an emergency stop, never re-arms."""
        self.process.clear_fault(token)

    def events(self) -> list[ArmEvent]:
        """What happened since the last call, oldest first."""
        found: list[ArmEvent] = self.process.events()
        return found

    def lateness(self) -> Lateness:
        """How late the control cycles began, lately."""
        found: Lateness = self.process.lateness()
        return found

    def stop(self) -> None:
        """Hold here; any thread, idempotent, never raises."""
        if self._arm is not None:
            self._arm.stop()


def pose_of(target: Floats) -> Floats:
    """(4, 4) pose of a target (7,) xyz + quaternion wxyz."""
    from scipy.spatial.transform import Rotation

    w, x, y, z = target[3:] / np.linalg.norm(target[3:])
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix()
    T[:3, 3] = target[:3]
    return T


def target_of(T: Floats) -> Floats:
    """(7,) xyz + quaternion wxyz, w >= 0, of a (4, 4) pose."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(T[:3, :3]).as_quat()
    q = np.array([w, x, y, z])
    return np.concatenate([T[:3, 3], q if w >= 0 else -q])
