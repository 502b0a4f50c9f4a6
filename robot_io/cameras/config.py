"""Options that every kind of camera has, and those of each kind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import Field

from cascade.contracts import PluginConfig


class WatchConfig(PluginConfig):
    """When an image counts as bad; see `robot_io.cameras.watch`."""

    black_level: float = Field(6.0, ge=0, le=255, description="Mean brightness below which an image is black, 0..255.")
    frozen_s: float | None = Field(
        1.0, gt=0, description="Seconds of identical pixels after which the image is frozen; null: not watched."
    )
    invalid_depth: float = Field(0.95, gt=0, le=1, description="Share of pixels without depth that raises an alarm.")
    skew_s: float = Field(0.02, gt=0, description="Largest time between the colour and the depth of one frame [s].")
    good_frames: int = Field(10, ge=1, description="Good frames in a row before images count again after a failure.")


class CameraConfig(PluginConfig):
    """Options of every camera."""

    name: str = Field("camera", min_length=1, description="Name by which planners and datasets know the view.")
    width: int = Field(640, ge=16, le=4096, description="Image width [px], before `rotate_deg`.")
    height: int = Field(480, ge=16, le=4096, description="Image height [px], before `rotate_deg`.")
    fps: float = Field(30, gt=0, le=240, description="Images per second.")
    rotate_deg: Literal[0, 90, 180, 270] = Field(
        0, description="Turns the image clockwise, so that a camera mounted upside down gives upright images [deg]."
    )
    calibration: Path | None = Field(None, description="Calibration file of `cascade calibrate`; null: none.")
    calibration_max_age_days: float | None = Field(
        180.0, gt=0, description="Age at which a calibration is refused [days]; null: never."
    )
    open_timeout_s: float = Field(5.0, gt=0, description="Longest wait for the first image [s].")
    hang_s: float = Field(1.0, gt=0, description="Age of the last image at which the camera is re-opened [s].")
    reopen: bool = Field(True, description="Open the same serial again after a failure.")
    watch: WatchConfig = Field(default_factory=WatchConfig, description="When an image counts as bad.")

    @classmethod
    def discover(cls) -> list[tuple[str, str]]:
        """Return (name, description) of every camera of this kind that is connected; opens none.

        Raises:
            DeviceError: this kind cannot be used here, with the remedy.
        """
        return []


class RealsenseConfig(CameraConfig):
    """Options of an Intel RealSense camera."""

    name: str = Field("realsense", min_length=1, description="Name by which planners and datasets know the view.")
    serial: str | None = Field(
        None, coerce_numbers_to_str=True, description="Serial number; null: the only one connected."
    )
    depth: bool = Field(True, description="Provide depth aligned to colour.")
    exposure_us: float | None = Field(None, gt=0, description="Fixed exposure of the colour sensor [us]; null: auto.")

    @classmethod
    def discover(cls) -> list[tuple[str, str]]:
        """Return (serial, model) of every RealSense; raises DeviceError without pyrealsense2."""
        from robot_io.cameras.devices import realsense_devices

        return realsense_devices()


class OpencvConfig(CameraConfig):
    """Options of a webcam or any other source that OpenCV can open."""

    name: str = Field("webcam", min_length=1, description="Name by which planners and datasets know the view.")
    device: int | str = Field(
        0, description="Index of the webcam, a V4L2 path such as /dev/v4l/by-id/..., or a video file."
    )
    hfov_deg: float = Field(60.0, gt=1, lt=170, description="Horizontal field of view, until it is calibrated [deg].")

    @classmethod
    def discover(cls) -> list[tuple[str, str]]:
        """Return (path, model) of every V4L2 capture device."""
        from robot_io.cameras.devices import v4l2_devices

        return v4l2_devices()


class PlaybackConfig(CameraConfig):
    """Options of a recording that plays as a camera, once and in its own time."""

    name: str = Field("playback", min_length=1, description="Name by which planners and datasets know the view.")
    path: Path = Field(
        description="RealSense recording (.db3, or .bag of older versions), or a video; the depth of NAME.mp4 is read "
        "from NAME.depth.npz beside it."
    )
    depth: bool = Field(True, description="Provide depth, where the recording has it.")
    realtime: bool = Field(True, description="Play in the recording's own time; false: as fast as it can be read.")
    hfov_deg: float = Field(60.0, gt=1, lt=170, description="Horizontal field of view of a video [deg].")


class SyntheticConfig(CameraConfig):
    """Options of a drawn camera: a moving pattern with metric depth, the same on every machine."""

    name: str = Field("synthetic", min_length=1, description="Name by which planners and datasets know the view.")
    serial: str = Field("SYNTHETIC-0", description="Serial number it shows.")
    width: int = Field(320, ge=16, le=4096, description="Image width [px], before `rotate_deg`.")
    height: int = Field(240, ge=16, le=4096, description="Image height [px], before `rotate_deg`.")
    seed: int = Field(0, ge=0, le=sys.maxsize, description="Of the pattern.")
    depth: bool = Field(True, description="Provide depth.")
    hfov_deg: float = Field(60.0, gt=1, lt=170, description="Horizontal field of view [deg].")

    @classmethod
    def discover(cls) -> list[tuple[str, str]]:
        """Return the one that is always there."""
        return [("SYNTHETIC-0", "drawn, always there")]
