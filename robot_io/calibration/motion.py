"""Small slow motions around where the arm stands, for calibrations during which it moves by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Rig

Floats = NDArray[np.float64]
SETTLE_S = 0.8
ANGULAR_SPEED_RAD_S = 0.25


def turn_deg(a: Floats, b: Floats) -> float:
    """Return the angle between two (4, 4) poses [deg]."""
    cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def places_around(T_base_ee: Floats, count: int, tilt_deg: float, shift_m: float) -> list[Floats]:
    """Return `count` poses (4, 4) around one: tilts about changing axes with shifts in changing directions.

    The first is the pose itself. The axes go round in the golden angle, so that any number of them is well spread.
    """
    from scipy.spatial.transform import Rotation

    places = [np.array(T_base_ee, dtype=np.float64)]
    for n in range(1, count):
        angle, size = n * np.pi * (3 - np.sqrt(5)), np.radians(tilt_deg) * (0.6 + 0.4 * (n % 2))
        axis = np.array([np.cos(angle), np.sin(angle), 0.8 * np.sin(2.3 * n)])
        place = np.array(T_base_ee, dtype=np.float64)
        place[:3, :3] = place[:3, :3] @ Rotation.from_rotvec(axis / np.linalg.norm(axis) * size).as_matrix()
        place[:3, 3] += shift_m * np.array([np.sin(1.7 * n), np.cos(2.9 * n), 0.6 * np.sin(4.1 * n)])
        places.append(place)
    return places


def inside(rig: Rig, place: Floats) -> bool:
    """Return whether a (4, 4) pose lies inside the workspace, its margin taken off."""
    limits = rig.arm.spec.limits
    low, high = limits.workspace_m + limits.margin_m * np.array([[1.0], [-1.0]])
    return bool(np.all(place[:3, 3] >= low) and np.all(place[:3, 3] <= high))


def go(rig: Rig, place: Floats, speed_m_s: float, *, settle_s: float = SETTLE_S) -> None:
    """Move in a straight line to a (4, 4) pose, slowly, and keep asking for it until the arm has settled."""
    from scipy.spatial.transform import Rotation, Slerp

    here = np.array(rig.arm.read().T_base_ee, dtype=np.float64)
    opening = rig.arm.read().gripper_opening
    speed = min(speed_m_s, rig.arm.spec.limits.max_speed_m_s / 2)
    turning = min(ANGULAR_SPEED_RAD_S, rig.arm.spec.limits.max_angular_speed_rad_s / 2)
    way_s = max(
        float(np.linalg.norm(place[:3, 3] - here[:3, 3])) / speed, np.radians(turn_deg(here, place)) / turning, 0.1
    )
    turns = Slerp([0, 1], Rotation.from_matrix(np.stack([here[:3, :3], place[:3, :3]])))
    period_s = 1 / rig.arm.spec.control_hz
    for step in range(1, int((way_s + settle_s) / period_s) + 1):
        share = min(1.0, step * period_s / way_s)
        share = share * share * (3 - 2 * share)  # starts and ends at rest
        x, y, z, w = turns(share).as_quat()
        xyz = here[:3, 3] + share * (place[:3, 3] - here[:3, 3])
        rig.arm.send(np.array([*xyz, w, x, y, z]), opening)
        rig.clock.tick()
