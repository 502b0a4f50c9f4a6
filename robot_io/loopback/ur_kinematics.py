"""Kinematics of the emulated UR controller, its own on purpose: it must not be right only where ours is.

Denavit-Hartenberg parameters: Universal Robots, "DH Parameters for calculations of kinematics and dynamics" (nominal,
without the calibration of one arm). Poses are UR's: xyz [m] and rotation vector [rad], base frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NEXT, _LAST = [1, 2, 0], [2, 0, 1]
_ALPHA = (pi / 2, 0.0, 0.0, pi / 2, -pi / 2, 0.0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """What makes one model: a and d of the six links [m], and the top speed of each joint [rad/s]."""

    a_m: tuple[float, ...]
    d_m: tuple[float, ...]
    max_speed_rad_s: tuple[float, ...]


GEOMETRIES = {
    "ur3e": Geometry(
        (0, -0.24355, -0.2132, 0, 0, 0), (0.15185, 0, 0, 0.13105, 0.08535, 0.0921), (pi,) * 3 + (2 * pi,) * 3
    ),
    "ur5e": Geometry((0, -0.425, -0.3922, 0, 0, 0), (0.1625, 0, 0, 0.1333, 0.0997, 0.0996), (pi,) * 6),
    "ur10e": Geometry(
        (0, -0.6127, -0.57155, 0, 0, 0), (0.1807, 0, 0, 0.17415, 0.11985, 0.11655), (2 * pi / 3,) * 2 + (pi,) * 4
    ),
}


def rotation_vector(R: Floats) -> Floats:
    """Return the rotation vector (3,) of a rotation matrix, angle in 0..pi."""
    # Through the quaternion: exact near 0 and near pi, where the trace formula is not.
    K = np.array(
        [
            [R[0, 0] - R[1, 1] - R[2, 2], 0, 0, 0],
            [R[0, 1] + R[1, 0], R[1, 1] - R[0, 0] - R[2, 2], 0, 0],
            [R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], R[2, 2] - R[0, 0] - R[1, 1], 0],
            [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], R[0, 0] + R[1, 1] + R[2, 2]],
        ]
    )
    q = np.linalg.eigh(K)[1][:, -1]
    q = -q if q[3] < 0 else q
    norm = float(np.linalg.norm(q[:3]))
    if norm < 1e-12:
        return np.zeros(3)
    result: Floats = q[:3] * (2.0 * np.arctan2(norm, q[3]) / norm)
    return result


def rotation(vector: Floats) -> Floats:
    """Return the rotation matrix (3, 3) of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    result: Floats = np.eye(3) + sin(angle) * K + (1 - cos(angle)) * (K @ K)
    return result


def transform(pose: Floats) -> Floats:
    """Return (4, 4) of a UR pose (6,)."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation(pose[3:]), pose[:3]
    return T


def ur_pose(T: Floats) -> Floats:
    """Return the UR pose (6,) of (4, 4)."""
    return np.concatenate([T[:3, 3], rotation_vector(T[:3, :3])])


class Kinematics:
    """Forward and inverse kinematics of one model, tool centre point included."""

    def __init__(self, model: str) -> None:
        geometry = GEOMETRIES[model]
        self._links = list(
            zip(geometry.a_m, geometry.d_m, [cos(a) for a in _ALPHA], [sin(a) for a in _ALPHA], strict=True)
        )
        self.max_speed = np.array(geometry.max_speed_rad_s)

    def forward(self, q: Floats, T_flange_tcp: Floats) -> tuple[Floats, Floats]:
        """Return T_base_tcp (4, 4) and its geometric Jacobian (6, 6): linear rows first, base frame."""
        T = np.eye(4)
        axes, origins = np.empty((6, 3)), np.empty((6, 3))
        for i, (a, d, ca, sa) in enumerate(self._links):
            axes[i], origins[i] = T[:3, 2], T[:3, 3]
            c, s = cos(q[i]), sin(q[i])
            T = T @ np.array([[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]])
        T = T @ T_flange_tcp
        J = np.empty((6, 6))
        arms = T[:3, 3] - origins
        # The cross product by hand: numpy's is slow for six rows, and this runs 500 times a second.
        J[:3] = (axes[:, _NEXT] * arms[:, _LAST] - axes[:, _LAST] * arms[:, _NEXT]).T
        J[3:] = axes.T
        return T, J

    def inverse(self, pose: Floats, q_near: Floats, T_flange_tcp: Floats) -> Floats | None:
        """Return joints (6,) for a UR pose near `q_near` within 10 um and 10 urad, or None when there are none."""
        goal = transform(pose)
        q = q_near.copy()
        for _ in range(60):
            T, J = self.forward(q, T_flange_tcp)
            error = np.concatenate([goal[:3, 3] - T[:3, 3], rotation_vector(goal[:3, :3] @ T[:3, :3].T)])
            size = float(np.abs(error).max())
            if size < 1e-5:
                return q
            # Damping fades with the error, so that the last steps converge like Newton's.
            step = J.T @ np.linalg.solve(J @ J.T + min(1e-3, size * size) * np.eye(6) + 1e-12 * np.eye(6), error)
            q = q + step * min(1.0, 0.5 / max(1e-9, float(np.abs(step).max())))
        return None
