"""What runs in the process of a camera: open the source, watch its images, put them into shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cascade.contracts import CascadeError, DeviceError
from robot_io.calibration.files import CalibrationError, CameraCalibration, check_owner, check_size
from robot_io.cameras.config import CameraConfig
from robot_io.cameras.optics import Optics, check_lens
from robot_io.cameras.ring import Ring
from robot_io.cameras.source import FrameSource, SourceFactory, SourceInfo
from robot_io.cameras.stamps import Stamps
from robot_io.cameras.watch import Watch, skew_s

READ_S = 0.2
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What a camera process is asked to do.

    Attributes:
        factory, config: make the source.
        serial: the only device to open, or None for the first time.
        calibration: of this camera, or None.
        patient: True after a failure: images count again only after some good ones.
        rectify: whether to take the distortion of the lens out of the images.
    """

    factory: SourceFactory
    config: CameraConfig
    serial: str | None
    calibration: CameraCalibration | None
    patient: bool
    rectify: bool = True


def main(pipe: Connection, job: Job) -> None:
    """Run one camera until told to stop; failures are sent up the pipe as ('error', exception).

    Messages up: 'started', then 'info' with a SourceInfo (intrinsics after rotation and rectification), then errors.
    Messages down: the name of the ring, then anything to stop.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C stops the caller, and the caller stops the camera
    source: FrameSource | None = None
    try:
        pipe.send(("started", None))
        source = job.factory(job.config)
        info = source.open(serial=job.serial)
        calibration = _own(pipe, info, job)
        optics = Optics(info, job.config.rotate_deg, calibration, rectify=job.rectify)
        delay_s = calibration.latency_s if calibration is not None else 0.0
        pipe.send(("info", optics.info))
        name = pipe.recv()
        if name is not None:
            height, width = optics.info.height, optics.info.width
            with Ring(height, width, depth=optics.info.has_depth, name=name) as ring:
                _stream(pipe, source, info, optics, ring, job, delay_s)
    except (EOFError, BrokenPipeError):
        pass  # the caller is gone
    except CascadeError as error:
        _tell(pipe, error)
    except Exception as error:
        _tell(pipe, DeviceError(f"camera: {type(error).__name__}: {error}.", "Unplug the camera and plug it in again."))
    finally:
        if source is not None:
            source.close()


def _stream(
    pipe: Connection,
    source: FrameSource,
    info: SourceInfo,
    optics: Optics,
    ring: Ring,
    job: Job,
    delay_s: float,
) -> None:
    watch, stamps = Watch(job.config.watch, info), Stamps()
    wanted = job.config.watch.good_frames
    good = 0 if job.patient else wanted - 1
    arrivals: deque[float] = deque(maxlen=31)
    while not pipe.poll():
        frame = source.read(READ_S)
        if frame is None:
            continue
        judgement = watch.judge(frame)
        arrivals.append(frame.t_host_s)
        counts = watch.counts
        ring.note(
            missed=counts.missed,
            duplicated=counts.duplicated,
            stale=counts.stale,
            skewed=counts.skewed,
            received=ring.counters["received"] + 1,
            fps=_rate(arrivals),
            alarms=int(judgement.alarms),
        )
        if judgement.alarms:
            good = 0
        if not judgement.publish or frame.rgb.shape[:2] != (info.height, info.width):
            continue
        good += not judgement.alarms
        ring.note(ready=int(good >= wanted))
        rgb, depth_m = optics.apply(frame)
        stamp_s = stamps.stamp_s(frame.t_dev_s, frame.t_host_s) - delay_s if info.live else frame.t_host_s
        ring.write(
            rgb,
            depth_m,
            stamp_s=stamp_s,
            t_dev_s=frame.t_dev_s,
            skew_s=skew_s(frame),
            number=frame.number,
            alarms=int(judgement.alarms),
        )


def _own(pipe: Connection, info: SourceInfo, job: Job) -> CameraCalibration | None:
    """Return the calibration when it is of this very camera; otherwise tell why not and go on without."""
    if job.calibration is None:
        return None
    try:
        check_owner(job.calibration, job.config.calibration or Path(), serial=info.serial)
        width, height = (info.height, info.width) if job.config.rotate_deg % 180 else (info.width, info.height)
        check_size(job.calibration, job.config.calibration or Path(), (width, height))
        check_lens(job.calibration, job.config.calibration or Path(), info, job.config.rotate_deg)
    except CalibrationError as error:
        pipe.send(("calibration", error))
        return None
    return job.calibration


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends, even while a vendor's call hangs."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _rate(arrivals: deque[float]) -> float:
    span = arrivals[-1] - arrivals[0]
    return (len(arrivals) - 1) / span if span > 0 else 0.0


def _tell(pipe: Connection, error: Any) -> None:
    with contextlib.suppress(OSError, EOFError, BrokenPipeError):
        pipe.send(("error", error))
