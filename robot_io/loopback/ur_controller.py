"""The emulated UR controller: one process, one thread, all ports, a world in steps of 2 ms, and knobs for faults."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from robot_io.loopback import ur_dashboard
from robot_io.loopback.ur_rtde_server import Inputs, Outputs, Session
from robot_io.loopback.ur_script import ControlProgram, Registers, register_offset, run_lines
from robot_io.loopback.ur_world import DT_S, World

DASHBOARD, PRIMARY, SECONDARY, REALTIME, RTDE = 29999, 30001, 30002, 30003, 30004
PORTS = (DASHBOARD, PRIMARY, SECONDARY, REALTIME, RTDE)
_LONGEST = 1_000_000  # bytes of a program
_BACKLOG_S = 0.2  # of steps to catch up with after the machine was busy; more is given up


class HasFileno(Protocol):
    """A socket or file that the loop can wait for."""

    def fileno(self) -> int:
        """Return its descriptor."""


@dataclass(eq=False)
class _Client:
    socket: socket.socket
    port: int
    silent: bool
    session: Session | None = None
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)


class Controller:
    """Ports, programs and knobs around one world.

    Args:
        model: ur3e, ur5e or ur10e.
        address: an address of this machine; None takes a free one in 127/8 (the real client cannot be given ports, so
            several robots need several addresses).
        unlock_after_s: how soon a protective stop may be unlocked.
        watchdog_slack_s: added to a client's watchdog, for machines that are busier than a robot's.
        program_start_s: from the upload of a program to its start.
    """

    def __init__(
        self,
        model: str = "ur5e",
        address: str | None = None,
        *,
        unlock_after_s: float = 5.0,
        watchdog_slack_s: float = 0.0,
        program_start_s: float = 0.02,
    ) -> None:
        self.world = World(model)
        self.program: ControlProgram | None = None
        self.unlock_after_s, self._slack_s, self._start_s = unlock_after_s, watchdog_slack_s, program_start_s
        self.events: list[tuple[float, str]] = []
        self._registers = Registers()
        self._outputs = Outputs(self.world, self._registers, lambda: self.program)
        self._inputs = Inputs(self._registers)
        self._inputs.on_write = self._feed
        self._fed_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._listeners: dict[int, socket.socket] = {}
        self._clients: set[_Client] = set()
        self._silent_ports: set[int] = set()
        self._muted = self._closing = False
        self.address = self._listen(address)

    # Ports and clients

    def _listen(self, address: str | None) -> str:
        tries = 50 if address is None else 1
        for attempt in range(tries):
            # Nothing secret about the number: two robots on one machine must only differ.
            found = address or f"127.{random.randint(16, 254)}.{random.randint(0, 254)}.{random.randint(2, 254)}"  # noqa: S311
            try:
                self._open_ports(found)
            except OSError:
                self.close_ports()
                if attempt == tries - 1:
                    raise
            else:
                return found
        raise AssertionError("unreachable")

    def _open_ports(self, address: str) -> None:
        for port in PORTS:
            if port not in self._listeners:
                listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._listeners[port] = listener
                listener.bind((address, port))
                listener.listen(8)
                listener.setblocking(False)
                self._selector.register(listener, selectors.EVENT_READ, self._accepting(port))

    def _accepting(self, port: int) -> Callable[[], None]:
        return lambda: self._accept(port)

    def _accept(self, port: int) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listeners[port].accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = _Client(connection, port, silent=port in self._silent_ports)
            if port == RTDE:
                client.session = Session(self._outputs, self._inputs)
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(client))
            if port == DASHBOARD and not client.silent:
                self._send(client, ur_dashboard.GREETING)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.socket)
            client.socket.close()
            if client.session is not None:
                client.session.close()

    def _read(self, client: _Client) -> None:
        if self._muted:
            return
        try:
            data = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
        elif not client.silent:
            try:
                self._serve(client, data)
            except (ValueError, struct.error) as error:
                self._note(f"hung up on port {client.port}: {error}")
                self._drop(client)

    def _serve(self, client: _Client, data: bytes) -> None:
        if client.session is not None:
            self._send(client, client.session.receive(data))
            return
        client.received += data
        if len(client.received) > _LONGEST:
            raise ValueError("a program or line without end")
        while b"\n" in client.received:
            line, _, rest = client.received.partition(b"\n")
            if client.port == DASHBOARD:
                client.received = bytearray(rest)
                self._send(client, (ur_dashboard.answer(line.decode(), self) + "\n").encode())
                continue
            if line.lstrip().startswith((b"def ", b"sec ")):
                # A program ends with an 'end' in the first column.
                end = client.received.find(b"\nend\n")
                if end < 0:
                    return
                line, rest = client.received[: end + 5], client.received[end + 5 :]
            client.received = bytearray(rest)
            self._run(line.decode())

    def _send(self, client: _Client, data: bytes) -> None:
        if self._muted or client not in self._clients:
            return
        client.unsent += data
        try:
            sent = client.socket.send(client.unsent)
            del client.unsent[:sent]
        except BlockingIOError:
            if len(client.unsent) > 1_000_000:
                self._drop(client)
        except OSError:
            self._drop(client)

    # Programs

    def _note(self, text: str) -> None:
        self.events.append((time.monotonic(), text))

    def _feed(self, index: int) -> None:
        if self.program is not None and index == self.program.offset:
            self._fed_s = time.monotonic()

    def _run(self, program: str) -> None:
        if not program.strip() or not self.world.remote:
            return
        offset = register_offset(program)
        if not program.lstrip().startswith("sec ") and self.program is not None:
            self.program.end("replaced by another program")
            self.program = None
        if offset is not None:
            self._note("program uploaded")
            if self.world.free:
                self._registers.ints_out[offset] = 0
                self.program = ControlProgram(self.world, self._registers, offset, self.world.time_s + self._start_s)
        elif unknown := run_lines(program, self.world):
            self._note(f"not emulated: {unknown[0]}")

    def _watch(self) -> None:
        program = self.program
        if program is None:
            return
        now = time.monotonic()
        if program.watchdog_hz <= 0:
            self._fed_s = now
        elif not program.ended and now - self._fed_s > 1.0 / program.watchdog_hz + self._slack_s:
            program.end("watchdog")
        if program.ended:
            self._note(f"program ended: {program.ended}")
            self.program = None

    # Knobs; each is also reachable from another process through the control port

    def cut(self) -> None:
        """Close every connection; the ports stay open."""
        for client in list(self._clients):
            self._drop(client)

    def mute(self, on: bool = True) -> None:
        """Neither read nor write on any connection, as when a cable is out; what was sent waits."""
        self._muted = on

    def half_open(self, ports: list[int] | None = None) -> None:
        """Accept new connections on these ports (default RTDE) and never answer; an empty list ends it."""
        self._silent_ports = set([RTDE] if ports is None else ports)

    def close_ports(self, ports: list[int] | None = None) -> None:
        """Refuse new connections on these ports (default: all)."""
        for port in ports or PORTS:
            listener = self._listeners.pop(port, None)
            if listener is not None:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(listener)
                listener.close()

    def open_ports(self) -> None:
        """Open all ports again."""
        self._open_ports(self.address)

    def freeze_timestamp(self, on: bool = True) -> None:
        """Go on sending packages, all with the same timestamp."""
        self.world.timestamp_frozen = on

    def protective_stop(self) -> None:
        """A collision or limit: the arm stops and its program pauses until unlocked and uploaded anew."""
        self._stop("protective_stop", True)

    def safeguard_stop(self, on: bool = True) -> None:
        """A light curtain or door: the program pauses and goes on by itself afterwards."""
        self._stop("safeguard_stop", on)

    def emergency_stop(self, on: bool = True) -> None:
        """The button; releasing it leaves the arm without power."""
        self._stop("emergency_stop", on)

    def violation(self, on: bool = True) -> None:
        """A safety limit was violated."""
        self._stop("violation", on)

    def fault(self, on: bool = True) -> None:
        """The safety system found a fault in itself."""
        self._stop("fault", on)

    def reduced_mode(self, on: bool = True) -> None:
        """Reduced safety limits are active."""
        self.world.set_stop("reduced", on)

    def _stop(self, name: str, on: bool) -> None:
        self.world.set_stop(name, on)
        self._note(f"{name} {'on' if on else 'off'}")
        if self.program is None:
            return
        if name in ("emergency_stop", "violation", "fault") and on:
            self.program.end(name)
        else:
            self.program.paused = bool(self.world.stops - {"reduced"})

    def unlock(self) -> None:
        """Release a protective stop at the pendant, at once."""
        self.world.set_stop("protective_stop", False)

    def power(self, on: bool = True) -> None:
        """Power with brakes released, or without."""
        self.world.robot_mode = 7 if on else 3

    def local_mode(self, on: bool = True) -> None:
        """Local instead of remote control: programs over the network are ignored."""
        self.world.remote = not on

    def no_inverse(self, on: bool = True) -> None:
        """Let every `get_inverse_kin` fail, which ends the program."""
        self.world.no_inverse = on

    def force(self, wrench: list[float]) -> None:
        """Measured wrench (6,) [N, Nm]."""
        self.world.wrench = np.array(wrench, dtype=np.float64)

    def place(self, q: list[float]) -> None:
        """Put the arm at joints (6,) [rad] at once."""
        self.world.place(np.array(q))

    def reset(self) -> None:
        """Undo what knobs did: everybody is hung up on, the arm stands at home, powered, in remote control."""
        self.cut()
        self.open_ports()
        self._muted, self._silent_ports = False, set()
        self.world = World(self.world.model)
        self.program, self._registers = None, Registers()
        self._outputs = Outputs(self.world, self._registers, lambda: self.program)
        self._inputs = Inputs(self._registers)
        self._inputs.on_write = self._feed
        self.events.clear()

    def setpoints(self) -> list[tuple[float, str, tuple[float, ...]]]:
        """Return what came over the wire: (monotonic time [s], command, six numbers)."""
        return list(self._inputs.setpoints)

    def trace(self) -> list[tuple[float, ...]]:
        """Return where the tool was: (monotonic time [s], six numbers of the pose, six joints) every 2 ms."""
        return list(self.world.trace)

    def state(self) -> dict[str, Any]:
        """Return pose, joints, program and events."""
        program = self.program
        return {
            "pose": self.world.pose.tolist(),
            "q": self.world.q.tolist(),
            "qd": self.world.qd.tolist(),
            "tcp_offset": self.world.tcp_offset.tolist(),
            "payload_kg": self.world.payload_kg,
            "runtime_state": 1 if program is None else program.runtime_state,
            "watchdog_hz": 0.0 if program is None else program.watchdog_hz,
            "clients": len(self._clients),
            "events": list(self.events),
        }

    # The loop

    def register(self, source: HasFileno, callback: Callable[[], None]) -> None:
        """Let the loop call `callback` when `source` can be read."""
        self._selector.register(source, selectors.EVENT_READ, callback)

    def unregister(self, source: HasFileno) -> None:
        """Forget a registered source."""
        self._selector.unregister(source)

    def run(self) -> None:
        """Serve until `close`."""
        due = time.monotonic() + DT_S
        while not self._closing:
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                key.data()
            if self._muted:
                time.sleep(0.0005)  # unread input keeps the selector from waiting
            now = time.monotonic()
            if now < due:
                continue
            if now - due > _BACKLOG_S:
                due = now - _BACKLOG_S
            self._watch()
            while due <= now:
                self._step(now)
                due += DT_S
            for client in list(self._clients):
                if client.session is not None and not client.silent and (package := client.session.package()):
                    self._send(client, package)
        self.cut()
        self.close_ports()
        self._selector.close()

    def _step(self, now: float) -> None:
        if self.program is not None:
            self.program.cycle()
        self.world.step()
        self.world.trace.append((now, *self.world.where))

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
