"""Intel RealSense through pyrealsense2: colour, depth aligned to colour, intrinsics.

`Pipeline.start` blocks 15 s when there is no device, so the devices are asked for first. Framesets that are kept stop
the stream after 16 of them, so pixels are copied at once. RuntimeError is all the library raises; which call
failed tells what went wrong.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from cascade.contracts import DeviceError
from robot_io.calibration.files import from_opencv
from robot_io.cameras.config import RealsenseConfig
from robot_io.cameras.devices import choose_realsense, realsense_devices, realsense_library
from robot_io.cameras.source import Floats, SourceFrame, SourceInfo

LAWSON_ROUNDS = 20


class RealsenseSource:
    """A RealSense that is plugged in."""

    def __init__(self, config: RealsenseConfig) -> None:
        self._config = config
        self._pipeline: Any = None
        self._reader: FramesetReader | None = None

    def open(self, *, serial: str | None = None) -> SourceInfo:
        """Open the camera; see `FrameSource`."""
        rs, config = realsense_library(), self._config
        chosen = choose_realsense(realsense_devices(), serial or config.serial)
        request = rs.config()
        request.enable_device(chosen)
        request.enable_stream(rs.stream.color, config.width, config.height, rs.format.rgb8, round(config.fps))
        if config.depth:
            request.enable_stream(rs.stream.depth, config.width, config.height, rs.format.z16, round(config.fps))
        self._pipeline = rs.pipeline()
        try:
            profile = self._pipeline.start(request)
        except RuntimeError as error:
            self._pipeline = None
            raise DeviceError(
                f"realsense {chosen}: cannot stream {config.width} x {config.height} at {config.fps:g} Hz ({error}).",
                "Choose a size and rate it offers (640 x 480 at 30 Hz), a USB 3 port, and close other programs.",
            ) from error
        self._set_up(rs, profile)
        self._reader = FramesetReader(rs, profile, depth=config.depth)
        return self._reader.info(kind="realsense", serial=chosen, clock="global_time", fps=config.fps)

    def read(self, timeout_s: float) -> SourceFrame | None:
        """Return the next image; an unplugged camera simply sends none."""
        assert self._reader is not None  # noqa: S101  (open comes first)
        came, frames = self._pipeline.try_wait_for_frames(max(1, int(timeout_s * 1e3)))
        return self._reader.frame(frames) if came else None

    def close(self) -> None:
        """Stop the stream; this may hang after an unplug, and the process is killed then."""
        pipeline, self._pipeline, self._reader = self._pipeline, None, None
        if pipeline is not None:
            try:
                pipeline.stop()
            except RuntimeError:
                return  # it had stopped by itself

    def _set_up(self, rs: Any, profile: Any) -> None:
        for sensor in profile.get_device().query_sensors():
            if sensor.supports(rs.option.global_time_enabled):
                sensor.set_option(rs.option.global_time_enabled, 1)
            if self._config.exposure_us is not None and sensor.is_color_sensor():
                sensor.set_option(rs.option.enable_auto_exposure, 0)
                sensor.set_option(rs.option.exposure, self._config.exposure_us / 100)  # the unit of UVC is 100 us


class FramesetReader:
    """Turns framesets, from a camera or from a recording, into `SourceFrame`s.

    Args:
        rs: the library.
        profile: of a started pipeline.
        depth: whether to align and copy depth.
    """

    def __init__(self, rs: Any, profile: Any, *, depth: bool) -> None:
        self._rs = rs
        self._device = profile.get_device()
        self._colour = profile.get_stream(rs.stream.color).as_video_stream_profile()
        kinds = {stream.stream_type() for stream in profile.get_streams()}
        self.has_depth = depth and rs.stream.depth in kinds
        self._align = rs.align(rs.stream.color) if self.has_depth else None

    def info(self, *, kind: str, serial: str, clock: str, fps: float, live: bool = True) -> SourceInfo:
        """Return what is known of the camera."""
        rs, lens = self._rs, self._colour.get_intrinsics()
        model = (
            self._device.get_info(rs.camera_info.name) if self._device.supports(rs.camera_info.name) else "RealSense"
        )
        return SourceInfo(
            kind=kind,
            serial=serial,
            model=model,
            width=lens.width,
            height=lens.height,
            fps=fps,
            K=intrinsics(lens),
            distortion=distortion(rs, lens),
            has_depth=self.has_depth,
            clock=clock,
            live=live,
        )

    def frame(self, frames: Any) -> SourceFrame | None:
        """Return a copy of a frameset, or None when colour or depth is missing in it."""
        return convert(frames, self._align)


def convert(frames: Any, align: Any | None) -> SourceFrame | None:
    """Return a copy of a pyrealsense2 frameset; the frameset may be dropped afterwards.

    Args:
        frames: composite frame with colour (rgb8) and, with `align`, depth (z16).
        align: `rs.align` to colour, or None to leave depth out.
    """
    t_host_s = time.monotonic()
    colour, depth_m, depth_t = frames.get_color_frame(), None, None
    if not colour:
        return None
    if align is not None:
        raw = frames.get_depth_frame()
        if not raw:
            return None
        depth_t = raw.get_timestamp() / 1e3
        depth = align.process(frames).get_depth_frame()
        depth_m = np.asarray(depth.get_data()).astype(np.float32) * np.float32(raw.get_units())
        depth_m[depth_m == 0] = np.nan
    return SourceFrame(
        rgb=np.array(colour.get_data(), dtype=np.uint8, copy=True),
        depth_m=depth_m,
        t_dev_s=colour.get_timestamp() / 1e3,
        depth_t_dev_s=depth_t,
        t_host_s=t_host_s,
        number=colour.get_frame_number(),
        clock=str(colour.get_frame_timestamp_domain()).rsplit(".", 1)[-1],
        K=intrinsics(colour.get_profile().as_video_stream_profile().get_intrinsics()),
    )


def intrinsics(lens: Any) -> Floats:
    """Return (3, 3) intrinsics, pixel centres at (i + 0.5), of an `rs.intrinsics`."""
    return from_opencv(np.array([[lens.fx, 0, lens.ppx], [0, lens.fy, lens.ppy], [0, 0, 1]], dtype=np.float64))


def distortion(rs: Any, lens: Any) -> tuple[float, ...]:
    """Return OpenCV's coefficients (k1, k2, p1, p2, k3) for an `rs.intrinsics`, empty when there is no distortion."""
    coefficients = np.asarray(lens.coeffs, dtype=np.float64)
    if lens.model == rs.distortion.none or not np.any(coefficients):
        return ()
    if lens.model in (rs.distortion.brown_conrady, rs.distortion.modified_brown_conrady):
        return tuple(float(value) for value in coefficients)
    if lens.model == rs.distortion.inverse_brown_conrady:
        half = (lens.width / 2 / lens.fx, lens.height / 2 / lens.fy)
        return forward_coefficients(coefficients, half)
    return ()


def forward_coefficients(inverse: Floats, half: tuple[float, float]) -> tuple[float, ...]:
    """Return coefficients that map ideal to distorted points, given those that map distorted to ideal ones.

    The largest error over the image is made small, not the mean one, which the corners would pay for: least squares
    whose weights follow the errors (Lawson 1961).

    Args:
        inverse: k1, k2, p1, p2, k3 of RealSense's inverse Brown-Conrady model.
        half: half the image's width and height over the focal length: where the fit must hold.
    """
    x, y = (
        grid.ravel() for grid in np.meshgrid(np.linspace(-half[0], half[0], 41), np.linspace(-half[1], half[1], 41))
    )
    ideal = np.stack([x, y]) + _terms(x, y) @ inverse
    wanted = np.stack([x, y]) - ideal  # what the forward terms, taken at the ideal points, must add
    terms, wanted = _terms(*ideal).reshape(-1, 5), wanted.ravel()
    weights = np.ones_like(wanted)
    for _ in range(LAWSON_ROUNDS):
        root = np.sqrt(weights)
        solved = np.linalg.lstsq(terms * root[:, None], wanted * root, rcond=None)[0]
        errors = np.abs(terms @ solved - wanted)
        if errors.max() < 1e-12:  # nothing to share out
            break
        weights *= errors / np.mean(weights * errors)
    return tuple(float(value) for value in solved)


def _terms(x: Floats, y: Floats) -> Floats:
    """Return (2, N, 5): what each coefficient k1, k2, p1, p2, k3 adds to x and y."""
    r2 = x * x + y * y
    along_x = np.stack([x * r2, x * r2**2, 2 * x * y, r2 + 2 * x * x, x * r2**3], axis=-1)
    along_y = np.stack([y * r2, y * r2**2, r2 + 2 * y * y, 2 * x * y, y * r2**3], axis=-1)
    terms: Floats = np.stack([along_x, along_y])
    return terms
