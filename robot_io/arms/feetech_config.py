"""Options of the Feetech driver."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cascade.contracts import PluginConfig

FOLDED_Q = (0.0, -1.62, 1.5, 0.87, 0.0)
"""The folded arm, resting on itself; a tenth of a radian inside its ends, so that limits with a margin allow it."""


class FeetechConfig(PluginConfig):
    """Options of the Feetech driver."""

    port: str = Field(description="Serial port of the arm, best one of /dev/serial/by-id/.")
    model: Literal["so101", "so100"] = Field("so101", description="Which arm it is.")
    calibration: Path = Field(description="Calibration file of this very arm (cascade calibrate servos).")
    rate_hz: float = Field(100.0, ge=50.0, le=100.0, description="Setpoints per second.")
    baud_hz: int = Field(1_000_000, gt=0, description="Speed of the bus [bit/s].")
    bus_budget_s: float = Field(0.1, gt=0.0, le=2.0, description="Silence after which a servo counts as dead [s].")
    rest_q_rad: tuple[float, float, float, float, float] = Field(
        FOLDED_Q, description="Pose in which torque may be taken off without a fall [rad]."
    )
    rest_speed_rad_s: float = Field(0.5, gt=0.0, le=1.0, description="Speed on the way to rest [rad/s].")
    torque_share: float = Field(0.9, gt=0.1, le=1.0, description="Torque limit of the joints, share of the full one.")
    reduced_share: float = Field(0.5, gt=0.1, le=1.0, description="Of that, what a joint in trouble keeps.")
    gripper_torque_share: float = Field(0.5, gt=0.05, le=1.0, description="Torque limit of the gripper.")
    gripper_hold_share: float = Field(0.2, gt=0.02, le=1.0, description="Torque limit while it holds something.")
    gripper_current_a: float = Field(0.5, gt=0.0, le=3.0, description="Current that counts as holding [A].")
    max_temperature_c: float = Field(65.0, gt=30.0, le=70.0, description="Hotter than this is a fault [°C].")
    min_voltage_v: float = Field(4.5, gt=3.0, le=12.0, description="A lower supply is a fault [V].")
