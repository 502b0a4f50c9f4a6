"""Makes the images of a camera upright and free of distortion, and keeps the intrinsics true while doing so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_io.calibration.files import CalibrationError, CameraCalibration
from robot_io.cameras.source import Floats, SourceFrame, SourceInfo

LENS_TOLERANCE = 0.1


class Optics:
    """Rotation, then rectification, of one camera.

    Args:
        info: of the source.
        rotate_deg: 0, 90, 180 or 270, clockwise.
        calibration: intrinsics and distortion of the rotated image, in the place of the device's own; or None.
        rectify: whether to take distortion out; if not, `info` keeps it.
    """

    def __init__(
        self, info: SourceInfo, rotate_deg: int, calibration: CameraCalibration | None, *, rectify: bool = True
    ) -> None:
        turns = (rotate_deg // 90) % 4
        K, (width, height) = rotated(info.K, info.width, info.height, turns)
        distortion, nominal = info.distortion, info.nominal
        if calibration is not None:
            K, distortion, nominal = calibration.K, calibration.distortion, False
        self._turns = turns
        bent = rectify and bool(np.any(np.abs(distortion) > 1e-6))
        self._maps = _maps(K, distortion, width, height) if bent else None
        distortion = () if rectify else distortion
        self.info = replace(info, width=width, height=height, K=K, distortion=distortion, nominal=nominal)

    def apply(self, frame: SourceFrame) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """Return the colour and depth of a frame, upright and rectified."""
        rgb, depth = frame.rgb, frame.depth_m
        if self._turns:
            rgb = np.rot90(rgb, -self._turns)
            depth = None if depth is None else np.rot90(depth, -self._turns)
        if self._maps is not None:
            import cv2

            rgb = cv2.remap(np.ascontiguousarray(rgb), *self._maps, cv2.INTER_LINEAR)
            if depth is not None:  # nearest: a mean of two depths is a place where nothing is
                depth = cv2.remap(np.ascontiguousarray(depth), *self._maps, cv2.INTER_NEAREST, borderValue=float("nan"))
        return rgb, depth


def check_lens(calibration: CameraCalibration, path: Path, info: SourceInfo, rotate_deg: int) -> None:
    """Raise CalibrationError when a calibrated focal length is far from what the camera says of itself.

    Another crop or binning at the same image size gives another lens; nothing else would show it.
    """
    if info.nominal:
        return
    K, _ = rotated(info.K, info.width, info.height, (rotate_deg // 90) % 4)
    ratio = float(calibration.K[0, 0] / K[0, 0])
    if abs(ratio - 1) > LENS_TOLERANCE:
        raise CalibrationError(
            f"calibration {path}: expected a focal length near the camera's own {K[0, 0]:.0f} px, found "
            f"{calibration.K[0, 0]:.0f}.",
            "Set resolution, crop and zoom as they were, or run: cascade calibrate camera.",
        )


def rotated(K: Floats, width: int, height: int, turns: int) -> tuple[Floats, tuple[int, int]]:
    """Return intrinsics and (width, height) after `turns` quarter turns clockwise; pixel centres at (i + 0.5)."""
    K = np.array(K, dtype=np.float64)
    for _ in range(turns):
        fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        K = np.array([[fy, 0, height - cy], [0, fx, cx], [0, 0, 1]])
        width, height = height, width
    return K, (width, height)


def _maps(K: Floats, distortion: tuple[float, ...], width: int, height: int) -> tuple[Any, Any]:
    import cv2

    from robot_io.calibration.files import to_opencv

    pixel = to_opencv(K)  # OpenCV counts pixel centres from 0, not from 0.5
    maps = cv2.initUndistortRectifyMap(
        pixel, np.asarray(distortion, dtype=np.float64), None, pixel, (width, height), cv2.CV_32FC1
    )
    return maps[0], maps[1]
