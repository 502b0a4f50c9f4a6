"""Forward and inverse kinematics as the loopback xArm controller computes them, in plain NumPy.

Written apart from the arm process's own models, so that one checks the other. Joint placements are those of UFACTORY's
manual: joint i turns about z of a frame placed in its parent by xyz [m] and a turn about x [rad].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

QUARTER = np.pi / 2
CHAINS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "xarm6": (
        (0.0, 0.0, 0.267, 0.0),
        (0.0, 0.0, 0.0, -QUARTER),
        (0.0535, -0.2845, 0.0, 0.0),
        (0.0775, 0.3425, 0.0, -QUARTER),
        (0.0, 0.0, 0.0, QUARTER),
        (0.076, 0.097, 0.0, -QUARTER),
    ),
    "xarm7": (
        (0.0, 0.0, 0.267, 0.0),
        (0.0, 0.0, 0.0, -QUARTER),
        (0.0, -0.293, 0.0, QUARTER),
        (0.0525, 0.0, 0.0, QUARTER),
        (0.0775, -0.3425, 0.0, QUARTER),
        (0.0, 0.0, 0.0, QUARTER),
        (0.076, 0.097, 0.0, -QUARTER),
    ),
}
"""Per joint: x, y, z [m] and the turn about x [rad]."""


def _frames(model: str, q: Floats) -> list[Floats]:
    T = np.eye(4)
    frames = []
    for (x, y, z, turn), angle in zip(CHAINS[model], q, strict=True):
        cx, sx, cz, sz = np.cos(turn), np.sin(turn), np.cos(angle), np.sin(angle)
        step = np.array(
            [[cz, -sz, 0.0, x], [cx * sz, cx * cz, -sx, y], [sx * sz, sx * cz, cx, z], [0.0, 0.0, 0.0, 1.0]],
        )
        T = T @ step
        frames.append(T)
    return frames


def forward(model: str, q: Floats) -> Floats:
    """Return the (4, 4) flange pose of (J,) joints [rad] in the base."""
    return _frames(model, q)[-1]


def inverse(model: str, T: Floats, q: Floats, steps: int = 40) -> Floats | None:
    """Return joints near `q` whose flange is at `T` to 0.1 mm and 0.5 mrad, or None."""
    q = q.astype(np.float64)
    for _ in range(steps):
        frames = _frames(model, q)
        at = frames[-1]
        error = np.concatenate([T[:3, 3] - at[:3, 3], rotation_vector(T[:3, :3] @ at[:3, :3].T)])
        if np.linalg.norm(error[:3]) < 1e-4 and np.linalg.norm(error[3:]) < 5e-4:
            return q
        axes = np.array([frame[:3, 2] for frame in frames])
        arms = np.array([at[:3, 3] - frame[:3, 3] for frame in frames])
        J = np.vstack([np.cross(axes, arms).T, axes.T])
        q = q + np.clip(J.T @ np.linalg.solve(J @ J.T + 1e-6 * np.eye(6), error), -0.3, 0.3)
    return None


def rotation_vector(R: Floats) -> Floats:
    """Return the (3,) rotation vector [rad] of a rotation."""
    vector = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2.0
    sine, cosine = float(np.linalg.norm(vector)), (np.trace(R) - 1.0) / 2.0
    if sine < 1e-9:
        return vector if cosine > 0 else np.array([np.pi, 0.0, 0.0])
    turned: Floats = vector * (np.arctan2(sine, cosine) / sine)
    return turned


def from_controller(pose_mm_rad: Sequence[float]) -> Floats:
    """Return the (4, 4) pose of the controller's xyz [mm] and roll, pitch, yaw [rad] about fixed axes."""
    x, y, z, roll, pitch, yaw = pose_mm_rad
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    T = np.eye(4)
    T[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    T[:3, 3] = np.array([x, y, z]) / 1000.0
    return T


def to_controller(T: Floats) -> tuple[float, ...]:
    """Return xyz [mm] and roll, pitch, yaw [rad] of a (4, 4) pose, as the controller states it."""
    R = T[:3, :3]
    roll, yaw = np.arctan2(R[2, 1], R[2, 2]), np.arctan2(R[1, 0], R[0, 0])
    pitch = np.arctan2(-R[2, 0], np.hypot(R[0, 0], R[1, 0]))
    return (*(float(value) for value in T[:3, 3] * 1000.0), float(roll), float(pitch), float(yaw))
