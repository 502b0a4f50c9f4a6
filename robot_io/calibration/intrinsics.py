"""Focal length, centre and distortion of a camera, from views of the board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from robot_io.calibration.board import Detection
from robot_io.calibration.files import from_opencv, to_opencv

Floats = NDArray[np.float64]
LEAST_VIEWS = 6
TILT = "Tilt the board by 20 to 40 degrees: from straight ahead, focal length and distance look the same."
LEAST_TILTED = 3  # views
LEAST_PERSPECTIVE = 0.03  # by how much one side of the board must look larger than the other
LEAST_COVER = 0.3  # share of the picture that the corners of all views together must span
MOST_DOUBT = 0.01  # standard deviation of the focal length over the focal length


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Intrinsics:
    """A camera's lens.

    Attributes:
        K: (3, 3) [px], pixel centres at (i + 0.5); distortion: k1, k2, p1, p2, k3.
        residual_px: root mean square of the reprojection error; per_view_px: of every view.
    """

    K: Floats
    distortion: tuple[float, ...]
    residual_px: float
    per_view_px: tuple[float, ...]


def estimate(detections: Sequence[Detection], size_px: tuple[int, int]) -> Intrinsics:
    """Return the lens that explains the views best.

    Args:
        detections: of at least `LEAST_VIEWS` views, tilted and all over the picture.
        size_px: (width, height) of the pictures.

    Raises:
        DataError: too few views, all of the same middle of the picture, or none tilted.
    """
    import cv2

    if len(detections) < LEAST_VIEWS:
        raise DataError(f"camera: expected {LEAST_VIEWS} views or more, found {len(detections)}.", "Take more.")
    check_cover(detections, size_px)
    check_tilt(detections)
    objects = [each.points_m.astype(np.float32) for each in detections]
    pixels = [each.pixels.astype(np.float32) for each in detections]
    solved = cv2.calibrateCameraExtended(objects, pixels, size_px, None, None)
    _, K, distortion, rotations, shifts, deviations = solved[:6]
    doubt = float(np.max(np.asarray(deviations).ravel()[:2] / K[[0, 1], [0, 1]]))
    if doubt > MOST_DOUBT:
        raise DataError(
            f"camera: expected the focal length to within {MOST_DOUBT:.0%}, the views tell it to {doubt:.1%}.", TILT
        )
    errors = [
        _rms(cv2.projectPoints(each.points_m, r, t, K, distortion)[0].reshape(-1, 2) - each.pixels)
        for each, r, t in zip(detections, rotations, shifts, strict=True)
    ]
    return Intrinsics(
        K=from_opencv(K),
        distortion=tuple(float(value) for value in np.asarray(distortion).ravel()[:5]),
        residual_px=_total(errors, detections),
        per_view_px=tuple(errors),
    )


def judge(detections: Sequence[Detection], K: Floats, distortion: Sequence[float]) -> Intrinsics:
    """Return given intrinsics with the reprojection error they leave; errors as `locate`."""
    errors = []
    for each in detections:
        T_cam_board = locate(each, K, distortion)
        errors.append(_rms(project(each.points_m, T_cam_board, K, distortion) - each.pixels))
    return Intrinsics(
        K=K,
        distortion=tuple(float(value) for value in distortion),
        residual_px=_total(errors, detections),
        per_view_px=tuple(errors),
    )


def locate(detection: Detection, K: Floats, distortion: Sequence[float]) -> Floats:
    """Return T_cam_board (4, 4); raises DataError when the corners do not tell."""
    import cv2

    lens = to_opencv(K), np.asarray(distortion, dtype=np.float64)
    solved, rotation, shift = cv2.solvePnP(detection.points_m, detection.pixels, *lens, flags=cv2.SOLVEPNP_IPPE)
    if not solved:
        raise DataError("board: its pose cannot be told from the corners seen.", "Show more of the board.")
    rotation, shift = cv2.solvePnPRefineLM(detection.points_m, detection.pixels, *lens, rotation, shift)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rotation)[0], np.asarray(shift).ravel()
    return T


def project(points: Floats, T_cam_points: Floats, K: Floats, distortion: Sequence[float]) -> Floats:
    """Return (N, 2) pixels (centres at whole numbers, as `Detection`) of (N, 3) points."""
    import cv2

    rotation = cv2.Rodrigues(np.ascontiguousarray(T_cam_points[:3, :3]))[0]
    lens = to_opencv(K), np.asarray(distortion, dtype=np.float64)
    pixels: Floats = cv2.projectPoints(np.ascontiguousarray(points), rotation, T_cam_points[:3, 3], *lens)[0]
    return pixels.reshape(-1, 2)


def check_cover(detections: Sequence[Detection], size_px: tuple[int, int]) -> None:
    """Raise DataError when the corners of all views leave most of the picture empty."""
    corners = np.concatenate([each.pixels for each in detections])
    spans = np.ptp(corners, axis=0) / np.asarray(size_px)
    if float(np.prod(spans)) < LEAST_COVER:
        raise DataError(
            f"camera: expected corners over {LEAST_COVER:.0%} of the picture, found {np.prod(spans):.0%}.",
            "Show the board near every edge of the picture too.",
        )


def check_tilt(detections: Sequence[Detection]) -> None:
    """Raise DataError unless the board is tilted in several views; its perspective tells, whatever the lens."""
    import cv2

    tilted = 0
    for each in detections:
        flat = each.points_m[:, :2] - each.points_m[:, :2].mean(axis=0)
        homography = cv2.findHomography(flat, each.pixels)[0]
        if homography is not None:
            slope = np.linalg.norm(homography[2, :2] / homography[2, 2])
            tilted += bool(slope * np.linalg.norm(np.ptp(flat, axis=0)) > LEAST_PERSPECTIVE)
    if tilted < LEAST_TILTED:
        raise DataError(f"camera: expected the board tilted in {LEAST_TILTED} views or more, it is in {tilted}.", TILT)


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(np.sum(errors**2, axis=1))))


def _total(errors: Sequence[float], detections: Sequence[Detection]) -> float:
    weights = [len(each.pixels) for each in detections]
    return float(np.sqrt(np.average(np.square(errors), weights=weights)))
