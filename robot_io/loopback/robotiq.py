"""A Robotiq gripper on loopback: the text protocol that its URCap offers on the robot's port 63352.

Commands are lines: `GET POS`, `SET GTO 1 POS 255 SPE 255 FOR 100`. Source: Robotiq, "2F-85 & 2F-140 instruction manual
for e-Series", register map, and the URCap's socket; positions are 0 open .. 255 closed.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading
import time
from typing import Any

READABLE = ("ACT", "GTO", "ATR", "ARD", "FOR", "SPE", "POS", "STA", "PRE", "OBJ", "FLT")
MOVING, STOPPED_OUTER, STOPPED_INNER, ARRIVED = 0, 1, 2, 3


class RobotiqLoopback:
    """An emulated gripper in threads of this process.

    Args:
        host, port: where it listens; port 0 takes a free one, see `port` after `start`.
        full_stroke_s: time from open to closed at top speed.
        activation_s: time that activation takes.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, full_stroke_s: float = 0.3, activation_s: float = 0.1
    ) -> None:
        self.host, self.port = host, port
        self.commands: list[tuple[float, str]] = []
        self._full_stroke_s, self._activation_s = full_stroke_s, activation_s
        self._values = {"ACT": 0, "GTO": 0, "ATR": 0, "ARD": 0, "FOR": 0, "SPE": 255, "POS": 0}
        self._position, self._moved_s, self._activated_s = 0.0, time.monotonic(), 0.0
        self._object_at: float | None = None
        self._fault, self._stuck, self._silent, self._refuse_activation = 0, False, False, False
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> RobotiqLoopback:
        """Listen."""
        self._listener = socket.create_server((self.host, self.port))
        self.port = self._listener.getsockname()[1]
        self._run(self._accept)
        return self

    def __enter__(self) -> RobotiqLoopback:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    def close(self) -> None:
        """Hang up and stop listening."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
            self._listener.close()
            self._listener = None
        self.cut()
        for thread in self._threads:
            thread.join(2.0)
        self._threads.clear()

    # Knobs

    def hold_object(self, at: int | None) -> None:
        """Put something between the fingers that stops them at this position (0..255), or take it away."""
        with self._lock:
            self._advance()
            self._object_at = at
            if at is None and self._values["GTO"]:
                self._moved_s = time.monotonic()

    def set_fault(self, code: int) -> None:
        """Report a fault (FLT); 0 ends it. 8 and more are major: nothing moves."""
        self._fault = code

    def jam(self, on: bool = True) -> None:
        """Fingers stay where they are and never arrive."""
        with self._lock:
            self._advance()
            self._stuck = on

    def refuse_activation(self, on: bool = True) -> None:
        """Never come to the state 'active'."""
        self._refuse_activation = on

    def mute(self, on: bool = True) -> None:
        """Take commands and answer nothing, as a half-closed connection does."""
        self._silent = on

    def cut(self) -> None:
        """Close every connection."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    # Physics

    def _advance(self) -> None:
        now = time.monotonic()
        elapsed, self._moved_s = now - self._moved_s, now
        if not self._values["GTO"] or self._stuck or self._fault >= 8 or self._status() != 3:
            return
        goal = float(self._values["POS"])
        if self._object_at is not None and goal > self._object_at >= self._position:
            goal = float(self._object_at)
        most = elapsed / self._full_stroke_s * 255.0 * max(0.05, self._values["SPE"] / 255.0)
        self._position += max(-most, min(most, goal - self._position))

    def _status(self) -> int:
        if not self._values["ACT"]:
            return 0
        active = time.monotonic() - self._activated_s >= self._activation_s and not self._refuse_activation
        return 3 if active else 1

    def _object(self) -> int:
        arrived = abs(self._position - self._values["POS"]) < 1.0
        if arrived:
            return ARRIVED
        held = self._object_at is not None and abs(self._position - self._object_at) < 1.0
        return STOPPED_INNER if held and self._values["POS"] > self._position else MOVING

    # Wire

    def _run(self, function: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments, name="robotiq-loopback", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        listener = self._listener
        while listener is not None and self._listener is not None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with contextlib.suppress(OSError):
            while data := connection.recv(4096):
                received += data
                while b"\n" in received:
                    line, _, received = received.partition(b"\n")
                    reply = self._answer(line.decode(errors="replace").strip())
                    if not self._silent:
                        connection.sendall(reply.encode() + b"\n")
        with contextlib.suppress(ValueError):
            self._connections.remove(connection)
        connection.close()

    def _answer(self, line: str) -> str:
        words = line.split()
        with self._lock:
            self._advance()
            self.commands.append((time.monotonic(), line))
            if len(words) == 2 and words[0] == "GET" and words[1] in READABLE:
                return f"{words[1]} {self._get(words[1])}"
            if len(words) >= 3 and len(words) % 2 and words[0] == "SET":
                pairs = list(zip(words[1::2], words[2::2], strict=True))
                if all(name in self._values and value.isdigit() and int(value) < 256 for name, value in pairs):
                    for name, value in pairs:
                        self._set(name, int(value))
                    return "ack"
        return "?"

    def _get(self, name: str) -> int:
        answers = {
            "POS": round(self._position),
            "PRE": self._values["POS"],
            "STA": self._status(),
            "OBJ": self._object(),
            "FLT": self._fault,
        }
        return answers.get(name, self._values.get(name, 0))

    def _set(self, name: str, value: int) -> None:
        if name == "ACT" and value and not self._values["ACT"]:
            self._activated_s = time.monotonic()
        if name == "ACT" and not value:
            self._fault = 0
        self._values[name] = value


def serve(name: str, arguments: list[str]) -> int:
    """Run one until interrupted; what `python -m robot_io.loopback robotiq` calls."""
    parser = argparse.ArgumentParser(prog=f"python -m robot_io.loopback {name}", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=63352)
    chosen = parser.parse_args(arguments)
    with RobotiqLoopback(chosen.host, chosen.port) as gripper, contextlib.suppress(KeyboardInterrupt):
        print(f"Robotiq gripper at {gripper.host}:{gripper.port}; try `echo 'GET POS' | nc -q1 ...`. Ctrl-C ends it.")  # noqa: T201
        threading.Event().wait()
    return 0
