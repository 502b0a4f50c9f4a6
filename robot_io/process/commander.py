"""Targets on their way to the arm process: from one thread, checked, numbered, written into the shared memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import AckKind, ArmMode, CommandAck, Fault
from robot_io.process import channel as layout
from robot_io.process.chain import Checks
from robot_io.process.channel import MOST_TARGETS, Channel, Command
from robot_io.process.poses import pose_of
from robot_io.process.states import READY

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the caller's side knows of the arm now; `channel` is None before it is connected."""

    channel: Channel | None
    mode: ArmMode
    faults: tuple[Fault, ...]


class Commander:
    """Sends targets; the first thread that does so after arming is the only one that may.

    Args:
        checks: what becomes of a target.
        ttl_s: how long one holds.
        clock_ns: the time in which targets live.
    """

    def __init__(self, checks: Checks, ttl_s: float, clock_ns: Callable[[], int]) -> None:
        self._checks, self._ttl_ns, self._clock_ns = checks, round(ttl_s * 1e9), clock_ns
        self._sequence = self._chunk = 0
        self._thread: int | None = None
        self._last: Floats | None = None

    def restart(self) -> None:
        """Count anew: a new arm process reads."""
        self._sequence = self._chunk = 0
        self.release()

    def release(self) -> None:
        """Let another thread command; steps are measured from where the arm is."""
        self._thread, self._last = None, None

    def forget(self) -> None:
        """Measure the next step from where the arm is, not from the last target."""
        self._last = None

    def send(self, now: Present, target: Floats, gripper: float, observed_s: float | None) -> CommandAck:
        """Send one target (7,) to follow from now on."""
        ack = self._command(now, np.asarray(target)[None], np.array([gripper]), None, observed_s)
        if ack.target is None:
            return ack
        return CommandAck(kind=ack.kind, code=ack.code, message=ack.message, target=ack.target[-1])

    def schedule(
        self,
        now: Present,
        values: Floats,
        gripper: Floats,
        times_s: Floats,
        observed_s: float | None,
        sequence: int | None,
    ) -> CommandAck:
        """Send targets (H, 7) at times (H,); see `ArmProcess.schedule`."""
        times = np.asarray(times_s, dtype=np.float64)
        if times.ndim != 1 or not 0 < len(times) <= MOST_TARGETS or len(np.atleast_2d(values)) != len(times):
            return _rejected("shape", f"Expected 1 to {MOST_TARGETS} targets and as many times.")
        if not np.isfinite(times).all() or np.any(np.diff(times) < 0) or len(np.atleast_1d(gripper)) != len(times):
            ack = _rejected("times", "Expected finite times that do not decrease, one per target.")
            return _counted(now, ack)
        if sequence is not None and sequence < self._chunk:
            return _rejected("out_of_order", f"Chunk {sequence} came after chunk {self._chunk}.")
        times_ns = np.round(times * 1e9).astype(np.int64)
        ack = self._command(now, np.asarray(values), np.asarray(gripper), times_ns, observed_s)
        if ack.taken and sequence is not None:
            self._chunk = sequence
        return ack

    def _command(
        self,
        now: Present,
        values: Floats,
        gripper: Floats,
        times_ns: NDArray[np.int64] | None,
        observed_s: float | None,
    ) -> CommandAck:
        thread = threading.get_ident()
        if self._thread is not None and self._thread != thread:
            return _rejected("wrong_thread", "One thread commands an arm: another one has begun.")
        record = None if now.channel is None else now.channel.newest()
        if now.channel is None or record is None or now.mode not in READY:
            faults = "; ".join(map(str, now.faults))
            return _rejected(now.mode.value, f"The arm takes no targets ({now.mode.value}). {faults}".strip())
        self._thread = thread
        try:
            values = np.array(values, dtype=np.float64)
            gripper = np.array(gripper, dtype=np.float64)
        except (TypeError, ValueError):
            return _counted(now, _rejected("shape", "Expected numbers."))
        now_ns = self._clock_ns()
        observed_ns = now_ns if observed_s is None else _nanoseconds(observed_s)
        command = Command(self._sequence + 1, now_ns, observed_ns, self._ttl_ns, values, gripper, times_ns)
        ack = self._checks(command, self._from_where(record), now_ns)
        if not ack.taken or ack.target is None:
            return _counted(now, ack)
        followed = Command(command.sequence, now_ns, observed_ns, self._ttl_ns, ack.target, gripper, times_ns)
        now.channel.command.write(followed.pack())
        self._sequence, self._last = command.sequence, ack.target[-1]
        return ack

    def _from_where(self, record: NDArray[np.void]) -> Floats:
        """Last target while it is being followed, else where the arm is: steps are measured from there."""
        moving = layout.MODES[int(record["mode"])] is ArmMode.MOVING or int(record["taken"]) < self._sequence
        return self._last if moving and self._last is not None else pose_of(record["T_base_ee"])


def _counted(now: Present, ack: CommandAck) -> CommandAck:
    """Count a refusal where the arm process sees it: three within a second are a fault."""
    if ack.code and now.channel is not None:
        now.channel.words["refused"] += 1
    return ack


def _rejected(code: str, message: str) -> CommandAck:
    return CommandAck(kind=AckKind.REJECTED, code=code, message=message)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9) if np.isfinite(seconds) else 0  # 0: far too old, and refused as such
