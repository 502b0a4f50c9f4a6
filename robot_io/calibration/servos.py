"""Calibration of a hobby arm's servos, as the command line runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot_io.arms.feetech_calibration import Operator, calibrate_servos
from robot_io.calibration.config import ServosConfig


class ServosCalibrator:
    """Has the joints moved by hand, and writes what a rig names as `calibration` of its arm."""

    def __init__(self, config: ServosConfig) -> None:
        self._config = config

    def calibrate(self, operator: Operator, output: Path) -> Mapping[str, Any]:
        """Measure with the person at the arm, write the file, and return what is to be told.

        Raises:
            DataError: the file exists, or a joint was not moved over its range.
            DeviceError: the bus or a servo is missing or foreign.
            OperatorStop: the person left.
        """
        config = self._config
        found = calibrate_servos(
            config.port,
            output,
            operator,
            model=config.model,
            signs=dict.fromkeys(config.turned, -1),
            baud_hz=config.baud_hz,
            bus_budget_s=config.bus_budget_s,
            overwrite=config.overwrite,
        )
        ranges = {name: f"{joint.lower_ticks} to {joint.upper_ticks} ticks" for name, joint in found.joints.items()}
        return {"file": str(output), "model": found.model, **ranges}
