"""Feetech's serial bus: ping, read, write, sync read and sync write, with bounded waits and errors that name the id.

Half-duplex frames of the STS series at 1 Mbit/s: FF FF id length instruction parameters checksum. Waits block in the
kernel on monotonic deadlines. A servo that does not answer is asked up to three times more within one call; the last
time alone, so that a dead servo in the chain does not silence those behind it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.contracts.errors import DeviceError

BROADCAST = 0xFE
_PING, _READ, _WRITE, _REG_WRITE, _ACTION, _SYNC_READ, _SYNC_WRITE = 1, 2, 3, 4, 5, 0x82, 0x83
_RETRIES = 3
_QUIET_S = 0.003


class ServoBusError(DeviceError):
    """The bus failed.

    Attributes:
        ids: servos that did not answer; empty when the port itself is gone.
        code: of the fault it becomes, 'servo_silent' or 'link_lost'.
    """

    def __init__(self, problem: str, fix: str, ids: tuple[int, ...] = ()) -> None:
        super().__init__(problem, fix)
        self.ids = ids
        self.code = "servo_silent" if ids else "link_lost"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status frame: the servo's error bits and the bytes it was asked for."""

    status: int
    data: bytes


@dataclass(slots=True)
class BusCounts:
    """What happened on the wire since opening."""

    requests: int = 0
    retries: int = 0
    corrupt: int = 0


class FeetechBus:
    """One serial port with servos on it; one thread speaks at a time.

    Args:
        port: device path.
        baud_hz: bits per second.
        reply_s: silence after which a servo is asked again.
        budget_s: longest time of one call, retries included; a servo silent for all of it is reported.
    """

    def __init__(self, port: str, *, baud_hz: int = 1_000_000, reply_s: float = 0.006, budget_s: float = 0.1) -> None:
        self.port = port
        self.counts = BusCounts()
        self._baud_hz = baud_hz
        self._reply_s = reply_s
        self._budget_s = budget_s
        self._lock = threading.Lock()
        self._serial: Any = None
        self._lost: tuple[type[BaseException], ...] = (OSError,)
        self._late_replies = False

    @property
    def is_open(self) -> bool:
        """Whether the port is open and was there when last used."""
        return self._serial is not None

    def open(self) -> None:
        """Open the port for this process alone; raises DeviceError with the remedy."""
        try:
            import termios

            import serial
        except ImportError as error:
            raise DeviceError(
                "servo bus: expected the package 'pyserial', found none.",
                'Install it: pip install "cascade-wam[feetech]".',
            ) from error
        self._lost = (OSError, termios.error)  # a pulled cable shows as either; SerialException is an OSError
        try:
            self._serial = serial.Serial(self.port, self._baud_hz, timeout=0, exclusive=True)
        except (serial.SerialException, termios.error, ValueError) as error:
            raise _cannot_open(self.port, error) from error

    def close(self) -> None:
        """Close the port; never raises."""
        handle, self._serial = self._serial, None
        if handle is not None:
            try:
                handle.close()
            except self._lost:
                return

    def ping(self, servo: int) -> Answer:
        """Return the status of a servo; raises ServoBusError when it does not answer."""
        return self._ask(_frame(servo, _PING), (servo,), 0)[servo]

    def present(self, ids: Iterable[int]) -> set[int]:
        """Return which of some servos answer, each asked twice."""
        found: set[int] = set()
        for servo in ids:
            with self._lock:
                for attempt in range(2):
                    if servo not in found:
                        until = _soon(self._budget_s / 2)
                        ping = _frame(servo, _PING)
                        found |= set(self._exchange(ping, (servo,), 0, until, again=attempt > 0, until_from=servo))
        return found

    def read(self, servo: int, address: int, size: int) -> Answer:
        """Read registers of one servo."""
        return self._ask(_frame(servo, _READ, bytes([address, size])), (servo,), size)[servo]

    def write(self, servo: int, address: int, data: bytes) -> int:
        """Write registers of one servo and wait for its status byte."""
        return self._ask(_frame(servo, _WRITE, bytes([address]) + data), (servo,), 0)[servo].status

    def reg_write(self, servo: int, address: int, data: bytes) -> int:
        """Prepare a write that `action` carries out."""
        return self._ask(_frame(servo, _REG_WRITE, bytes([address]) + data), (servo,), 0)[servo].status

    def action(self) -> None:
        """Let all servos carry out what `reg_write` prepared."""
        self._tell(_frame(BROADCAST, _ACTION))

    def sync_write(self, address: int, values: Mapping[int, bytes]) -> None:
        """Write the same registers of several servos in one frame; nobody answers."""
        if not values:
            return
        sizes = {len(data) for data in values.values()}
        if len(sizes) != 1:
            raise ValueError("sync_write: expected values of one size.")
        content = b"".join(bytes([servo]) + data for servo, data in values.items())
        self._tell(_frame(BROADCAST, _SYNC_WRITE, bytes([address, sizes.pop()]) + content))

    def sync_read(self, ids: Iterable[int], address: int, size: int) -> tuple[dict[int, Answer], tuple[int, ...]]:
        """Read the same registers of several servos in one frame.

        Returns:
            Answers by id, and the ids that stayed silent through all retries.
        """
        wanted = tuple(ids)
        answers: dict[int, Answer] = {}
        deadline = _soon(self._budget_s)
        with self._lock:
            for attempt in range(_RETRIES):
                missing = tuple(servo for servo in wanted if servo not in answers)
                if not missing or time.monotonic() >= deadline:
                    break
                request = _frame(BROADCAST, _SYNC_READ, bytes([address, size, *missing]))
                answers |= self._exchange(request, missing, size, deadline, again=attempt > 0)
            missing = tuple(servo for servo in wanted if servo not in answers)
            for place, servo in enumerate(missing):
                if servo in answers:  # its answer to an earlier question came late
                    continue
                share = max((deadline - time.monotonic()) / (len(missing) - place), self._reply_s)
                request = _frame(servo, _READ, bytes([address, size]))
                answers |= self._exchange(request, missing, size, _soon(share), again=True, until_from=servo)
        return answers, tuple(servo for servo in wanted if servo not in answers)

    def silent(self, ids: tuple[int, ...]) -> ServoBusError:
        """Return the error that names servos which do not answer."""
        which = f"servo id {ids[0]}" if len(ids) == 1 else f"servo ids {', '.join(map(str, ids))}"
        return ServoBusError(
            f"{which} on {self.port}: expected an answer, found none in {_RETRIES + 1} tries.",
            "Check the cable to that servo and its power.",
            ids,
        )

    def _ask(self, request: bytes, ids: tuple[int, ...], size: int) -> dict[int, Answer]:
        deadline = _soon(self._budget_s)
        with self._lock:
            for attempt in range(_RETRIES + 1):
                last = ids[0] if attempt == _RETRIES else None
                answers = self._exchange(request, ids, size, deadline, again=attempt > 0, until_from=last)
                if answers:
                    return answers
        raise self.silent(ids)

    def _tell(self, request: bytes) -> None:
        with self._lock:
            try:
                self._send(request)
            except self._lost as error:
                raise self._gone(error) from error

    def _exchange(
        self,
        request: bytes,
        ids: tuple[int, ...],
        size: int,
        deadline: float,
        *,
        again: bool = False,
        until_from: int | None = None,
    ) -> dict[int, Answer]:
        """Send, then collect until all answered, all is quiet, or the deadline.

        With `again`, answers to the earlier question are as good, so nothing is thrown away; `until_from` is waited for
        until the deadline, however quiet it is.
        """
        answers: dict[int, Answer] = {}
        buffer = bytearray()
        self.counts.retries += again
        try:
            self._send(request, flush=not again)
            quiet_until = self._patience(deadline, until_from)
            while len(answers) < len(ids) and until_from not in answers and time.monotonic() < quiet_until:
                received = self._receive(quiet_until)
                if not received:
                    break
                buffer += received
                for servo, answer in self._take(buffer):
                    if servo in ids and len(answer.data) == size:
                        answers[servo] = answer
                quiet_until = self._patience(deadline, until_from)
        except self._lost as error:
            raise self._gone(error) from error
        self._late_replies = again or len(answers) < len(ids)
        return answers

    def _patience(self, deadline: float, until_from: int | None) -> float:
        return deadline if until_from is not None else min(deadline, _soon(self._reply_s))

    def _send(self, request: bytes, *, flush: bool = True) -> None:
        port = self._serial
        if port is None:
            raise ServoBusError(f"{self.port}: the servo bus is not connected.", "Connect it again.")
        self.counts.requests += 1
        if flush and self._late_replies:
            self._drain()
        if flush:
            port.reset_input_buffer()
        with contextlib.suppress(BlockingIOError):  # the port is full: like a frame lost on the wire, asked again
            os.write(port.fileno(), request)

    def _drain(self) -> None:
        """Let replies to an older question pass, so that they are not taken for the answer to the next one."""
        self._late_replies = False
        limit = _soon(self._reply_s)
        while time.monotonic() < limit and self._receive(_soon(_QUIET_S)):
            pass

    def _receive(self, until: float) -> bytes:
        ready, _, _ = select.select([self._serial.fileno()], [], [], max(0.0, until - time.monotonic()))
        return bytes(self._serial.read(4096)) if ready else b""

    def _take(self, buffer: bytearray) -> Iterable[tuple[int, Answer]]:
        """Yield whole status frames off the front of a buffer; what is broken is skipped and counted."""
        while len(buffer) >= 6:
            if buffer[0] != 0xFF or buffer[1] != 0xFF or buffer[2] >= BROADCAST or buffer[3] < 2:
                del buffer[0]
                continue
            size = buffer[3] + 4
            if len(buffer) < size:
                return
            if _checksum(buffer[2 : size - 1]) != buffer[size - 1]:
                self.counts.corrupt += 1
                del buffer[0]
                continue
            yield buffer[2], Answer(buffer[4], bytes(buffer[5 : size - 1]))
            del buffer[:size]

    def _gone(self, error: BaseException) -> ServoBusError:
        self.close()
        return ServoBusError(
            f"{self.port}: the servo bus is gone ({error}).", "Plug the cable in again, then connect again."
        )


def _soon(seconds: float) -> float:
    return time.monotonic() + seconds


def _checksum(body: bytes | bytearray) -> int:
    return ~sum(body) & 0xFF


def _frame(servo: int, instruction: int, parameters: bytes = b"") -> bytes:
    body = bytes([servo, len(parameters) + 2, instruction]) + parameters
    return b"\xff\xff" + body + bytes([_checksum(body)])


def _cannot_open(port: str, error: Exception) -> DeviceError:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        from serial.tools.list_ports import comports

        there = ", ".join(sorted(found.device for found in comports())) or "none"
        return DeviceError(f"{port}: no such serial port. Present: {there}.", "Plug the arm in, or name its port.")
    if number == errno.EACCES:
        return DeviceError(f"{port}: no permission.", "Add yourself to the group 'dialout' and log in again.")
    if number in (errno.EAGAIN, errno.EBUSY):
        return DeviceError(f"{port}: in use by another process.", "Stop the other program that drives this arm.")
    return DeviceError(f"{port}: cannot be opened ({error}).", "Check that it is the arm's serial port.")
