"""Poses (7,): xyz [m] + quaternion wxyz; conversions and interpolation, quick enough for every cycle."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def rotation_vector(R: Floats) -> Floats:
    """(3,) axis times angle of a (3, 3) rotation; exact enough for the angles between cycles, up to pi."""
    skew = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    sine = float(np.linalg.norm(skew)) / 2
    angle = float(np.arctan2(sine, (float(np.trace(R)) - 1) / 2))
    if sine < 1e-9:
        return np.zeros(3) if angle < 1 else np.array([angle, 0.0, 0.0])
    vector: Floats = skew * (angle / (2 * sine))
    return vector


def matrix_of(pose: Floats) -> Floats:
    """(4, 4) transform of a pose (7,) xyz + quaternion wxyz."""
    w, x, y, z = pose[3:] / np.linalg.norm(pose[3:])
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = pose[:3]
    return T


def pose_of(T: Floats) -> Floats:
    """(7,) pose of a (4, 4) transform, w >= 0 (Shepperd 1978)."""
    R = T[:3, :3]
    squares = 1 + np.array([np.trace(R), *(2 * np.diag(R) - np.trace(R))])  # 4 w^2, 4 x^2, 4 y^2, 4 z^2
    largest = int(squares.argmax())
    q = np.empty(4)
    q[largest] = squares[largest]
    pairs = {(0, 1): R[2, 1] - R[1, 2], (0, 2): R[0, 2] - R[2, 0], (0, 3): R[1, 0] - R[0, 1]}
    pairs |= {(1, 2): R[0, 1] + R[1, 0], (1, 3): R[0, 2] + R[2, 0], (2, 3): R[1, 2] + R[2, 1]}
    for other in range(4):
        if other != largest:
            q[other] = pairs[min(other, largest), max(other, largest)]
    q /= math.copysign(float(np.linalg.norm(q)), q[0])
    return np.concatenate([T[:3, 3], q])


def slerp(a: Floats, b: Floats, share: float) -> Floats:
    """Return the unit quaternion (wxyz) a share of the shorter way from `a` to `b` (Shoemake 1985)."""
    cosine = float(a @ b)
    if cosine < 0:
        b, cosine = -b, -cosine
    if cosine > 0.9995:  # nearly the same: a straight line is as good, and stable
        mixed = a + share * (b - a)
    else:
        angle = float(np.arccos(min(cosine, 1.0)))
        mixed = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    unit: Floats = mixed / np.linalg.norm(mixed)
    return unit


def interpolate(a: Floats, b: Floats, share: float) -> Floats:
    """Return the pose (7,) between two poses: position on a line, orientation on the shorter arc."""
    share = min(max(share, 0.0), 1.0)
    return np.concatenate([a[:3] + share * (b[:3] - a[:3]), slerp(a[3:], b[3:], share)])
