"""Options of the board and of every calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cascade.contracts import PluginConfig


class BoardConfig(PluginConfig):
    """A ChArUco board: a chessboard with a marker in every white square. Measure it after printing."""

    columns: int = Field(7, ge=3, le=40, description="Squares along the longer side.")
    rows: int = Field(5, ge=3, le=40, description="Squares along the shorter side.")
    square_m: float = Field(0.035, gt=0, lt=1, description="Side of a square, measured on the print [m].")
    marker_m: float = Field(0.026, gt=0, lt=1, description="Side of a marker, measured on the print [m].")
    dictionary: Literal["4x4", "5x5", "6x6"] = Field("5x5", description="Which markers are on it.")
    dpi: int = Field(300, ge=72, le=1200, description="Resolution of the print.")
    paper: Literal["a4", "a3", "letter"] = Field("a4", description="Sheet to print on, landscape.")

    @model_validator(mode="after")
    def _fits(self) -> BoardConfig:
        if self.marker_m >= self.square_m:
            raise ValueError(f"marker_m: expected less than square_m ({self.square_m}), found {self.marker_m}")
        return self


class ViewsConfig(PluginConfig):
    """Options of a calibration that looks at views of the board."""

    board: BoardConfig = Field(default_factory=lambda: BoardConfig(), description="The board that is shown.")
    views: int = Field(15, ge=6, le=200, description="Views to collect.")
    serial: str | None = Field(None, description="Serial of the camera, for a folder of pictures that does not tell.")


class IntrinsicsConfig(ViewsConfig):
    """Options of `cascade calibrate camera`."""

    max_residual_px: float = Field(1.0, gt=0, description="Largest mean reprojection error that is accepted [px].")
    check: bool = Field(False, description="Judge the camera's own intrinsics instead of estimating new ones.")


class HandEyeConfig(ViewsConfig):
    """Options of `cascade calibrate hand-eye`."""

    mount: Literal["eye-to-hand", "eye-in-hand"] = Field(
        "eye-to-hand", description="Camera beside the arm and board on the hand, or camera on the hand."
    )
    intrinsics: Path | None = Field(None, description="File of `cascade calibrate camera`; null: the camera's own.")
    max_residual_m: float = Field(0.005, gt=0, description="Largest error of the pose that is accepted [m].")
    max_residual_deg: float = Field(1.0, gt=0, description="Largest error of the pose that is accepted [deg].")
    visit: bool = Field(False, description="The arm moves by itself around where it stands; else a person moves it.")
    visit_tilt_deg: float = Field(20.0, gt=0, le=45, description="How far the arm turns its hand when it visits [deg].")
    visit_shift_m: float = Field(0.05, ge=0, le=0.2, description="How far the arm moves its hand when it visits [m].")
    speed_m_s: float = Field(0.05, gt=0, le=0.25, description="Speed of visiting [m/s].")


class LatencyConfig(PluginConfig):
    """Options of `cascade calibrate latency`."""

    seconds: float = Field(12.0, ge=3, le=120, description="How long to watch the arm move [s].")
    longest_s: float = Field(0.6, gt=0, le=1, description="Longest delay that is looked for [s].")
    least_correlation: float = Field(0.6, gt=0, lt=1, description="Agreement below which nothing is concluded.")
    visit: bool = Field(False, description="The arm moves to and fro by itself; else a person moves it.")
    visit_shift_m: float = Field(0.06, gt=0, le=0.2, description="How far the arm moves to and fro [m].")
    speed_m_s: float = Field(0.1, gt=0, le=0.25, description="Speed of moving to and fro [m/s].")


class ServosConfig(PluginConfig):
    """Options of the calibration of an SO-100 or SO-101."""

    port: str = Field(description="Serial port, such as /dev/ttyACM0.")
    model: Literal["so101", "so100"] = Field("so101", description="Which arm it is.")
    turned: tuple[str, ...] = Field((), description="Joints that are mounted the other way round.")
    baud_hz: int = Field(1_000_000, gt=0, description="Speed of the bus.")
    bus_budget_s: float = Field(0.1, gt=0, le=2.0, description="Silence after which a servo counts as dead [s].")
    overwrite: bool = Field(False, description="Replace a file that exists.")
