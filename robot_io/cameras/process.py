"""A camera in a process of its own, as the rest of cascade sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cascade.contracts import CameraImage, CascadeError, DataError, DeviceError, StaleImageError
from robot_io.calibration.files import CameraCalibration, check_owner, load_calibration
from robot_io.cameras.child import Job
from robot_io.cameras.config import CameraConfig, RealsenseConfig
from robot_io.cameras.ring import RingFrame
from robot_io.cameras.source import EndOfRecordingError, SourceFactory, SourceInfo
from robot_io.cameras.supervisor import START_S, State, Supervisor
from robot_io.cameras.watch import Alarm, describe

WAIT_STEP_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraFrame:
    """One image with its number.

    Attributes:
        seq: counts all images of this camera since it was opened; goes on over a re-opening.
        image: the image, a copy.
        t_dev_s: time of exposure on the device's own clock [s].
        number: the device's own frame counter.
    """

    seq: int
    image: CameraImage
    t_dev_s: float
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraHealth:
    """How a camera is doing.

    Attributes:
        state: 'streaming', 're-opening', ...
        fps: images per second, over the last second or so; age_s: of the newest image, None before the first.
        received: images since it was (re-)opened; missed, duplicated, stale, skewed: see `watch.Counts`.
        skew_s: between colour and depth of the newest image.
        reconnects: how often it was opened again.
        alarms: names of what is wrong with the images now.
        last_error: the last thing that went wrong, also when it is over, or empty.
        serial: of the camera, empty before it is open.
        nominal: True when the intrinsics are only a guess; calibration: its kind, or why it is not used, or 'none'.
    """

    state: str
    fps: float = 0.0
    age_s: float | None = None
    received: int = 0
    missed: int = 0
    duplicated: int = 0
    stale: int = 0
    skewed: int = 0
    skew_s: float = 0.0
    reconnects: int = 0
    alarms: tuple[str, ...] = ()
    last_error: str = ""
    serial: str = ""
    nominal: bool = False
    calibration: str = "none"

    @property
    def good(self) -> bool:
        """Whether images come and nothing is wrong with them."""
        return self.state == State.STREAMING and not self.alarms

    def __str__(self) -> str:
        age = "no image" if self.age_s is None else f"age {self.age_s * 1e3:.0f} ms"
        dropped = self.missed + self.duplicated + self.stale + self.skewed
        parts = [self.state, f"{self.fps:.1f} fps", age, f"dropped {dropped}", f"skew {self.skew_s * 1e3:.0f} ms"]
        parts += [f"reconnects {self.reconnects}", f"calibration: {self.calibration}"]
        parts += ["intrinsics only guessed"] if self.nominal else []
        parts += [f"ALARM {', '.join(self.alarms)}"] if self.alarms else []
        return ", ".join(parts)


class CameraProcess:
    """A camera whose driver runs in a process of its own (a `cascade.contracts.Camera`).

    Images are copies: a consumer may keep as many as it likes. The process is watched by the age of its images; when it
    hangs it is killed and the same serial is opened again, and images count once `watch.good_frames` good ones have
    come in a row.

    Args:
        factory: makes the source inside the process: a class or function at the top of a module.
        config: options, also handed to `factory`.
    """

    def __init__(self, factory: SourceFactory, config: CameraConfig) -> None:
        self._factory, self._config = factory, config
        self._calibration: CameraCalibration | None = None
        self._problem: CascadeError | None = None
        self._supervisor: Supervisor | None = None
        self._rectify = True
        self._load()

    @property
    def name(self) -> str:
        """Name of the view."""
        return self._config.name

    @property
    def config(self) -> CameraConfig:
        """Its options."""
        return self._config

    @property
    def info(self) -> SourceInfo | None:
        """What is known of the camera once it is open, with the intrinsics its images come with; None before."""
        return self._supervisor.info if self._supervisor is not None else None

    @property
    def calibration(self) -> CameraCalibration | None:
        """The calibration in use: None when there is none or it was refused (see `calibration_problem`)."""
        return None if self.calibration_problem is not None else self._calibration

    @property
    def calibration_problem(self) -> CascadeError | None:
        """Why the configured calibration is not used, with the remedy; None when it is, or none was configured.

        Missing, stale and unreadable files show before the camera is open; another camera's file only afterwards.
        """
        if self._problem is None and self._supervisor is not None:
            return self._supervisor.calibration_problem
        return self._problem

    @property
    def provides_depth(self) -> bool:
        """Whether images carry depth: as configured before it is open, as found afterwards."""
        return self.info.has_depth if self.info is not None else bool(getattr(self._config, "depth", False))

    @property
    def provides_extrinsics(self) -> bool:
        """Whether it is known where the camera is."""
        return self.calibration is not None and self.calibration.has_extrinsics

    def bind_arm(self, arm: str) -> None:
        """Refuse a calibration whose pose was measured with another arm; call it before the camera is open."""
        path = self._config.calibration
        if self._calibration is not None and path is not None:
            try:
                check_owner(self._calibration, path, arm=arm)
            except CascadeError as error:
                self._calibration, self._problem = None, error

    def for_calibration(self) -> None:
        """Give images as the lens makes them, without calibration and with the distortion left in `info`.

        For the making of a new calibration; raises DeviceError once the camera is open.
        """
        if self._supervisor is not None:
            raise DeviceError(f"camera {self.name!r}: expected it to be closed.", "Close it first.")
        self._calibration = self._problem = None
        self._rectify = False
        self._config = self._config.model_copy(update={"calibration": None})

    def __enter__(self) -> Self:
        """Open the camera and wait for its first image.

        Raises:
            DeviceError: no device, another serial, a missing library, no image in time.
            DataError: a recording that is missing or damaged.
        """
        if self._supervisor is not None:
            raise DeviceError(f"camera {self.name!r}: expected it to be closed, it is open.", "Open it once.")
        job = Job(self._factory, self._config, None, self._calibration, False, self._rectify)
        supervisor = self._supervisor = Supervisor(self.name, job)
        supervisor.start()
        try:
            came = supervisor.settled.wait(START_S + 2 * self._config.open_timeout_s)
            if supervisor.state is State.FAILED or not came:
                raise supervisor.error or DeviceError(f"camera {self.name!r}: expected an image, none came.")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the camera."""
        self.close()

    def close(self) -> None:
        """End the camera's process, within 3 s; idempotent, never raises."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.close()

    def read(self, *, max_age_s: float = 0.15) -> CameraImage:
        """Return the newest image.

        Raises:
            StaleImageError: it is older than `max_age_s`, or the camera was re-opened and good images are still few.
            DeviceError: an alarm holds (black, frozen, ...; the message names it), or the camera is closed.
            EndOfRecordingError: a recording is over.
        """
        frame = self._newest()
        self._check(frame, max_age_s)
        assert frame is not None  # noqa: S101  (_check refuses None)
        return self._image(frame)

    def wait(self, after_seq: int, timeout_s: float = 1.0) -> CameraFrame:
        """Return the first image newer than number `after_seq` (0 for the first); errors as `read`.

        Raises:
            StaleImageError: none came within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            supervisor = self._open_supervisor()
            if supervisor.ring is not None and supervisor.ring.latest > after_seq:
                frame = self._newest()
                if frame is not None and frame.seq > after_seq:
                    self._check(frame, float("inf"))
                    return self._numbered(frame)
            if supervisor.state is State.ENDED:
                self._check(None, 0.0)
            if time.monotonic() > deadline:
                raise self._stale(f"a new image within {timeout_s:.2g} s", "none")
            time.sleep(WAIT_STEP_S)

    def record(self, path: Path, seconds: float) -> Path:
        """Record for some seconds and return the file; the camera must be closed, and is again afterwards.

        A name ending in .db3 is recorded by librealsense itself, with everything a RealSense sends; a video gets its
        depth beside it, so that both play with the plug-in `playback`.

        Raises:
            DataError: the name exists already, ends otherwise, or cannot be written; DiskFullError: it does not fit.
            DeviceError: as when it is opened and read.
        """
        from robot_io.cameras.recording import record_film, record_realsense

        if self._supervisor is not None:
            raise DeviceError(f"camera {self.name!r}: expected it to be closed.", "Close it first.")
        if path.suffix == ".db3":
            if not isinstance(self._config, RealsenseConfig):
                raise DataError(f"{path}: only a RealSense records to .db3.", "Name it .mp4.")
            return record_realsense(self._config, path, seconds)
        if path.suffix != ".mp4":
            raise DataError(f"{path}: expected a name ending in .db3 or .mp4.", "Rename it.")
        with self:
            return record_film(self, path, max(1, round(seconds * self._config.fps)))

    def peek(self) -> CameraFrame | None:
        """Return the newest image whatever its age and alarms, or None before the first: for displays only."""
        frame = self._newest()
        return None if frame is None else self._numbered(frame)

    def health(self) -> CameraHealth:
        """Return how the camera is doing; never raises."""
        supervisor = self._supervisor
        if supervisor is None:
            return CameraHealth(state=State.CLOSED, calibration=self._calibration_words())
        with supervisor.lock:
            ring = supervisor.ring
            counters = ring.counters if ring is not None else {}
            fps = ring.fps if ring is not None else 0.0
            newest = ring.newest_stamp() if ring is not None else None
        info = supervisor.info
        return CameraHealth(
            state=supervisor.state,
            fps=fps if supervisor.state is State.STREAMING else 0.0,
            age_s=None if newest is None else time.monotonic() - newest[0],
            skew_s=0.0 if newest is None else newest[1],
            **{key: counters.get(key, 0) for key in ("received", "missed", "duplicated", "stale", "skewed")},
            reconnects=supervisor.reconnects,
            alarms=_names(Alarm(counters.get("alarms", 0)) | supervisor.alarms),
            last_error="" if supervisor.error is None else str(supervisor.error),
            serial="" if info is None else info.serial,
            nominal=info is not None and info.nominal,
            calibration=self._calibration_words(),
        )

    def _check(self, frame: RingFrame | None, max_age_s: float) -> None:
        supervisor = self._open_supervisor()
        latched = supervisor.alarms | Alarm(frame.alarms if frame is not None else 0)
        age_s = float("inf") if frame is None else time.monotonic() - frame.stamp_s
        if isinstance(supervisor.error, EndOfRecordingError) and (frame is None or age_s > max_age_s):
            raise EndOfRecordingError(supervisor.error.problem, supervisor.error.fix)
        if latched:
            problem, fix = describe(latched)
            raise DeviceError(f"camera {self.name!r}: {problem} ({', '.join(_names(latched))}).", fix)
        if age_s > max_age_s:
            raise self._stale(f"an image of the last {max_age_s * 1e3:.0f} ms", f"one {age_s:.2f} s old")
        if supervisor.ring is not None and not supervisor.ring.ready:
            raise self._stale(f"{self._config.watch.good_frames} good images in a row after a failure", "fewer")

    def _stale(self, expected: str, found: str) -> StaleImageError:
        supervisor = self._supervisor
        state = State.CLOSED if supervisor is None else supervisor.state
        error = None if supervisor is None or state is State.STREAMING else supervisor.error
        why = f": {error.problem}" if error is not None else "."
        fix = error.fix if error is not None else "Check the cable and how busy the machine is."
        return StaleImageError(f"camera {self.name!r}: expected {expected}, found {found}; it is {state}{why}", fix)

    def _newest(self) -> RingFrame | None:
        supervisor = self._open_supervisor()
        with supervisor.lock:
            return None if supervisor.ring is None else supervisor.ring.newest()

    def _open_supervisor(self) -> Supervisor:
        if self._supervisor is None:
            raise DeviceError(f"camera {self.name!r}: expected it to be open, it is closed.", "Open it with `with`.")
        return self._supervisor

    def _numbered(self, frame: RingFrame) -> CameraFrame:
        return CameraFrame(seq=frame.seq, image=self._image(frame), t_dev_s=frame.t_dev_s, number=frame.number)

    def _image(self, frame: RingFrame) -> CameraImage:
        info, calibration = self.info, self.calibration
        assert info is not None  # noqa: S101  (an image came, so the camera is open)
        return CameraImage(
            rgb=frame.rgb,
            depth_m=frame.depth_m,
            K=info.K,
            T_base_cam=None if calibration is None else calibration.T_base_cam,
            stamp_s=frame.stamp_s,
        )

    def _load(self) -> None:
        """Read the calibration; a refused one is kept as `calibration_problem`, the camera still opens."""
        if self._config.calibration is None:
            return
        days = self._config.calibration_max_age_days
        try:
            self._calibration = load_calibration(
                self._config.calibration, max_age=None if days is None else timedelta(days=days)
            )
        except CascadeError as error:
            self._problem = error

    def _calibration_words(self) -> str:
        if self.calibration_problem is not None:
            return f"refused ({self.calibration_problem.problem})"
        return self._calibration.kind if self._calibration is not None else "none"


def _names(alarms: Alarm) -> tuple[str, ...]:
    return tuple(alarm.name.lower() for alarm in Alarm if alarm & alarms and alarm.name)
