"""Poses at the xArm's edge: millimetres, and roll, pitch, yaw about the fixed axes of the base [rad]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def to_controller(setpoint: Floats) -> list[float]:
    """Return x, y, z [mm], roll, pitch, yaw [rad] of a (7,) pose of xyz [m] and quaternion wxyz."""
    w, x, y, z = setpoint[3:] / np.linalg.norm(setpoint[3:])
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2 * (w * y - z * x), -1.0, 1.0))
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    if abs(2 * (w * y - z * x)) > 1 - 1e-9:  # pitch of a quarter turn: roll and yaw turn about one axis
        roll, yaw = 0.0, -2.0 * np.sign(pitch) * np.arctan2(x, w)
    return [*(float(value) * 1000.0 for value in setpoint[:3]), float(roll), float(pitch), float(yaw)]


def from_controller(pose: Sequence[float]) -> Floats:
    """Return the (4, 4) pose of x, y, z [mm], roll, pitch, yaw [rad]."""
    roll, pitch, yaw = pose[3:6]
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    T = np.eye(4)
    T[:3, :3] = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ np.array(
        [[cp, sp * sr, sp * cr], [0, cr, -sr], [-sp, cp * sr, cp * cr]]
    )
    T[:3, 3] = np.asarray(pose[:3]) / 1000.0
    return T
