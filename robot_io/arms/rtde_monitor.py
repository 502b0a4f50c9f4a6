"""An RTDE client of our own that only listens: the state and the safety of a UR arm, seen independently of ur_rtde.

ur_rtde keeps returning the last pose for seconds after a controller fell silent, and leaves some safety bits out. This
client asks for a dozen variables, never writes an input, never reconnects, and every call ends within its timeout.

Source: Universal Robots, "Real-Time Data Exchange (RTDE) Guide", protocol version 2.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.driver import Safety
from cascade.contracts.errors import DeviceError

Floats = NDArray[np.float64]

RTDE_PORT = 30004
STOPPED, PLAYING, PAUSED = 1, 2, 4
"""Values of `runtime_state`."""

ROBOT_MODES = {
    -1: "no controller",
    0: "disconnected",
    1: "confirm safety",
    2: "booting",
    3: "power off",
    4: "power on",
    5: "idle, brakes on",
    6: "backdrive",
    7: "running",
    8: "updating firmware",
}
RUNNING = 7
READY = 1
"""What ur_rtde's program answers while it waits for a command."""

_HEADER = struct.Struct(">HB")
_VARIABLES = {
    "timestamp": "d",
    "actual_q": "6d",
    "actual_qd": "6d",
    "actual_TCP_pose": "6d",
    "actual_TCP_force": "6d",
    "robot_mode": "i",
    "safety_status_bits": "I",
    "runtime_state": "I",
    "input_int_register_": "i",  # the number is added: where ur_rtde's commands go
    "output_int_register_": "i",  # and where its program says whether it is ready
}
_PACKAGE = struct.Struct(">B" + "".join(_VARIABLES.values()))
_TYPES = {"d": "DOUBLE", "6d": "VECTOR6D", "i": "INT32", "I": "UINT32"}
_DATA = ord("U")

# Bits of safety_status_bits, the most severe first.
_SAFETY_BITS = (
    (5, Safety.ESTOP),  # system emergency stop
    (6, Safety.ESTOP),  # robot emergency stop
    (7, Safety.ESTOP),
    (9, Safety.FAULT),
    (8, Safety.VIOLATION),
    (2, Safety.PROTECTIVE_STOP),
    (4, Safety.SAFEGUARD_STOP),
    (1, Safety.REDUCED),
)
_STOPPED_DUE_TO_SAFETY = 10


def safety_of(bits: int) -> Safety:
    """Return the most severe state in `safety_status_bits`; a stop without a reason counts as a protective one."""
    for bit, safety in _SAFETY_BITS:
        if bits >> bit & 1:
            if safety is Safety.REDUCED and bits >> _STOPPED_DUE_TO_SAFETY & 1:
                break
            return safety
    return Safety.PROTECTIVE_STOP if bits >> _STOPPED_DUE_TO_SAFETY & 1 else Safety.NORMAL


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One package of the controller; poses are UR's: xyz [m] and rotation vector [rad], base frame.

    Attributes:
        t_dev_s: the controller's clock; t_host_s: monotonic time at which it was read here.
        q, qd: (6,) joints [rad] and [rad/s]; tcp_pose: (6,); wrench: (6,) [N, Nm] at the TCP, axes of the base.
        robot_mode: 7 is running; runtime_state: of the program; safety_bits: as sent.
        command: what the command register holds; a program that starts would carry it out at once.
        answer: what ur_rtde's program says: 1 ready, 2 done with a command.
    """

    t_dev_s: float
    t_host_s: float
    q: Floats
    qd: Floats
    tcp_pose: Floats
    wrench: Floats
    robot_mode: int
    safety_bits: int
    runtime_state: int
    command: int
    answer: int

    @property
    def safety(self) -> Safety:
        """The most severe safety state that the bits report."""
        return safety_of(self.safety_bits)


class RTDEMonitor:
    """Receives state from one controller; used by one thread.

    Args:
        host: name or address of the controller.
        port: its RTDE port.
        rate_hz: packages per second, up to 500 on an e-Series controller.
        silence_s: how long it may be silent before the link counts as lost.
        command_register: number of the integer register that commands go to, and answers come from.
    """

    def __init__(
        self,
        host: str,
        port: int = RTDE_PORT,
        *,
        rate_hz: float = 500.0,
        silence_s: float = 0.032,
        command_register: int = 0,
    ) -> None:
        self.host, self.port, self._rate_hz, self._silence_s = host, port, rate_hz, silence_s
        self._variables = [f"{name}{command_register}" if name.endswith("_") else name for name in _VARIABLES]
        self.controller_version = (0, 0, 0, 0)
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._latest: Sample | None = None
        self._silent_s = self._read_s = 0.0

    def connect(self, timeout_s: float) -> Sample:
        """Connect, set up and return the first sample.

        Raises:
            DeviceError: port closed, a peer that accepts and stays silent, a refused recipe; within `timeout_s`.
        """
        self.close()
        deadline = time.monotonic() + timeout_s
        where = f"{self.host}:{self.port} (RTDE)"
        try:
            self._socket = socket.create_connection((self.host, self.port), timeout=timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._ask("V", b"\x00\x02", deadline) != b"\x01":
                raise DeviceError(
                    f"{where}: expected RTDE protocol 2, the controller refused it.", "Update its software."
                )
            version = struct.unpack(">4I", self._ask("v", b"", deadline)[:16])
            self.controller_version = (version[0], version[1], version[2], version[3])
            request = struct.pack(">d", self._rate_hz) + ",".join(self._variables).encode()
            types = self._ask("O", request, deadline)[1:].decode().split(",")
            if types != [_TYPES[kind] for kind in _VARIABLES.values()]:
                raise DeviceError(
                    f"{where}: expected the variables {', '.join(self._variables)}, found {', '.join(types)}."
                )
            if self._ask("S", b"", deadline) != b"\x01":
                raise DeviceError(f"{where}: the controller does not start sending.", "Restart it.")
            return self._first(deadline)
        except TimeoutError as error:
            self.close()
            raise DeviceError(
                f"{where}: expected an answer within {timeout_s:.1f} s, found silence.",
                "The connection is half-open: restart the controller's services (power cycle), then try again.",
            ) from error
        except (OSError, struct.error) as error:
            self.close()
            raise DeviceError(
                f"{where}: expected an RTDE server, found {error}.",
                "Is this the controller, switched on, with RTDE enabled in Settings > Security > Services?",
            ) from error
        except DeviceError:
            self.close()
            raise

    def _ask(self, kind: str, body: bytes, deadline: float) -> bytes:
        """Send one packet and return the body of the answer of the same type."""
        connection = self._need()
        connection.sendall(_HEADER.pack(3 + len(body), ord(kind)) + body)
        while True:
            for found, answer in self._packets():
                if found == ord(kind):
                    return answer
            self._wait(deadline)

    def _wait(self, deadline: float) -> None:
        connection = self._need()
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("a closed connection")
        self._received += data

    def _first(self, deadline: float) -> Sample:
        while True:
            self._take_latest(time.monotonic())
            if self._latest is not None:
                self._need().setblocking(False)
                self._silent_s, self._read_s = 0.0, time.monotonic()
                return self._latest
            self._wait(deadline)

    def _packets(self) -> list[tuple[int, bytes]]:
        """Return (type, body) of the whole packets received; data packages are kept for `_take_latest`."""
        found, position = [], 0
        while len(self._received) - position >= 3:
            size, kind = _HEADER.unpack_from(self._received, position)
            if size < 3:
                raise ConnectionError("a packet shorter than its header")
            if len(self._received) - position < size or kind == _DATA:
                break
            found.append((kind, bytes(self._received[position + 3 : position + size])))
            position += size
        del self._received[:position]
        return found

    def _take_latest(self, now_s: float) -> bool:
        """Decode the newest whole data package, drop the ones before it; return whether there was one."""
        newest, position = -1, 0
        while len(self._received) - position >= 3:
            size, kind = _HEADER.unpack_from(self._received, position)
            if size < 3:
                raise ConnectionError("a packet shorter than its header")
            if len(self._received) - position < size:
                break
            if kind == _DATA and size == 3 + _PACKAGE.size:
                newest = position + 3
            position += size
        if newest >= 0:
            values = _PACKAGE.unpack_from(self._received, newest)
            self._latest = Sample(
                t_dev_s=values[1],
                t_host_s=now_s,
                q=np.array(values[2:8]),
                qd=np.array(values[8:14]),
                tcp_pose=np.array(values[14:20]),
                wrench=np.array(values[20:26]),
                robot_mode=values[26],
                safety_bits=values[27],
                runtime_state=values[28],
                command=values[29],
                answer=values[30],
            )
        del self._received[:position]
        return newest >= 0

    def read(self) -> Sample:
        """Return the newest sample without waiting.

        Raises:
            DeviceError: the controller closed the connection, or sent nothing for longer than `silence_s`.
        """
        # The clock first: a reader that is held up between receiving and looking at the clock sees no silence.
        connection, now_s = self._need(), time.monotonic()
        try:
            # Everything that waits is taken, so that a reader that was held up does not read the past.
            while True:
                data = connection.recv(65536)
                if not data:
                    raise ConnectionError("the controller closed the connection")
                self._received += data
                if len(data) < 65536:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            self.close()
            raise DeviceError(
                f"{self.host}: expected state from the controller, found: {error}.",
                "Check cable and controller, then connect again.",
            ) from error
        # One long gap between two reads is no proof: whatever held the reader up may have held the data up.
        self._silent_s += min(now_s - self._read_s, self._silence_s / 2)
        self._read_s = now_s
        try:
            if self._take_latest(now_s):
                self._silent_s = 0.0
        except ConnectionError as error:
            self.close()
            raise DeviceError(f"{self.host}: expected RTDE, found {error}.", "Connect again.") from error
        latest = self._latest
        if latest is None:
            raise DeviceError(f"{self.host}: no state was ever received.", "Connect again.")
        if self._silent_s > self._silence_s:
            raise DeviceError(
                f"{self.host}: the controller was silent for {(now_s - latest.t_host_s) * 1e3:.0f} ms.",
                "Check cable and controller, then connect again.",
            )
        return latest

    def _need(self) -> socket.socket:
        if self._socket is None:
            raise DeviceError(f"{self.host}: not connected.", "Connect first.")
        return self._socket

    def close(self) -> None:
        """Hang up; never raises."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket, self._latest = None, None
        self._received.clear()
