"""Poses at the xArm's edge: millimetres, and roll, pitch, yaw about the fixed axes of the base [rad]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def to_controller(setpoint: Floats) -> list[float]:
    """Return x, y, z [mm], roll, pitch, yaw [rad] of a (7,) pose of xyz [m] and quaternion wxyz.

    By sums and differences of the quaternion's parts (Bernardes and Viollet 2022), which lose no precision near a pitch
    of a quarter turn, where roll and yaw turn about one axis; there any share of one or the other is the same rotation.
    """
    w, x, y, z = setpoint[3:]
    half_sum, half_difference = np.arctan2(x + z, w - y), np.arctan2(x - z, w + y)  # of roll and yaw
    pitch = 2.0 * np.arctan2(np.hypot(x - z, w + y), np.hypot(x + z, w - y)) - np.pi / 2
    roll, yaw = (math.remainder(angle, math.tau) for angle in (half_sum + half_difference, half_sum - half_difference))
    return [*(float(value) * 1000.0 for value in setpoint[:3]), roll, float(pitch), yaw]


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
