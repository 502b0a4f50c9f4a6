"""Keeps the process of one camera alive: starts it, watches the age of its images, kills it when it hangs, re-opens."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from dataclasses import replace
from enum import StrEnum
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np

from cascade.contracts import CascadeError, DataError, DeviceError
from robot_io.calibration.files import CalibrationError
from robot_io.cameras.child import Job, main
from robot_io.cameras.ring import Ring
from robot_io.cameras.source import EndOfRecordingError, SourceInfo
from robot_io.cameras.watch import INTRINSICS_TOLERANCE_PX, Alarm

POLL_S = 0.02
START_S = 15.0  # a new interpreter on a machine that is busy with something else
POLITE_S, KILL_S = 1.0, 1.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 2.0


class State(StrEnum):
    """What the camera is doing."""

    CLOSED = "closed"
    OPENING = "opening"
    STREAMING = "streaming"
    REOPENING = "re-opening"
    ENDED = "ended"  # a recording is over
    FAILED = "failed"  # given up; close it and see to it


class Supervisor:
    """Owner of the camera process and of the shared memory; everything here may be read from any thread.

    Attributes:
        state, error: what it is doing, and the last thing that went wrong.
        info: of the camera as first opened, or None.
        reconnects: how often it was opened again.
        alarms: latched by what a re-opened camera showed.
        calibration_problem: why the calibration is not used, or None.
        settled: set once the first image came or the first opening failed.
    """

    def __init__(self, name: str, job: Job) -> None:
        self.state = State.CLOSED
        self.error: CascadeError | None = None
        self.info: SourceInfo | None = None
        self.ring: Ring | None = None
        self.reconnects = 0
        self.alarms = Alarm.NONE
        self.calibration_problem: CascadeError | None = None
        self.settled = threading.Event()
        self.lock = threading.Lock()  # held while the ring is copied from, so that it is not freed meanwhile
        self._name, self._job = name, job
        self._stop = threading.Event()
        self._deadline_s = 0.0  # by which the camera must be open
        self._before = 0  # newest image when the running process began
        # Children are started by this one thread: the kernel kills them when the thread that started them ends.
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)

    def start(self) -> None:
        """Open the camera in the background; wait for `settled`."""
        self.state = State.OPENING
        self._thread.start()

    def close(self) -> None:
        """End the process and free the memory, within 3 s even when the vendor's library hangs; never raises."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(POLITE_S + KILL_S + 1.0)
        with self.lock:
            ring, self.ring = self.ring, None
            self.state = State.CLOSED
            if ring is not None:
                ring.close()
                with contextlib.suppress(FileNotFoundError):
                    ring.unlink()

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            streamed = self._attempt()
            first = self.info is None or (self.reconnects == 0 and not streamed)
            ended = isinstance(self.error, EndOfRecordingError)
            if first or ended or self.alarms or not self._job.config.reopen or isinstance(self.error, DataError):
                self.state = State.ENDED if ended else State.FAILED
                break
            self.state = State.REOPENING
            wait_s = FIRST_WAIT_S if streamed else min(wait_s * 2, LONGEST_WAIT_S)
            self._stop.wait(wait_s)
            if not self._stop.is_set():
                self.reconnects += 1
                self._job = replace(self._job, serial=self.info.serial if self.info else None, patient=True)
        self.settled.set()

    def _attempt(self) -> bool:
        """Run one camera process from start to end; returns whether an image came."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=main, args=(there, self._job), name=f"camera {self._name}", daemon=True)
        streamed = False
        try:
            process.start()
            there.close()
            self._open(process, here)
            streamed = self._follow(process, here)
        except CascadeError as error:
            streamed = streamed or self._has_streamed()
            self.error = error
        finally:
            _end(process, here)
        return streamed

    def _open(self, process: BaseProcess, pipe: Connection) -> None:
        """Wait for the camera to be open and give it the shared memory."""
        self._deadline_s = time.monotonic() + START_S + self._job.config.open_timeout_s
        while not self._stop.is_set():
            info = self._message(process, pipe)
            if info is not None:
                break
            if time.monotonic() > self._deadline_s:
                raise DeviceError(
                    f"camera {self._name!r}: expected it to open within {self._job.config.open_timeout_s:.0f} s, it "
                    "does not answer.",
                    "Unplug the camera and plug it in again.",
                )
        else:
            return
        self._accept(info)
        assert self.ring is not None  # noqa: S101  (made by _accept)
        self._before = self.ring.latest
        pipe.send(self.ring.name)

    def _accept(self, info: SourceInfo) -> None:
        if self.info is None:
            self.info = info
            self.ring = Ring(info.height, info.width, depth=info.has_depth)
            return
        first = self.info
        if info.serial != first.serial:
            raise DeviceError(
                f"camera {self._name!r}: expected serial {first.serial}, found {info.serial}.", "Plug the first one in."
            )
        if (
            (info.width, info.height, info.has_depth) != (first.width, first.height, first.has_depth)
        ) or not np.allclose(info.K, first.K, rtol=0, atol=INTRINSICS_TOLERANCE_PX):
            self.alarms |= Alarm.INTRINSICS
            raise DeviceError(f"camera {self._name!r}: its intrinsics have changed since it was first opened.")
        if info.clock != first.clock:
            self.alarms |= Alarm.CLOCK
            raise DeviceError(f"camera {self._name!r}: its clock has changed since it was first opened.")

    def _follow(self, process: BaseProcess, pipe: Connection) -> bool:
        """Watch the age of the images until the process ends, hangs, or is to stop."""
        config, ring = self._job.config, self.ring
        assert ring is not None  # noqa: S101  (made by _accept)
        seen, changed_s = self._before, time.monotonic()
        hang_s = max(config.hang_s, 3 / config.fps)
        while not self._stop.is_set():
            self._message(process, pipe)
            now_s = time.monotonic()
            if ring.latest != seen:
                seen, changed_s = ring.latest, now_s
                self.state = State.STREAMING
                self.settled.set()
            limit_s = hang_s if seen != self._before else max(hang_s, config.open_timeout_s)
            if now_s - changed_s > limit_s:
                raise DeviceError(
                    f"camera {self._name!r}: expected an image every {1 / config.fps:.2g} s, none came for "
                    f"{now_s - changed_s:.1f} s.",
                    "Check the cable; another program may be using the camera.",
                )
        return seen != self._before

    def _message(self, process: BaseProcess, pipe: Connection) -> SourceInfo | None:
        """Take one message of the process, if there is one; errors are raised."""
        try:
            if pipe.poll(POLL_S):
                kind, value = pipe.recv()
                if kind == "info" and isinstance(value, SourceInfo):
                    return value
                if kind == "started":
                    self._deadline_s = time.monotonic() + self._job.config.open_timeout_s
                if kind == "calibration" and isinstance(value, CalibrationError):
                    self.calibration_problem = value
                if kind == "error" and isinstance(value, CascadeError):
                    raise value
                return None
        except (EOFError, OSError):
            process.join(POLITE_S)
        if not process.is_alive():
            raise DeviceError(
                f"camera {self._name!r}: its process ended by itself (exit code {process.exitcode}).",
                "Unplug the camera and plug it in again.",
            )
        return None

    def _has_streamed(self) -> bool:
        return self.ring is not None and self.ring.latest != self._before


def _end(process: BaseProcess, pipe: Connection) -> None:
    """Ask the process to stop, then make it; at most `POLITE_S + KILL_S`."""
    with contextlib.suppress(OSError, ValueError):
        pipe.send(None)
    if process.pid is not None:
        process.join(POLITE_S)
        if process.is_alive():
            process.kill()
            process.join(KILL_S)
        if not process.is_alive():
            process.close()
    pipe.close()
