"""Videos that play as a camera, once, with the depth that lies beside them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError, DeviceError
from robot_io.cameras.source import EndOfRecordingError, Floats, SourceFrame, SourceInfo, pinhole


class FilmSource:
    """A video file, and NAME.depth.npz beside it: `depth_m` (T, H, W) [m] and, if known, `K` (3, 3).

    Args:
        path: of the video.
        name: of the camera, for messages.
        depth: whether to read the depth beside it.
        realtime: play in the video's own time; else as fast as it can be read.
        hfov_deg: horizontal field of view where no K is stored [deg].
    """

    def __init__(self, path: Path, *, name: str, depth: bool, realtime: bool, hfov_deg: float) -> None:
        self._path, self._name, self._want_depth = path, name, depth
        self._realtime, self._hfov_deg = realtime, hfov_deg
        self._capture: Any = None
        self._depth: NDArray[np.float32] | None = None
        self._number, self._fps, self._count = 0, 30.0, 0
        self._begin_s = 0.0

    def open(self, *, serial: str | None = None) -> SourceInfo:
        """Open the video; see `FrameSource`. Its serial is its file name."""
        import cv2

        if not self._path.is_file():
            raise DataError(f"camera {self._name!r}: expected the video {self._path}, found none.", "Check the path.")
        if serial is not None and serial != self._path.name:
            raise DeviceError(f"camera {self._name!r}: expected {serial}, found {self._path.name}.")
        capture = cv2.VideoCapture(str(self._path))
        self._count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if not capture.isOpened() or self._count < 1:
            raise DataError(
                f"{self._path}: expected a video, found none that can be read.",
                "The file is damaged or cut off: copy it again, or re-encode it as MP4.",
            )
        self._capture, self._number = capture, 0
        self._fps = float(capture.get(cv2.CAP_PROP_FPS)) or 30.0
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        K = self._open_depth(width, height)
        self._begin_s = time.monotonic()
        return SourceInfo(
            kind="playback",
            serial=self._path.name,
            model="video",
            width=width,
            height=height,
            fps=self._fps,
            K=pinhole(width, height, self._hfov_deg) if K is None else K,
            nominal=K is None,
            has_depth=self._depth is not None,
            clock="file",
            live=False,
        )

    def read(self, timeout_s: float) -> SourceFrame | None:
        """Return the next image when its time has come."""
        if self._realtime and not self._wait(timeout_s):
            return None
        came, image = self._capture.read()
        if not came:
            if self._number < self._count:
                raise DataError(
                    f"{self._path}: expected {self._count} images, it breaks off after {self._number}.",
                    "The file is cut off: copy it again.",
                )
            raise EndOfRecordingError(
                f"{self._path}: the recording is over after {self._number} images.", "Open it again to start over."
            )
        t_s = self._number / self._fps
        depth = None if self._depth is None else self._depth[self._number]
        self._number += 1
        return SourceFrame(
            rgb=np.ascontiguousarray(image[..., ::-1]),
            depth_m=depth,
            t_dev_s=t_s,
            depth_t_dev_s=None if depth is None else t_s,
            t_host_s=time.monotonic(),
            number=self._number,
            clock="file",
        )

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
        self._capture = self._depth = None

    def _wait(self, timeout_s: float) -> bool:
        wait_s = self._begin_s + self._number / self._fps - time.monotonic()
        time.sleep(min(max(0.0, wait_s), timeout_s))
        return wait_s <= timeout_s

    def _open_depth(self, width: int, height: int) -> Floats | None:
        beside = self._path.with_suffix(".depth.npz")
        if not (self._want_depth and beside.is_file()):
            return None
        try:
            with beside.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                depth = np.asarray(stored["depth_m"], dtype=np.float32)
                K = np.asarray(stored["K"], dtype=np.float64) if "K" in stored.files else None
        except Exception as error:  # numpy and zipfile raise half a dozen kinds for a damaged file
            raise DataError(
                f"{beside}: expected depth_m (T, H, W), cannot be read ({error}).", "Copy it again."
            ) from error
        if depth.shape != (self._count, height, width):
            raise DataError(
                f"{beside}: expected depth_m of shape {(self._count, height, width)}, found {depth.shape}.",
                "Record both again, or take the depth file away.",
            )
        self._depth = depth
        return K
