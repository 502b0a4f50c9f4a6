"""Recording: a RealSense to .db3 with librealsense itself, any other camera to a video with its depth beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import CameraImage, DataError
from cascade.contracts.video import write_mp4
from robot_io.cameras.config import RealsenseConfig
from robot_io.cameras.devices import choose_realsense, realsense_devices, realsense_library
from robot_io.cameras.playback import check_recording
from robot_io.cameras.process import CameraProcess

LEAST_FREE_BYTES = 256 * 2**20
PROBE_BYTES = 2**20
CHECK_S = 0.5
MAKE_ROOM = "Make room, or record elsewhere."


class DiskFullError(DataError):
    """A recording does not fit on its disk."""


def check_disk(path: Path, least_free_bytes: int = LEAST_FREE_BYTES) -> None:
    """Raise DiskFullError when less than `least_free_bytes` are free for `path`, DataError without its folder."""
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder, found none.", "Make it first.")
    free = shutil.disk_usage(folder).free
    if free < least_free_bytes:
        raise DiskFullError(
            f"{folder}: expected {least_free_bytes / 2**20:.0f} MB free, found {free / 2**20:.0f} MB.", MAKE_ROOM
        )


@contextmanager
def recorder(path: Path, device: Any, *, least_free_bytes: int = LEAST_FREE_BYTES) -> Iterator[Any]:
    """Record what an `rs.device` sends to a .db3 file for as long as the context lasts; gives the `rs.recorder`.

    The sensors must be opened, started and stopped through the recorder. At the end the file is read back: librealsense
    itself says nothing when the disk is full.

    Raises:
        DataError: the name does not end in .db3, exists already, or nothing was recorded.
        DiskFullError: the recording does not fit.
    """
    rs = realsense_library()
    _check_name(path, least_free_bytes)
    try:
        writer = rs.recorder(str(path), device)
    except RuntimeError as error:
        raise DataError(f"{path}: cannot be written ({error}).", "Choose another place.") from error
    try:
        yield writer
    except RuntimeError as error:
        _raise_if_full(path, least_free_bytes)
        raise DataError(f"{path}: recording failed ({error}).", "Record again.") from error
    finally:
        del writer  # closes the file
    _raise_if_full(path, least_free_bytes)
    verify(path, least_free_bytes=least_free_bytes)


def record_realsense(
    config: RealsenseConfig,
    path: Path,
    seconds: float,
    *,
    least_free_bytes: int = LEAST_FREE_BYTES,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Record a RealSense that is plugged in for some seconds or until `stop()`; errors as `recorder`."""
    rs = realsense_library()
    _check_name(path, least_free_bytes)
    request = rs.config()
    request.enable_device(choose_realsense(realsense_devices(), config.serial))
    request.enable_stream(rs.stream.color, config.width, config.height, rs.format.rgb8, round(config.fps))
    if config.depth:
        request.enable_stream(rs.stream.depth, config.width, config.height, rs.format.z16, round(config.fps))
    request.enable_record_to_file(str(path))
    pipeline = rs.pipeline()
    try:
        pipeline.start(request)
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not stop():
            pipeline.try_wait_for_frames(int(CHECK_S * 1e3))
            check_disk(path, least_free_bytes)
        pipeline.stop()
    except RuntimeError as error:
        _raise_if_full(path, least_free_bytes)
        raise DataError(f"{path}: recording failed ({error}).", "Record again.") from error
    del pipeline
    _raise_if_full(path, least_free_bytes)
    verify(path, least_free_bytes=least_free_bytes)
    return path


def record_film(camera: CameraProcess, path: Path, count: int, *, least_free_bytes: int = LEAST_FREE_BYTES) -> Path:
    """Record the next `count` images of an open camera to a video, and depth and K to NAME.depth.npz beside it.

    Raises:
        DataError: the name exists already or cannot be written.
        DiskFullError: the recording does not fit.
        DeviceError: as `CameraProcess.wait`.
    """
    info = camera.info
    if path.exists():
        raise DataError(f"{path}: exists already.", "Choose another name.")
    need = 0 if info is None else count * info.width * info.height * 4
    check_disk(path, max(least_free_bytes, need))
    frames: list[CameraImage] = []
    seq = 0
    while len(frames) < count:
        frame = camera.wait(seq)
        seq = frame.seq
        frames.append(frame.image)
    fps = 30.0 if info is None else info.fps
    try:
        write_mp4(path, np.stack([frame.rgb for frame in frames]), fps)
        depths = [frame.depth_m for frame in frames if frame.depth_m is not None]
        if len(depths) == count:
            np.savez_compressed(path.with_suffix(".depth.npz"), depth_m=np.stack(depths), K=frames[0].K)
    except OSError as error:
        _raise_if_full(path, least_free_bytes)
        raise DataError(f"{path}: cannot be written ({error}).", "Choose another place.") from error
    return path


def verify(path: Path, *, least_free_bytes: int = LEAST_FREE_BYTES) -> int:
    """Read a .db3 recording back and return how many messages it holds.

    Raises:
        DiskFullError: it is damaged or empty and the disk is full.
        DataError: it is damaged or empty for another reason.
    """
    try:
        check_recording(path)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            (state,) = database.execute("PRAGMA quick_check").fetchone()
            (count,) = database.execute("SELECT COUNT(*) FROM messages").fetchone()
            # Every recording begins with a few messages about the device itself; images have a topic of their own.
            images = database.execute(
                "SELECT COUNT(*) FROM messages JOIN topics ON messages.topic_id = topics.id "
                "WHERE topics.name LIKE '%/image%'"
            ).fetchone()[0]
    except (DataError, sqlite3.Error, OSError) as error:
        _raise_if_full(path, least_free_bytes)
        raise DataError(f"{path}: expected a recording that can be read back; {error}", "Record again.") from error
    if state != "ok" or images == 0:
        _raise_if_full(path, least_free_bytes)
        raise DataError(f"{path}: expected images in the recording, found none.", "Record again.")
    return int(count)


def _check_name(path: Path, least_free_bytes: int) -> None:
    if path.suffix != ".db3":
        raise DataError(f"{path}: expected a name ending in .db3.", f"Name it {path.with_suffix('.db3').name}.")
    if path.exists():
        raise DataError(f"{path}: exists already.", "Choose another name.")
    check_disk(path, least_free_bytes)


def _raise_if_full(path: Path, least_free_bytes: int) -> None:
    """Tell a full disk by writing to it: free space alone knows nothing of quotas and limits.

    librealsense goes on when its writes fail: the file stays readable and the images that did not fit are missing.
    """
    probe = path.with_suffix(".probe")
    try:
        check_disk(path, least_free_bytes)
        with probe.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DiskFullError(f"{path}: the disk filled up ({error.strerror}); images are missing.", MAKE_ROOM) from error
    finally:
        with suppress(OSError):
            probe.unlink()
