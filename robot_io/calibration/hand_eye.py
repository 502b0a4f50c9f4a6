"""Where the camera is: on a stand beside the arm, or on its hand.

A closed form first (F. Park and B. Martin, "Robot sensor calibration: solving AX = XB on the Euclidean group", 1994),
then the least squares of what counts: the distance in pixels between corners as seen and as predicted.

Both mounts are one problem. With A = T_base_ee and X = T_ee_cam for a camera on the hand, or A = T_ee_base and
X = T_base_cam for one on a stand, and B = T_cam_board, the product A X B is the same Z in every view: T_base_board, or
T_ee_board.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from robot_io.calibration.board import Detection
from robot_io.calibration.intrinsics import locate, project

Floats = NDArray[np.float64]
Mount = Literal["eye-to-hand", "eye-in-hand"]
LEAST_VIEWS = 5
LEAST_TURN_DEG = 8.0  # the hand must have turned about two axes by this much or more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HandEye:
    """Where the camera is, and how well the views agree.

    Attributes:
        X: (4, 4) T_base_cam for 'eye-to-hand', T_ee_cam for 'eye-in-hand'.
        Z: (4, 4) T_ee_board or T_base_board.
        residual_m, residual_rad: root mean square over the views of where the board is, seen and predicted.
        residual_px: of the corners; per_view_px: of every view.
    """

    mount: Mount
    X: Floats
    Z: Floats
    residual_m: float
    residual_rad: float
    residual_px: float
    per_view_px: tuple[float, ...]


def solve_hand_eye(
    detections: Sequence[Detection],
    T_base_ee: Sequence[Floats],
    K: Floats,
    distortion: Sequence[float],
    mount: Mount,
) -> HandEye:
    """Return where the camera is.

    Args:
        detections: of the board, one per view.
        T_base_ee: (4, 4) of the hand in every view.
        K: (3, 3) intrinsics of the camera, pixel centres at (i + 0.5).
        distortion: OpenCV coefficients that go with K.
        mount: where the camera is fixed.

    Raises:
        DataError: too few views, or the hand did not turn enough.
    """
    if len(detections) < LEAST_VIEWS:
        raise DataError(f"hand-eye: expected {LEAST_VIEWS} views or more, found {len(detections)}.", "Take more.")
    A: list[Floats] = [np.array(T if mount == "eye-in-hand" else np.linalg.inv(T), dtype=np.float64) for T in T_base_ee]
    B = [locate(each, K, distortion) for each in detections]
    check_turns(A)
    X = closed_form(A, B)
    X, Z = _refined(X, _mean([a @ X @ b for a, b in zip(A, B, strict=True)]), A, detections, K, distortion)
    gaps = [np.linalg.inv(Z) @ a @ X @ b for a, b in zip(A, B, strict=True)]
    errors = [_pixels(X, Z, a, each, K, distortion) for a, each in zip(A, detections, strict=True)]
    return HandEye(
        mount=mount,
        X=X,
        Z=Z,
        residual_m=float(np.sqrt(np.mean([np.sum(gap[:3, 3] ** 2) for gap in gaps]))),
        residual_rad=float(np.sqrt(np.mean([np.sum(_log(gap[:3, :3]) ** 2) for gap in gaps]))),
        residual_px=float(np.sqrt(np.mean(np.concatenate([np.sum(error**2, axis=1) for error in errors])))),
        per_view_px=tuple(float(np.sqrt(np.mean(np.sum(error**2, axis=1)))) for error in errors),
    )


def closed_form(A: Sequence[Floats], B: Sequence[Floats]) -> Floats:
    """Return X (4, 4) that makes A X B as constant as can be, from all pairs of views."""
    pairs = [(i, j) for i in range(len(A)) for j in range(i)]
    moves_a = [np.linalg.inv(A[j]) @ A[i] for i, j in pairs]
    moves_b = [B[j] @ np.linalg.inv(B[i]) for i, j in pairs]
    M = sum(np.outer(_log(a[:3, :3]), _log(b[:3, :3])) for a, b in zip(moves_a, moves_b, strict=True))
    U, _, Vt = np.linalg.svd(M)
    R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    left = np.concatenate([a[:3, :3] - np.eye(3) for a in moves_a])
    right = np.concatenate([R @ b[:3, 3] - a[:3, 3] for a, b in zip(moves_a, moves_b, strict=True)])
    X = np.eye(4)
    X[:3, :3], X[:3, 3] = R, np.linalg.lstsq(left, right, rcond=None)[0]
    return X


def check_turns(poses: Sequence[Floats]) -> None:
    """Raise DataError unless the poses differ by turns about at least two axes."""
    turns = np.array([_log(np.linalg.inv(poses[0])[:3, :3] @ T[:3, :3]) for T in poses[1:]])
    spread = np.degrees(np.linalg.svd(turns - turns.mean(axis=0), compute_uv=False) / np.sqrt(len(turns)))
    if spread[1] < LEAST_TURN_DEG / 2:
        raise DataError(
            "hand-eye: expected the hand to turn about two axes or more, its turns spread over "
            f"{spread[0]:.0f} and {spread[1]:.0f} degrees about the first two.",
            "Tilt the hand in several directions by 20 degrees or so, besides moving it.",
        )


def _refined(
    X: Floats, Z: Floats, A: Sequence[Floats], detections: Sequence[Detection], K: Floats, distortion: Sequence[float]
) -> tuple[Floats, Floats]:
    from scipy.optimize import least_squares

    def unpacked(p: Floats) -> tuple[Floats, Floats]:
        return X @ _exp(p[:6]), Z @ _exp(p[6:])

    def misses(p: Floats) -> Floats:
        x, z = unpacked(p)
        parts = [_pixels(x, z, a, each, K, distortion).ravel() for a, each in zip(A, detections, strict=True)]
        return np.concatenate(parts)

    # soft_l1: one bad view (a hand that still moved) does not drag the rest along.
    solved = least_squares(misses, np.zeros(12), loss="soft_l1", f_scale=1.0, max_nfev=60)
    return unpacked(solved.x)


def _pixels(X: Floats, Z: Floats, a: Floats, detection: Detection, K: Floats, distortion: Sequence[float]) -> Floats:
    """Return (N, 2) misses of one view [px]: B = X^-1 A^-1 Z."""
    T_cam_board = np.linalg.inv(a @ X) @ Z
    misses: Floats = project(detection.points_m, T_cam_board, K, distortion) - detection.pixels
    return misses


def _mean(poses: Sequence[Floats]) -> Floats:
    U, _, Vt = np.linalg.svd(np.sum([pose[:3, :3] for pose in poses], axis=0))
    T = np.eye(4)
    T[:3, :3] = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    T[:3, 3] = np.mean([pose[:3, 3] for pose in poses], axis=0)
    return T


def _log(R: Floats) -> Floats:
    """Return the rotation vector (3,) of a rotation matrix."""
    from scipy.spatial.transform import Rotation

    vector: Floats = Rotation.from_matrix(R).as_rotvec()
    return vector


def _exp(p: Floats) -> Floats:
    """Return the (4, 4) of a rotation vector and a shift (6,)."""
    from scipy.spatial.transform import Rotation

    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec(p[:3]).as_matrix(), p[3:]
    return T
