"""Webcams, V4L2 devices and video files through OpenCV."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import DeviceError
from robot_io.cameras.config import OpencvConfig
from robot_io.cameras.devices import identity, v4l2_devices, v4l2_model
from robot_io.cameras.source import FrameSource, SourceFrame, SourceInfo, pinhole


class OpencvSource:
    """A webcam, or a video file."""

    def __init__(self, config: OpencvConfig) -> None:
        self._config = config
        self._capture: Any = None
        self._film: FrameSource | None = None
        self._number = 0

    def open(self, *, serial: str | None = None) -> SourceInfo:
        """Open the device; see `FrameSource`."""
        config = self._config
        if isinstance(config.device, str) and not config.device.startswith("/dev/"):
            from robot_io.cameras.film import FilmSource

            self._film = FilmSource(
                Path(config.device), name=config.name, depth=False, realtime=True, hfov_deg=config.hfov_deg
            )
            return self._film.open(serial=serial)
        path = f"/dev/video{config.device}" if isinstance(config.device, int) else config.device
        self._refuse(path, serial)
        return self._start(path)

    def read(self, timeout_s: float) -> SourceFrame | None:
        """Return the next image; a webcam that is unplugged raises DeviceError."""
        if self._film is not None:
            return self._film.read(timeout_s)
        came, image = self._capture.read()
        if not came:
            raise DeviceError(f"camera {self._config.name!r}: it sends no images any more.", "Check the cable.")
        now_s = time.monotonic()
        self._number += 1
        return SourceFrame(
            rgb=np.ascontiguousarray(image[..., ::-1]), t_dev_s=now_s, t_host_s=now_s, number=self._number
        )

    def close(self) -> None:
        """Let go of the device."""
        if self._film is not None:
            self._film.close()
        if self._capture is not None:
            self._capture.release()
        self._film = self._capture = None

    def _refuse(self, path: str, serial: str | None) -> None:
        """Raise DeviceError when the device is missing, closed to us, or another one; opens nothing."""
        node = Path(path)
        if not node.exists():
            known = ", ".join(f"{device} ({model})" for device, model in v4l2_devices()) or "none"
            raise DeviceError(
                f"camera {self._config.name!r}: expected {path}, found {known}.",
                "Plug it in, or set `device` to one of those found.",
            )
        found = identity(path)
        if serial is not None and found != serial:
            raise DeviceError(
                f"camera {self._config.name!r}: expected {serial}, found {found} at {path}.",
                "Plug the first one in, or name it by its path in /dev/v4l/by-id.",
            )

    def _start(self, path: str) -> SourceInfo:
        import cv2

        config = self._config
        capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise DeviceError(
                f"camera {config.name!r}: {path} cannot be opened.",
                "Close other programs that use it; you may have to be in the group `video`.",
            )
        self._capture, self._number = capture, 0
        for key, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, config.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, config.height),
            (cv2.CAP_PROP_FPS, config.fps),
            (cv2.CAP_PROP_BUFFERSIZE, 1),  # the newest image, not the oldest of a queue
        ):
            capture.set(key, value)
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if (width, height) != (config.width, config.height):
            raise DeviceError(
                f"camera {config.name!r}: expected {config.width} x {config.height} px, it gives {width} x {height}.",
                "Set `width` and `height` to a size it offers (v4l2-ctl --list-formats-ext lists them).",
            )
        return SourceInfo(
            kind="opencv",
            serial=identity(path),
            model=v4l2_model(path) or path,
            width=width,
            height=height,
            fps=float(capture.get(cv2.CAP_PROP_FPS)) or config.fps,
            K=pinhole(width, height, config.hfov_deg),
            nominal=True,
        )
