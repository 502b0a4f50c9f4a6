"""An arm that lives in a process of its own, as the caller sees it (a `cascade.contracts.Arm`)."""

from __future__ import annotations

import json
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from cascade.contracts import (
    AckKind,
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
from robot_io.process.channel import MOST_TARGETS, Command
from robot_io.process.child import Setup
from robot_io.process.child_process import ChildProcess
from robot_io.process.device_lock import DeviceLock
from robot_io.process.poses import pose_of
from robot_io.process.settings import ProcessSettings
from robot_io.process.states import LATCHED, READY

Floats = NDArray[np.float64]

MALFORMED = frozenset({"shape", "nan", "quaternion", "gripper"})
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
        self._checks = Checks(self._limits, self._settings)
        self._child: ChildProcess | None = None
        self._starting: ChildProcess | None = None
        self._lock: DeviceLock | None = None
        self._finalizer: Any = None
        self._sequence = self._chunk = 0
        self._commander: int | None = None
        self._last: Floats | None = None
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
        self._sequence = self._chunk = 0
        self._last, self._commander = None, None
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
        self._commander, self._last = None, None
        self._call("arm", deadman=deadman is not None)

    def disarm(self) -> None:
        """Stop, wait for standstill, let the device hold by itself; targets are refused from now on."""
        self._call("disarm")
        self._last = None

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
        self._last = None

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
        ack = self._command(np.asarray(target)[None], np.array([gripper]), None, observed_s)
        if ack.target is None:
            return ack
        return CommandAck(kind=ack.kind, code=ack.code, message=ack.message, target=ack.target[-1])

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
        times = np.asarray(times_s, dtype=np.float64)
        if times.ndim != 1 or not 0 < len(times) <= MOST_TARGETS or len(np.atleast_2d(values)) != len(times):
            return _rejected("shape", f"Expected 1 to {MOST_TARGETS} targets and as many times.")
        if not np.isfinite(times).all() or np.any(np.diff(times) < 0) or len(np.atleast_1d(gripper)) != len(times):
            return self._malformed(_rejected("times", "Expected finite times that do not decrease, one per target."))
        if sequence is not None and sequence < self._chunk:
            return _rejected("out_of_order", f"Chunk {sequence} came after chunk {self._chunk}.")
        ack = self._command(np.asarray(values), np.asarray(gripper), np.round(times * 1e9).astype(np.int64), observed_s)
        if ack.taken and sequence is not None:
            self._chunk = sequence
        return ack

    def _command(
        self, values: Floats, gripper: Floats, times_ns: NDArray[np.int64] | None, observed_s: float | None
    ) -> CommandAck:
        why = self._why_not()
        if why is not None:
            return why
        try:
            values = np.array(values, dtype=np.float64)
            gripper = np.array(gripper, dtype=np.float64)
        except (TypeError, ValueError):
            return self._malformed(_rejected("shape", "Expected numbers."))
        now_ns = self._clock_ns()
        command = Command(
            sequence=self._sequence + 1,
            sent_ns=now_ns,
            observed_ns=now_ns if observed_s is None else _nanoseconds(observed_s),
            ttl_ns=round(self._settings.ttl_s * 1e9),
            values=values,
            gripper=gripper,
            times_ns=times_ns,
        )
        ack = self._checks(command, self._from_where(), now_ns)
        if not ack.taken or ack.target is None:
            return self._malformed(ack)
        followed = Command(command.sequence, now_ns, command.observed_ns, command.ttl_ns, ack.target, gripper, times_ns)
        self._connected().channel.command.write(followed.pack())
        self._sequence, self._last = command.sequence, ack.target[-1]
        return ack

    def _why_not(self) -> CommandAck | None:
        thread = threading.get_ident()
        if self._commander is not None and self._commander != thread:
            return _rejected("wrong_thread", "One thread commands an arm: another one has begun.")
        mode = self.mode
        if mode not in READY:
            faults = "; ".join(map(str, self.faults))
            return _rejected(mode.value, f"The arm takes no targets ({mode.value}). {faults}".strip())
        self._commander = thread
        return None

    def _from_where(self) -> Floats:
        """Last target while it is being followed, else where the arm is: steps are measured from there."""
        record = self._record()
        moving = layout.MODES[int(record["mode"])] is ArmMode.MOVING or int(record["taken"]) < self._sequence
        return self._last if moving and self._last is not None else pose_of(record["T_base_ee"])

    def _malformed(self, ack: CommandAck) -> CommandAck:
        if ack.code and self._child is not None:
            self._child.channel.words["refused"] += 1
        return ack

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


def _rejected(code: str, message: str) -> CommandAck:
    return CommandAck(kind=AckKind.REJECTED, code=code, message=message)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9) if np.isfinite(seconds) else 0  # 0: far too old, and refused as such


def _address_of(options: Mapping[str, Any]) -> str:
    """What names the device where the driver does not say: its usual option."""
    found = {name: options[name] for name in ("host", "ip", "port", "device", "serial_port") if options.get(name)}
    return json.dumps(found, default=str) if found else ""
