"""A real librealsense device without hardware: images are injected into an `rs.software_device`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WIDTH, HEIGHT, FPS = 160, 120, 30
DEPTH_M = 0.75


class SoftwareCamera:
    """Colour and depth sensors of librealsense, fed by hand."""

    def __init__(self, serial: str = "SW0001") -> None:
        import pyrealsense2 as rs

        self.rs = rs
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, serial)
        self.device.register_info(rs.camera_info.name, "Software camera")
        self.depth, self.colour = self.device.add_sensor("Depth"), self.device.add_sensor("Color")
        self.depth.add_read_only_option(rs.option.depth_units, 0.001)
        self.depth_profile = self.depth.add_video_stream(self._stream(rs.stream.depth, rs.format.z16, 2, 0), True)
        self.colour_profile = self.colour.add_video_stream(self._stream(rs.stream.color, rs.format.rgb8, 3, 1), True)
        between = rs.extrinsics()
        between.rotation, between.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0.0, 0, 0]
        self.depth_profile.register_extrinsics_to(self.colour_profile, between)
        # Time stamps must look like milliseconds since 1970 at the true spacing, or the syncer pairs nothing.
        self.begin_ms = time.time() * 1e3

    def _stream(self, kind: Any, form: Any, bpp: int, uid: int) -> Any:
        rs = self.rs
        lens = rs.intrinsics()
        lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = WIDTH, HEIGHT, 150.0, 151.0, 79.0, 61.0
        lens.model, lens.coeffs = rs.distortion.brown_conrady, [0.0] * 5
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid, stream.fps, stream.bpp, stream.fmt = kind, 0, uid, FPS, bpp, form
        stream.width, stream.height, stream.intrinsics = WIDTH, HEIGHT, lens
        return stream

    def push(self, number: int, *, skew_ms: float = 0.0) -> None:
        """Inject one pair of images and sleep for a period."""
        stamp = self.begin_ms + number * 1e3 / FPS
        depth = np.full((HEIGHT, WIDTH), int(DEPTH_M * 1e3), dtype=np.uint16)
        depth[:, :8] = 0
        rgb = np.full((HEIGHT, WIDTH, 3), (number * 7) % 200 + 30, dtype=np.uint8)
        rgb[..., 0] = 200
        self._inject(self.depth, self.depth_profile, depth, number, 2, stamp + skew_ms)
        self._inject(self.colour, self.colour_profile, rgb, number, 3, stamp)
        time.sleep(1 / FPS)

    def _inject(self, sensor: Any, profile: Any, array: np.ndarray, number: int, bpp: int, stamp_ms: float) -> None:
        frame = self.rs.software_video_frame()
        frame.stride, frame.bpp, frame.timestamp, frame.frame_number = WIDTH * bpp, bpp, stamp_ms, number
        frame.domain, frame.profile = self.rs.timestamp_domain.global_time, profile.as_video_stream_profile()
        frame.pixels = array
        if bpp == 2:
            frame.depth_units = 0.001
        sensor.on_video_frame(frame)

    @contextmanager
    def streaming(self, sensors: tuple[Any, Any]) -> Iterator[Any]:
        """Open and start (depth, colour) sensors into a syncer."""
        syncer = self.rs.syncer(100)
        for sensor in sensors:
            sensor.open(sensor.get_stream_profiles()[0])
        for sensor in sensors:
            sensor.start(syncer)
        try:
            yield syncer
        finally:
            for sensor in sensors:
                sensor.stop()
                sensor.close()


@pytest.fixture
def software_camera() -> SoftwareCamera:
    pytest.importorskip("pyrealsense2", exc_type=ImportError)
    return SoftwareCamera()


@pytest.fixture(scope="session")
def make_db3() -> Callable[[Path, int], Path]:
    """Record a software camera to a .db3 file with our own helper."""
    pytest.importorskip("pyrealsense2", exc_type=ImportError)

    def make(path: Path, count: int = 30) -> Path:
        from robot_io.cameras.recording import recorder

        camera = SoftwareCamera()
        with recorder(path, camera.device, least_free_bytes=0) as writer:
            sensors = tuple(writer.query_sensors())
            with camera.streaming(sensors) as syncer:
                for number in range(count):
                    camera.push(number)
                    syncer.try_wait_for_frames(50)
            del sensors
        return path

    return make


@pytest.fixture(scope="session")
def db3(make_db3: Callable[[Path, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_db3(tmp_path_factory.mktemp("recording") / "table.db3", 30)
