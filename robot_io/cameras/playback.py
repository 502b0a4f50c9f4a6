"""Recordings that play as a camera: RealSense .db3 and old .bag, and videos with depth beside them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from cascade.contracts import DataError, DeviceError
from robot_io.cameras.config import PlaybackConfig
from robot_io.cameras.devices import realsense_library
from robot_io.cameras.film import FilmSource
from robot_io.cameras.realsense import FramesetReader
from robot_io.cameras.source import EndOfRecordingError, FrameSource, SourceFrame, SourceInfo

REALSENSE_SUFFIXES = (".db3", ".bag")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")
COPY_AGAIN = "The file is cut off: copy it again, or record again."
_SQLITE, _BAG = b"SQLite format 3\0", b"#ROSBAG V2.0\n"


def open_playback(config: PlaybackConfig) -> FrameSource:
    """Return the source for a recording, by the ending of its name.

    Raises:
        DataError: the ending is none we know.
    """
    suffix = config.path.suffix.lower()
    if suffix in REALSENSE_SUFFIXES:
        return RecordingSource(config)
    if suffix in VIDEO_SUFFIXES:
        return FilmSource(
            config.path, name=config.name, depth=config.depth, realtime=config.realtime, hfov_deg=config.hfov_deg
        )
    known = ", ".join((*REALSENSE_SUFFIXES, *VIDEO_SUFFIXES))
    raise DataError(f"{config.path}: expected a recording ({known}), found {suffix or 'no ending'}.", "Rename it.")


class RecordingSource:
    """A RealSense recording, played by librealsense itself, once."""

    def __init__(self, config: PlaybackConfig) -> None:
        self._config = config
        self._pipeline: Any = None
        self._playback: Any = None
        self._reader: FramesetReader | None = None
        self._pending: SourceFrame | None = None
        self._count = 0

    def open(self, *, serial: str | None = None) -> SourceInfo:
        """Open the recording; see `FrameSource`."""
        check_recording(self._config.path)
        rs, path = realsense_library(), self._config.path
        request = rs.config()
        rs.config.enable_device_from_file(request, str(path), repeat_playback=False)
        self._pipeline = rs.pipeline()
        try:
            profile = self._pipeline.start(request)
            self._playback = profile.get_device().as_playback()
            self._playback.set_real_time(self._config.realtime)
            self._reader = FramesetReader(rs, profile, depth=self._config.depth)
        except RuntimeError as error:
            self._pipeline = None
            raise DataError(
                f"{path}: expected a RealSense recording with colour, cannot be played ({error}).", COPY_AGAIN
            ) from error
        found = profile.get_device().get_info(rs.camera_info.serial_number)
        if serial is not None and serial != found:
            raise DeviceError(f"{path}: expected serial {serial}, found {found}.", "Put the first recording back.")
        first = self._first()
        fps = float(profile.get_stream(rs.stream.color).fps())
        return self._reader.info(kind="playback", serial=found, clock=first.clock, fps=fps, live=False)

    def read(self, timeout_s: float) -> SourceFrame | None:
        """Return the next image; each comes once."""
        if self._pending is not None:
            frame, self._pending = self._pending, None
            return frame
        return self._next(timeout_s)

    def close(self) -> None:
        """Stop playing."""
        pipeline, self._pipeline, self._reader, self._playback = self._pipeline, None, None, None
        if pipeline is not None:
            try:
                pipeline.stop()
            except RuntimeError:
                return  # it had come to its end

    def _first(self) -> SourceFrame:
        """Return the first image with colour and depth, kept for `read`: only images tell which clock they are on."""
        try:
            while self._pending is None:
                self._pending = self._next(1.0)
        except EndOfRecordingError as error:
            raise DataError(f"{self._config.path}: expected images, found none.", COPY_AGAIN) from error
        return self._pending

    def _next(self, timeout_s: float) -> SourceFrame | None:
        assert self._reader is not None  # noqa: S101  (open comes first)
        came, frames = self._pipeline.try_wait_for_frames(max(1, int(timeout_s * 1e3)))
        if not came:
            if self._stopped():
                raise EndOfRecordingError(
                    f"{self._config.path}: the recording is over after {self._count} images.",
                    "Open it again to start over.",
                )
            return None
        frame = self._reader.frame(frames)
        self._count += frame is not None
        return frame

    def _stopped(self) -> bool:
        return bool(self._playback.current_status() == realsense_library().playback_status.stopped)


def check_recording(path: Path) -> None:
    """Refuse a recording that is missing, empty, cut off or no recording at all, before librealsense sees it.

    Raises:
        DataError: with what is wrong.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a recording, found no file.", "Check the path.")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
    if path.suffix.lower() == ".db3":
        _check_database(path, head, size)
    else:
        _check_bag(path, head, size)


def _check_database(path: Path, head: bytes, size: int) -> None:
    """Compare the size with what SQLite's header says (https://www.sqlite.org/fileformat.html, section 1.3)."""
    if len(head) < 100 or not head.startswith(_SQLITE):
        raise DataError(f"{path}: expected a .db3 recording, found something else or nothing.", COPY_AGAIN)
    (page,) = struct.unpack(">H", head[16:18])
    (pages,) = struct.unpack(">I", head[28:32])
    wanted = (65536 if page == 1 else page) * pages
    if size < wanted:
        raise DataError(f"{path}: expected {wanted} bytes, found {size}.", COPY_AGAIN)


def _check_bag(path: Path, head: bytes, size: int) -> None:
    """Look for the index that a bag gets when it is closed (http://wiki.ros.org/Bags/Format/2.0)."""
    if not head.startswith(_BAG):
        raise DataError(f"{path}: expected a .bag recording, found something else or nothing.", COPY_AGAIN)
    at = head.find(b"index_pos=")
    index = struct.unpack("<Q", head[at + 10 : at + 18])[0] if at >= 0 and len(head) >= at + 18 else 0
    if index == 0 or index >= size:
        raise DataError(f"{path}: expected a finished recording, found one without its index.", COPY_AGAIN)
