"""An arm that lives in a process of its own, as the caller sees it (a `cascade.contracts.Arm`)."""

from __future__ import annotations

import json
import secrets
import time
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cascade.contracts import (
    ActionSpace,
    ArmEvent,
    ArmMode,
    ArmSpec,
    ArmState,
    CommandAck,
    DataError,
    DeviceError,
    Fault,
    Lateness,
    Limits,
    Pressed,
)
from cascade.contracts.driver import DriverInfo
from robot_io.process import channel as layout
from robot_io.process.chain import Checks, allowed, build_driver
from robot_io.process.child import Setup
from robot_io.process.child_process import ChildProcess
from robot_io.process.commander import Commander, Present
from robot_io.process.device_lock import DeviceLock
from robot_io.process.settings import ProcessSettings
from robot_io.process.states import LATCHED

Floats = NDArray[np.float64]

CALL_S = 30.0


class ArmProcess:
    """Targets in, measured state out; everything between is another process's.

    One thread commands (the first that sends after arming); any thread reads, and any thread stops.

    Args:
        target: driver, as 'module:attribute' of its PluginSpec.
        options: the driver's options.
        limits: of the arm, in its own base frame.
        settings: rate and times; None: those for a real arm.
        clock_ns: the time in which targets live; another one than the system's only in lockstep.

    Raises:
        ConfigError: a limit is above the built-in caps.
    """

    def __init__(
        self,
        target: str,
        options: BaseModel | Mapping[str, Any],
        limits: Limits,
        *,
        settings: ProcessSettings | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._settings = settings or ProcessSettings()
        self._limits = allowed(limits, self._settings)
        self._target = target
        self._options = options.model_dump() if isinstance(options, BaseModel) else dict(options)
        self._clock_ns = clock_ns
        self._info: DriverInfo = build_driver(target, self._options).info
        self._commander = Commander(Checks(self._limits, self._settings), self._settings.ttl_s, clock_ns)
        self._child: ChildProcess | None = None
        self._starting: ChildProcess | None = None
        self._lock: DeviceLock | None = None
        self._finalizer: Any = None
        self._dead: tuple[Fault, ...] = ()
        self._own_events: list[ArmEvent] = []
        self._kept_events: list[ArmEvent] = []

    @property
    def spec(self) -> ArmSpec:
        """Name, joints, rate and limits; readable before connecting."""
        return ArmSpec(
            name=self._info.model,
            joint_names=self._info.joint_names,
            accepts=ActionSpace(),
            control_hz=self._settings.rate_hz or self._info.rate_hz,
            limits=self._limits,
        )

    @property
    def info(self) -> DriverInfo:
        """What the driver says of the device."""
        return self._info

    @property
    def pid(self) -> int | None:
        """Process that owns the device, or None."""
        return None if self._child is None else self._child.pid

    # Connecting.

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and let go."""
        self.close()

    def connect(self, timeout_s: float = 5.0) -> None:
        """Start the arm process and let it connect; nothing moves.

        Raises:
            DeviceError: naming the missing step; another process that has the device; no answer in time.
        """
        if self._child is not None:
            if self.mode not in (ArmMode.DISCONNECTED, *LATCHED):
                return
            self.close()
        child, self._starting = self._starting or self._start(timeout_s), None
        try:
            child.connect()
        except BaseException:
            self._release()
            raise
        self._child, self._info = child, child.info
        self._finalizer = weakref.finalize(self, child.close)
        self._commander.restart()
        self._await_first_state(timeout_s)

    def start(self, timeout_s: float = 5.0) -> None:
        """Start the arm process without waiting for it, which `connect` does; raises DeviceError: it is taken."""
        self._starting = self._start(timeout_s)

    def _start(self, timeout_s: float) -> ChildProcess:
        address = self._info.address or _address_of(self._options)
        self._lock = DeviceLock(self._info.name, address) if address else None
        self._dead = ()
        setup = Setup(
            target=self._target,
            options=self._options,
            limits=self._limits,
            settings=self._settings,
            timeout_s=timeout_s,
        )
        try:
            return ChildProcess(setup, -1 if self._lock is None else self._lock.fd, _weak_death(self))
        except BaseException:
            self._release()
            raise

    def _await_first_state(self, timeout_s: float) -> None:
        if self._settings.lockstep:
            return
        end_s = time.monotonic() + timeout_s
        while self._connected().channel.newest() is None:
            if time.monotonic() > end_s or not self._connected().alive:
                self.close()
                raise DeviceError(
                    f"arm {self._info.name!r}: no measurement within {timeout_s:.1f} s.", "Connect again."
                )
            time.sleep(0.002)

    def close(self) -> None:
        """Stop, let go of the device, end the process: within 3 s, whatever hangs; idempotent."""
        child, self._child = self._child, None
        if self._starting is not None:
            self._starting.kill()
            self._starting = None
        if child is not None:
            child.close()
            self._kept_events += child.channel.take_log()
            self._finalizer.detach()
        self._dead = ()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _connected(self) -> ChildProcess:
        if self._child is None:
            raise DeviceError(f"arm {self._info.name!r}: not connected.", "Connect first.")
        return self._child

    def _call(self, name: str, timeout_s: float = CALL_S, **values: Any) -> Any:
        return self._connected().call(name, self._clock_ns(), timeout_s, **values)

    # Making ready.

    def arm(self, deadman: Pressed | None = None) -> None:
        """Make the arm ready to take targets; it stands still.

        Args:
            deadman: a `robot_io.process.deadman.Deadman`: motion then needs it held.

        Raises:
            DeviceError: it is in fault, its state is stale, or the device refuses.
        """
        if deadman is not None:
            deadman.attach(self._connected().channel.words)
        self._commander.release()
        self._call("arm", deadman=deadman is not None)

    def disarm(self) -> None:
        """Stop, wait for standstill, let the device hold by itself; targets are refused from now on."""
        self._call("disarm")
        self._commander.forget()

    def clear_fault(self, token: str) -> None:
        """Clear the latched fault with this token; after the last one the arm is idle, to be armed again.

        Raises:
            DeviceError: no latched fault has this token, the device does not recover, or it is an emergency stop.
        """
        if any(fault.token == token for fault in self._dead):
            self.close()  # the process is gone: connecting again is the way back
            return
        record = None if self._child is None else self._child.channel.newest()
        if record is not None and record["fatal"]:
            if token not in [fault.token for fault in self.faults]:
                raise DeviceError(
                    f"arm: expected the token of a latched fault, found {token!r}.", "Read the fault first."
                )
            self.close()
            return
        self._call("clear", token=token)

    # Simulated worlds.

    def reset_world(self, meanwhile: Callable[[], None] | None = None, **values: Any) -> None:
        """Build a simulated world anew (`meanwhile` runs at the same time here); raises DeviceError on a real arm."""
        self._connected().call("reset", self._clock_ns(), CALL_S, meanwhile, **values)
        self._commander.forget()

    def tick(self) -> None:
        """In lockstep: one control cycle, now."""
        self._connected().tick(self._clock_ns())

    def mirrored(self) -> tuple[int, bytes]:
        """Return (counter, newest state) of the simulated world; empty before the first."""
        return self._connected().channel.mirror.read()

    # Motion.

    def send(self, target: Floats, gripper: float) -> Floats:
        """Follow this target (7,) xyz [m] + quaternion wxyz and opening 0..1 from now on; latest wins.

        Returns the target as it will be followed.

        Raises:
            DataError: it is malformed, too far away, or outside of what is allowed.
            DeviceError: the arm takes no targets now, or another thread commands it.
        """
        ack = self.send_checked(target, gripper)
        if ack.taken and ack.target is not None:
            return ack.target
        text, fix = f"arm.send: {ack.code}. {ack.message}", "The arm goes on as before."
        raise DeviceError(text, "See its events.") if ack.code in _NOT_NOW else DataError(text, fix)

    def send_checked(self, target: Floats, gripper: float, *, observed_s: float | None = None) -> CommandAck:
        """As `send`, with a refusal as a value; `observed_s`: when that was seen on which the target is based."""
        return self._commander.send(self._present(), target, gripper, observed_s)

    def schedule(
        self,
        values: Floats,
        gripper: Floats,
        times_s: Floats,
        *,
        observed_s: float | None = None,
        sequence: int | None = None,
    ) -> CommandAck:
        """Replace what is not executed yet by targets at times; between them the arm is led along.

        Args:
            values: (H, 7) poses.
            gripper: (H,) openings.
            times_s: (H,) monotonic times, not decreasing.
            observed_s: when that was seen on which they are based; None: now.
            sequence: number of the chunk; one below the newest is refused.
        """
        return self._commander.schedule(self._present(), values, gripper, times_s, observed_s, sequence)

    def _present(self) -> Present:
        channel = None if self._child is None else self._child.channel
        return Present(channel=channel, mode=self.mode, faults=self.faults)

    def stop(self) -> None:
        """Brake and hold, within one cycle; any thread, no lock, idempotent, never raises."""
        child = self._child
        if child is not None:
            child.channel.words["stop"] = 1

    # Looking.

    def read(self, *, max_age_s: float = 0.2) -> ArmState:
        """Measured state, newest; raises DeviceError when it is older than `max_age_s` or its process has ended."""
        record = self._record()
        if self._dead:
            raise DeviceError(f"arm {self._info.name!r}: in fault ({self._dead[-1]}).", "Clear it and connect again.")
        age_s = (time.monotonic_ns() - int(record["stamp_ns"])) * 1e-9
        if not self._settings.lockstep and age_s > max_age_s:
            raise DeviceError(f"arm {self._info.name!r}: its state is {age_s * 1e3:.0f} ms old.", "See its events.")
        return layout.state_of(record, self.faults)

    def last_known(self) -> ArmState:
        """Last measured state, however old, with the mode and faults of now; raises DeviceError before the first."""
        record = self._record().copy()
        record["mode"] = layout.MODES.index(self.mode)
        return layout.state_of(record, self.faults)

    def _record(self) -> NDArray[np.void]:
        record = self._connected().channel.newest()
        if record is None:
            raise DeviceError(f"arm {self._info.name!r}: nothing was measured yet.", "Connect first.")
        return record

    @property
    def mode(self) -> ArmMode:
        """Mode now."""
        if self._child is None:
            return ArmMode.DISCONNECTED
        record = self._child.channel.newest()
        mode = ArmMode.IDLE if record is None else layout.MODES[int(record["mode"])]
        return ArmMode.FAULT if self._dead and mode is not ArmMode.ESTOP else mode

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Latched faults, oldest first."""
        record = None if self._child is None else self._child.channel.newest()
        return (() if record is None else layout.faults_of(record)) + self._dead

    def limited(self) -> tuple[str, ...]:
        """Which limits held the last setpoint back."""
        return tuple(filter(None, bytes(self._record()["limited"]).decode().split(",")))

    def events(self) -> list[ArmEvent]:
        """What happened since the last call, oldest first."""
        events, self._kept_events = self._kept_events, []
        if self._child is not None:
            events += self._child.channel.take_log()
        own, self._own_events = self._own_events, []
        return events + own

    def lateness(self) -> Lateness:
        """How late the control cycles began, lately."""
        return layout.lateness_of(self._record())

    def _died(self, code: str, text: str) -> None:
        """The process ended by itself: latch it, unless it said why before."""
        child = self._child
        record = None if child is None else child.channel.newest()
        stamp_s = time.monotonic()
        if record is not None and record["fatal"]:
            return
        self._dead = (Fault(code=code, message=text, token=secrets.token_hex(3), stamp_s=stamp_s),)
        self._own_events.append(ArmEvent(stamp_s=stamp_s, kind="fault", code=code, message=text))


_NOT_NOW = frozenset({*(mode.value for mode in ArmMode), "wrong_thread"})


def _weak_death(arm: ArmProcess) -> Callable[[str, str], None]:
    """The supervisor's thread must not keep a forgotten arm alive."""
    weak = weakref.WeakMethod(arm._died)

    def died(code: str, text: str) -> None:
        method = weak()
        if method is not None:
            method(code, text)

    return died


def _address_of(options: Mapping[str, Any]) -> str:
    """What names the device where the driver does not say: its usual option."""
    found = {name: options[name] for name in ("host", "ip", "port", "device", "serial_port") if options.get(name)}
    return json.dumps(found, default=str) if found else ""
