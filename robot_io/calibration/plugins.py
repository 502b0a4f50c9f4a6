"""Entry points of the calibrations."""

from __future__ import annotations

from typing import Any

from cascade.contracts import PluginSpec
from robot_io.calibration.config import BoardConfig, HandEyeConfig, IntrinsicsConfig, LatencyConfig, ServosConfig


def _board(config: BoardConfig) -> Any:
    from robot_io.calibration.calibrators import BoardPrinter

    return BoardPrinter(config)


def _camera(config: IntrinsicsConfig) -> Any:
    from robot_io.calibration.calibrators import LensCalibrator

    return LensCalibrator(config)


def _hand_eye(config: HandEyeConfig) -> Any:
    from robot_io.calibration.calibrators import HandEyeCalibrator

    return HandEyeCalibrator(config)


def _latency(config: LatencyConfig) -> Any:
    from robot_io.calibration.delay import LatencyCalibrator

    return LatencyCalibrator(config)


def _servos(config: ServosConfig) -> Any:
    from robot_io.calibration.servos import ServosCalibrator

    return ServosCalibrator(config)


BOARD: PluginSpec[Any] = PluginSpec("The ChArUco board to print", BoardConfig, _board)
CAMERA: PluginSpec[Any] = PluginSpec("Lens of a camera: focal length, centre, distortion", IntrinsicsConfig, _camera)
HAND_EYE: PluginSpec[Any] = PluginSpec("Where a camera is, beside the arm or on its hand", HandEyeConfig, _hand_eye)
LATENCY: PluginSpec[Any] = PluginSpec("Delay between the arm and the camera's stamps", LatencyConfig, _latency)
SERVOS: PluginSpec[Any] = PluginSpec("Zero and range of an SO-100 or SO-101, moved by hand", ServosConfig, _servos)
