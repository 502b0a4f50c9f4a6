"""Going to a pose in a straight line, at the arm's own limits, and arriving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmMode, DeviceError
from robot_io.rig.clock import WallClock
from robot_io.rig.placed_arm import PlacedArm, pose_of, target_of

Floats = NDArray[np.float64]

NEAR_M, NEAR_RAD = 0.004, 0.02
PATIENCE_S = 3.0  # without getting nearer
PROGRESS = 0.002  # what counts as nearer [m + rad]


def go_to(arm: PlacedArm, clock: WallClock, target: Floats, gripper: float = 1.0) -> None:
    """Move the arm to a target (7,) in steps it accepts, and wait until it is there.

    Raises:
        DeviceError: it stops on the way, or does not arrive.
    """
    limits = arm.spec.limits
    start = target_of(arm.read().T_base_ee)
    way_m, turn_rad = _apart(start, target)
    step_m, step_rad = 0.5 * limits.max_step_m, 0.5 * limits.max_rotation_rad
    pieces = max(1, int(np.ceil(max(way_m / step_m, turn_rad / step_rad))))
    path = [_between(start, target, (index + 1) / pieces) for index in range(pieces)]
    index, nearest, nearer_s = 0, way_m + turn_rad, clock.now_s()
    while True:
        arm.send(path[index], gripper)
        clock.tick()
        state = arm.read()
        if state.mode in (ArmMode.FAULT, ArmMode.ESTOP):
            raise DeviceError(f"arm {arm.spec.name!r}: in fault on its way home ({'; '.join(map(str, state.faults))}).")
        left_m, left_rad = _apart(target_of(state.T_base_ee), path[index])
        if index + 1 < pieces and left_m < 0.5 * step_m and left_rad < 0.5 * step_rad:
            index += 1
        elif index + 1 == pieces and left_m < NEAR_M and left_rad < NEAR_RAD:
            return
        far_m, far_rad = _apart(target_of(state.T_base_ee), target)
        if far_m + far_rad < nearest - PROGRESS:
            nearest, nearer_s = far_m + far_rad, clock.now_s()
        if clock.now_s() > nearer_s + PATIENCE_S:
            raise DeviceError(
                f"arm {arm.spec.name!r}: expected it at its start pose, found that it stands {far_m:.3f} m and "
                f"{far_rad:.2f} rad short.",
                "Is the pose within its reach and workspace? See the home, mount and tool of the rig.",
            )


def _apart(a: Floats, b: Floats) -> tuple[float, float]:
    cosine = min(1.0, abs(float(np.dot(a[3:], b[3:]))))
    return float(np.linalg.norm(a[:3] - b[:3])), float(2 * np.arccos(cosine))


def _between(a: Floats, b: Floats, share: float) -> Floats:
    from scipy.spatial.transform import Rotation

    A, B = pose_of(a), pose_of(b)
    turn = Rotation.from_matrix(B[:3, :3] @ A[:3, :3].T).as_rotvec()
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(share * turn).as_matrix() @ A[:3, :3]
    T[:3, 3] = A[:3, 3] + share * (B[:3, 3] - A[:3, 3])
    return target_of(T)
