"""The arm process itself: builds the driver, runs the cycles, does what the caller's side asks for."""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from cascade.contracts import ArmMode, CascadeError, DeviceError, Limits
from cascade.contracts.driver import ArmDriver, DriverInfo
from robot_io.process.chain import Checks, build_driver, kinematics_of, limiter_of
from robot_io.process.channel import Channel
from robot_io.process.loop import Cycle
from robot_io.process.realtime import Pacer, become_punctual, get_ahead
from robot_io.process.settings import ProcessSettings

TICK = struct.Struct("<cq")
DONE = b"d"
LEAVE_S = 2.5
EXIT_LOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the caller's side sends first.

    Attributes:
        target, options: the driver's plug-in, as `build_driver` takes them.
        limits: of the arm; settings: of the process; timeout_s: for connecting.
    """

    target: str
    options: dict[str, Any]
    limits: Limits
    settings: ProcessSettings
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of the caller's side; the answer carries the same number."""

    number: int
    name: str
    now_ns: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer to a request: `error` is (problem, fix) or None."""

    number: int
    value: Any = None
    error: tuple[str, str] | None = None


class ArmServer:
    """Serves one arm until the caller closes, dies, or the device is lost."""

    def __init__(self, link: Connection, channel: Channel, setup: Setup) -> None:
        self._link, self._channel, self._settings = link, channel, setup.settings
        self._setup = setup
        self._driver: ArmDriver = build_driver(setup.target, setup.options)
        self._info: DriverInfo = self._driver.info
        self._cycle: Cycle = None  # type: ignore[assignment]  # made by connect
        self._rate_hz = min(setup.settings.rate_hz or self._info.rate_hz, 500.0)
        self._disarm: int | None = None  # request that waits for standstill
        self._close: int | None = None
        self._leaving_ns = 0
        self._pacer: Pacer | None = None

    def connect(self) -> DriverInfo:
        """Connect the device and prepare the chain; raises CascadeError."""
        settings, limits = self._settings, self._setup.limits
        if not settings.lockstep:
            get_ahead(settings.scheduling)
        self._driver.connect(self._setup.timeout_s)
        self._info = self._driver.info
        kinematics = kinematics_of(self._info)
        scheduling = "lockstep"
        if not settings.lockstep:
            grant = become_punctual(self._rate_hz, wanted=settings.scheduling)
            self._rate_hz, scheduling = grant.rate_hz, grant.scheduling
            if grant.warning:
                self._channel.log(time.monotonic_ns(), "warning", "not_realtime", grant.warning)
        self._cycle = Cycle(
            self._driver,
            limiter_of(self._info, limits, kinematics, 1.0 / self._rate_hz),
            Checks(limits, settings, kinematics, lambda: self._cycle.joints),
            None if kinematics is None else kinematics.forward,
            limits,
            settings,
            self._channel,
        )
        self._cycle.pacing(scheduling, self._rate_hz)
        return self._info

    def serve(self, now_ns: int) -> None:
        """Run until it is over."""
        self._cycle.connected(now_ns)
        if self._settings.lockstep:
            self._serve_lockstep()
        else:
            self._serve_by_time()

    def _serve_lockstep(self) -> None:
        now_ns = 0
        while not self._cycle.finished and not self._leaving_ns:
            try:
                message = self._link.recv_bytes()
            except (EOFError, OSError):
                break
            if len(message) == TICK.size:
                now_ns = TICK.unpack(message)[1]
                self._cycle.run(now_ns)
                self._link.send_bytes(DONE)
            else:
                self._handle(message)
                if self._disarm is not None:  # nobody waits for standstill where time stands still
                    for _ in range(400):
                        now_ns += round(1e9 / self._rate_hz)
                        self._cycle.run(now_ns)
                        if not self._cycle.disarming:
                            break
                self._settle()
        self._finish()

    def _serve_by_time(self) -> None:
        pacer = self._pacer = Pacer(self._rate_hz)
        while not self._cycle.finished:
            now_ns, late_ns = pacer.wait()
            self._cycle.lateness.add(late_ns, now_ns)
            self._cycle.run(now_ns, late_ns)
            if self._poll():
                pacer.restart()
            self._settle()
            if self._leaving_ns and (not self._cycle.modes.ready or now_ns > self._leaving_ns):
                break
        self._finish()

    def _poll(self) -> bool:
        """Do what was asked for; return whether anything was."""
        try:
            if self._leaving_ns or not self._link.poll(0):
                return False
            self._handle(self._link.recv_bytes())
        except (EOFError, OSError):
            self._leave("caller_lost")
        return True

    def _handle(self, message: bytes) -> None:
        import pickle

        request: Request = pickle.loads(message)  # noqa: S301  (our own parent wrote it)
        now_ns = request.now_ns if self._settings.lockstep else time.monotonic_ns()
        handlers: dict[str, Callable[..., Any]] = {
            "arm": lambda deadman: self._cycle.arm(now_ns, deadman=deadman),
            "disarm": lambda: self._begin_disarm(request.number, now_ns),
            "clear": lambda token: self._cycle.clear(token, now_ns),
            "close": lambda: self._begin_close(request.number),
            "reset": lambda **values: self._reset(values, now_ns),
        }
        try:
            value = handlers[request.name](**request.values)
        except CascadeError as error:
            self._answer(Answer(number=request.number, error=(error.problem, error.fix)))
        except Exception as error:
            text = f"driver {self._info.name!r} failed: {type(error).__name__}: {error}."
            self._answer(Answer(number=request.number, error=(text, "Run with --debug, or report it to its author.")))
        else:
            self._cycle.publish(now_ns)
            if request.number not in (self._disarm, self._close):
                self._answer(Answer(number=request.number, value=value))

    def _begin_disarm(self, number: int, now_ns: int) -> None:
        self._cycle.begin_disarm(now_ns)
        self._disarm = number

    def _begin_close(self, number: int) -> None:
        self._close = number
        self._leave("closed")

    def _leave(self, code: str) -> None:
        now_ns = time.monotonic_ns()
        self._leaving_ns = now_ns + round(LEAVE_S * 1e9)
        self._cycle.begin_disarm(now_ns, code)

    def _reset(self, values: dict[str, Any], now_ns: int) -> None:
        reset = getattr(self._driver, "reset", None)
        if reset is None:
            raise DeviceError(f"arm {self._info.name!r}: only a simulated world can be reset.")
        reset(**values)
        self._cycle.placed_anew(now_ns)

    def _settle(self) -> None:
        """Answer a disarm that has come to rest, or was stopped on its way there."""
        if self._disarm is not None and not self._cycle.disarming:
            error = ("arm: stopped on its way to rest; it holds there, with torque.", "Arm it, then disarm it again.")
            self._answer(Answer(number=self._disarm, error=error if self._cycle.rest_stopped else None))
            self._disarm = None

    def _answer(self, answer: Answer) -> None:
        import contextlib

        with contextlib.suppress(OSError):
            self._link.send(answer)

    def _finish(self) -> None:
        """Let go of the device, within bounded time; a lost device is left as it is, its library untouched."""
        now_ns = time.monotonic_ns()
        if self._cycle.finished:
            self._cycle.publish(now_ns)
            os._exit(EXIT_LOST)
        _exit_after(1.5)
        if self._cycle.modes.ready:
            self._driver.halt()
        self._driver.close()
        self._cycle.close(now_ns)
        if self._close is not None:
            self._answer(Answer(number=self._close))


def _exit_after(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (EXIT_LOST,))
    timer.daemon = True
    timer.start()


def main() -> None:
    """Entry of the child: file descriptors of link and memory are its arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's; we see it stop or die
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    link, channel = Connection(int(sys.argv[1])), Channel(int(sys.argv[2]))
    setup: Setup = link.recv()
    try:
        server = ArmServer(link, channel, setup)
        link.send(Answer(number=-1))  # everything is imported; connecting begins
        info = server.connect()
        link.send(Answer(number=0, value=info))
    except CascadeError as error:
        link.send(Answer(number=0, error=(error.problem, error.fix)))
        return
    except Exception as error:
        text = f"driver {setup.target!r} failed to connect: {type(error).__name__}: {error}."
        link.send(Answer(number=0, error=(text, "Report it to its author.")))
        return
    server.serve(0 if setup.settings.lockstep else time.monotonic_ns())
    sys.stderr.flush()
    os._exit(0)  # a vendor's library may wait, talk or crash in its destructors


__all__ = ["Answer", "ArmMode", "Request", "Setup", "main"]
