"""A Robotiq gripper behind a UR controller: its URCap's socket, in a thread of its own so that no arm waits for it.

Source: Robotiq, "2F-85 & 2F-140 instruction manual for e-Series", register map. Positions are 0 open .. 255 closed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, replace
from enum import StrEnum

from cascade.contracts.errors import DeviceError

ROBOTIQ_PORT = 63352
_PERIOD_S = 0.03
_ANSWER_S = 0.5
_ACTIVE = 3
_OBJECT_OUTER, _OBJECT_INNER, _ARRIVED = 1, 2, 3
_FAULTS = {
    5: "an action was asked for before activation",
    7: "it must be activated first",
    8: "it is too hot",
    10: "its supply is below 20 V",
    11: "its automatic release is running",
    12: "an internal fault; reset it",
    13: "activation failed: something is in the way of its fingers",
    14: "too much current",
    15: "automatic release is complete; activate it again",
}


class GripperResult(StrEnum):
    """What became of the last command."""

    IDLE = "idle"  # none was given
    MOVING = "moving"
    MOVED = "moved"  # it is where it was sent
    GRASPED = "grasped"  # something stopped the fingers
    TIMEOUT = "timeout"  # neither arrived nor grasped in time
    LOST = "lost"  # what was grasped is gone
    FAULT = "fault"  # the gripper reports one, or does not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperStatus:
    """State of the gripper.

    Attributes:
        result: what became of the last command; since_s: monotonic time from which that holds.
        opening: 0 closed .. 1 open, as measured; None before the first answer.
        active: whether it takes commands; online: whether it answers.
        message: what is wrong, for people.
    """

    result: GripperResult = GripperResult.IDLE
    since_s: float = 0.0
    opening: float | None = None
    active: bool = False
    online: bool = False
    message: str = ""


class RobotiqGripper:
    """Client of one gripper. `move`, `activate` and `status` return at once; the thread does the talking.

    Args:
        host, port: where the URCap listens.
        speed, force: 0..255 as the gripper takes them.
        timeout_s: time for a move, and for activation.
        open_position, closed_position: what the gripper reports when open and when closed on nothing.
    """

    def __init__(
        self,
        host: str,
        port: int = ROBOTIQ_PORT,
        *,
        speed: int = 255,
        force: int = 100,
        timeout_s: float = 3.0,
        open_position: int = 3,
        closed_position: int = 228,
    ) -> None:
        self._where, self._speed, self._force, self._timeout_s = (host, port), speed, force, timeout_s
        self._open, self._closed = open_position, closed_position
        self._status = GripperStatus()
        self._wanted: int | None = None
        self._activate = False
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._sent: int | None = None
        self._sent_s = 0.0

    def connect(self, timeout_s: float) -> None:
        """Connect and start the thread; nothing moves.

        Raises:
            DeviceError: the port is closed, or nothing answers within `timeout_s`.
        """
        self.close()
        self._ending.clear()
        try:
            self._open_socket(timeout_s)
            self._poll()
        except OSError as error:
            self.close()
            host, port = self._where
            raise DeviceError(
                f"{host}:{port} (Robotiq URCap): expected an answering gripper, found {error or 'silence'}.",
                "Install the Robotiq URCap, connect the gripper, and look at its page on the pendant.",
            ) from error
        self._thread = threading.Thread(target=self._run, name="robotiq", daemon=True)
        self._thread.start()

    @property
    def status(self) -> GripperStatus:
        """The latest state; never waits."""
        return self._status

    def activate(self) -> None:
        """Ask for activation, which opens and closes the fingers once, unless it is active already."""
        self._activate = True
        self._wake.set()

    def move(self, opening: float) -> None:
        """Ask for an opening 0..1; the latest one counts."""
        opening = min(1.0, max(0.0, opening))
        # The last hundredth goes to the end of the range, so that 0 also squeezes what is thin.
        wanted = 255 if opening <= 0.01 else 0 if opening >= 0.99 else None
        if wanted is None:
            wanted = round(self._open + (1.0 - opening) * (self._closed - self._open))
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    def close(self) -> None:
        """End the thread and hang up; the gripper keeps its grip. Never raises, ends within a second."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None
        self._hang_up()
        self._wanted = self._sent = None
        self._activate = False
        self._status = GripperStatus()

    # In the thread

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                if self._socket is None:
                    self._open_socket(1.0)
                    self._poll()  # it must answer before it is told to move
                if self._activate:
                    self._do_activate()
                self._command()
                self._poll()
            except OSError as error:
                self._hang_up()
                self._judge(GripperResult.FAULT, f"the gripper does not answer: {error or 'silence'}", online=False)
                self._sent = self._wanted  # what was asked of a dead gripper is not done later
                self._ending.wait(0.5)
            self._wake.wait(_PERIOD_S)
            self._wake.clear()

    def _open_socket(self, timeout_s: float) -> None:
        self._socket = socket.create_connection(self._where, timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(min(timeout_s, _ANSWER_S))

    def _hang_up(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None

    def _ask(self, line: str) -> str:
        if self._socket is None:
            raise ConnectionError("not connected")
        self._socket.sendall(line.encode() + b"\n")
        answer = b""
        deadline = time.monotonic() + _ANSWER_S
        # The URCap ends 'ack' without a newline in some versions.
        while not answer.endswith(b"\n") and answer != b"ack":
            if time.monotonic() > deadline:
                raise TimeoutError("no answer")
            data = self._socket.recv(1024)
            if not data:
                raise ConnectionError("it hung up")
            answer += data
        return answer.decode(errors="replace").strip()

    def _get(self, name: str) -> int:
        answer = self._ask(f"GET {name}").split()
        if len(answer) != 2 or answer[0] != name or not answer[1].isdigit():
            raise ConnectionError(f"expected {name} and a number, found {' '.join(answer) or 'nothing'}")
        return int(answer[1])

    def _set(self, **values: int) -> None:
        line = "SET " + " ".join(f"{name} {value}" for name, value in values.items())
        answer = self._ask(line)
        if answer != "ack":
            raise ConnectionError(f"{line}: expected ack, found {answer or 'nothing'}")

    def _do_activate(self) -> None:
        if self._get("STA") == _ACTIVE and self._get("FLT") == 0:
            self._activate = False
            return
        self._set(ACT=0)
        self._set(ACT=1)
        deadline = time.monotonic() + self._timeout_s
        while self._get("STA") != _ACTIVE and not self._ending.is_set():
            if time.monotonic() > deadline:
                self._activate = False
                self._judge(GripperResult.TIMEOUT, "the gripper did not become active: is something in its way?")
                return
            self._ending.wait(_PERIOD_S)
        self._activate, self._sent = False, None

    def _command(self) -> None:
        wanted = self._wanted
        if wanted is None or wanted == self._sent:
            return
        if not self._status.active:
            self._judge(GripperResult.FAULT, "the gripper is not active")
            return
        self._set(POS=wanted, SPE=self._speed, FOR=self._force, GTO=1)
        self._sent, self._sent_s = wanted, time.monotonic()
        self._judge(GripperResult.MOVING)

    def _poll(self) -> None:
        position, status, fault = self._get("POS"), self._get("STA"), self._get("FLT")
        held = self._get("OBJ")
        opening = 1.0 - (position - self._open) / (self._closed - self._open)
        self._status = replace(self._status, opening=min(1.0, max(0.0, opening)), active=status == _ACTIVE, online=True)
        if fault:
            self._judge(GripperResult.FAULT, f"gripper fault {fault}: {_FAULTS.get(fault, 'see its manual')}")
        elif self._sent is not None:
            self._result(held, position)
        elif self._status.result is GripperResult.FAULT and (self._wanted is None or self._status.active):
            self._judge(GripperResult.IDLE)

    def _result(self, held: int, position: int) -> None:
        now, result = self._status.result, None
        gripping = held in (_OBJECT_OUTER, _OBJECT_INNER)
        if now in (GripperResult.MOVING, GripperResult.FAULT, GripperResult.IDLE):
            # Right after a command the object bits are still those of the last one.
            settled = time.monotonic() - self._sent_s > 2 * _PERIOD_S
            if settled and gripping:
                result = GripperResult.GRASPED
            elif settled and held == _ARRIVED and abs(position - (self._sent or 0)) <= 30:
                result = GripperResult.MOVED
            elif time.monotonic() - self._sent_s > self._timeout_s:
                result = GripperResult.TIMEOUT
        elif now is GripperResult.GRASPED and not gripping:
            result = GripperResult.LOST
        elif now is GripperResult.LOST and gripping:
            result = GripperResult.GRASPED
        if result is not None:
            texts = {
                GripperResult.TIMEOUT: "the fingers neither arrived nor met anything",
                GripperResult.LOST: "what was held is gone",
            }
            self._judge(result, texts.get(result, ""))

    def _judge(self, result: GripperResult, message: str = "", *, online: bool = True) -> None:
        if result is not self._status.result or message != self._status.message or online != self._status.online:
            self._status = replace(
                self._status, result=result, since_s=time.monotonic(), message=message, online=online
            )
