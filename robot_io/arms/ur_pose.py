"""Poses at the edge of the UR driver: cascade's xyz + quaternion (wxyz) and matrices, UR's xyz + rotation vector."""

from __future__ import annotations

from collections.abc import Sequence
from math import acos, atan2, cos, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from robot_io.process.models import ArmModel

Floats = NDArray[np.float64]


def to_ur(pose: Floats) -> list[float]:
    """Return xyz [m] and rotation vector [rad] (angle in 0..pi) of a pose (7,) xyz + quaternion wxyz."""
    x, y, z, qw, qx, qy, qz = (float(value) for value in pose)
    if qw < 0:  # the other quaternion of the same rotation has an angle below pi
        qw, qx, qy, qz = -qw, -qx, -qy, -qz
    sine = sqrt(qx * qx + qy * qy + qz * qz)
    # Near no rotation the vector is twice the quaternion's; the quotient would be 0/0.
    scale = 2.0 * atan2(sine, qw) / sine if sine > 1e-9 else 2.0
    return [x, y, z, qx * scale, qy * scale, qz * scale]


def matrix_of(pose: Floats) -> Floats:
    """Return T (4, 4) of a UR pose (6,), by Rodrigues' formula."""
    x, y, z, a, b, c = (float(value) for value in pose)
    angle = sqrt(a * a + b * b + c * c)
    T = np.eye(4)
    T[:3, 3] = (x, y, z)
    if angle < 1e-12:
        return T
    K = np.array([[0.0, -c, b], [c, 0.0, -a], [-b, a, 0.0]]) / angle
    T[:3, :3] += sin(angle) * K + (1.0 - cos(angle)) * (K @ K)
    return T


def apart(one: Sequence[float] | Floats, other: Sequence[float] | Floats) -> tuple[float, float]:
    """Return how far two UR poses (6,) are apart: [m] and [rad]."""
    first, second = matrix_of(np.asarray(one)), matrix_of(np.asarray(other))
    cosine = (float(np.trace(first[:3, :3] @ second[:3, :3].T)) - 1.0) / 2.0
    return float(np.linalg.norm(first[:3, 3] - second[:3, 3])), acos(max(-1.0, min(1.0, cosine)))


def flange_of(model: ArmModel, q: Floats) -> Floats:
    """Return T_base_flange (4, 4) of a model at joints q (J,) [rad]."""
    T = np.eye(4)
    for placement, angle in zip(model.placements, q, strict=True):
        turn = np.eye(4)
        turn[:2, :2] = [[cos(angle), -sin(angle)], [sin(angle), cos(angle)]]
        T = T @ placement @ turn
    result: Floats = T @ model.T_last_flange
    return result
