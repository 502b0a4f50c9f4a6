"""A loopback xArm controller: the vendor's own SDK connects to it, enables it and streams servo commands.

It speaks the command channel (port 502 at the robot, any free port here) and the report ports 30001 and 30003, keeps
the controller's modes, states and error codes, carries a gripper on the tool's RS-485 bus, and moves a world of
second-order joints. It stands in for the protocol and the order of things, not for the dynamics of a real arm.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_io.loopback.xarm_wire import (
    NORMAL_PORT,
    REAL_PORT,
    Function,
    Report,
    Request,
    Status,
    floats,
    split,
    unpack_floats,
)
from robot_io.loopback.xarm_world import MODELS, XArmGripper, XArmWorld

Floats = NDArray[np.float64]

COLLISION, JOINT_LIMIT, KINEMATICS = 31, 23, 21
SERVO_MODE = 1
MOVING, STANDBY, PAUSED, STOPPED, RESET = 1, 2, 3, 4, 5
RECORDED = 50_000  # newest setpoints and commands that are kept
BAUD_2M = 11  # index of 2 Mbaud in the controller's table
REPORT_HZ = {NORMAL_PORT: 5.0, REAL_PORT: 100.0}


@dataclass(frozen=True, slots=True)
class Setpoint:
    """One accepted servo command: monotonic time [s], and joints [rad] or a TCP pose [mm, rad as rpy]."""

    stamp_s: float
    joints_rad: tuple[float, ...] = ()
    pose_mm_rad: tuple[float, ...] = ()


class XArmController:
    """An xArm controller on loopback addresses.

    Args:
        model: 'xarm6' or 'xarm7'.
        host: loopback address; several controllers need several (127.0.0.2, ...), since the report ports are fixed.
        port: command port, 0: any free one.

    Attributes:
        setpoints: accepted servo commands, oldest first.
        commands: every other command as (monotonic time, function, data), oldest first.
    """

    def __init__(self, model: str = "xarm6", host: str = "127.0.0.1", port: int = 0) -> None:
        self.model, self.host, self.port = model, host, port
        self.world = XArmWorld(model)
        self.gripper = XArmGripper()
        self.setpoints: deque[Setpoint] = deque(maxlen=RECORDED)
        self.commands: deque[tuple[float, int, bytes]] = deque(maxlen=RECORDED)
        self.mode, self.state, self.enabled, self.error_code, self.warning_code = 0, STOPPED, False, 0, 0
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._stalled_until_s = 0.0
        self._muted = False
        self._listeners: list[socket.socket] = []
        self._clients: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._answers = self._answer_table()

    @property
    def address(self) -> str:
        """Host and command port, 'host:port'."""
        return f"{self.host}:{self.port}"

    def start(self) -> XArmController:
        """Listen on the command port and both report ports."""
        self.port = self._listen(self.port, self._serve_commands)
        for port, hz in REPORT_HZ.items():
            self._listen(port, lambda client, port=port, hz=hz: self._serve_reports(client, port, hz))  # type: ignore[misc]
        return self

    def close(self) -> None:
        """Close every socket and wait for the threads."""
        self._stop.set()
        for listener in self._listeners:
            listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(2.0)

    def __enter__(self) -> XArmController:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Faults -------------------------------------------------------------------------------------------------------

    def error(self, code: int = COLLISION) -> None:
        """Raise a controller error: the arm brakes, motors off, servo commands are refused."""
        with self._lock:
            self.error_code, self.state, self.enabled = code, STOPPED, False
            self.world.stop()

    def stall(self, seconds: float = 0.4) -> None:
        """Hold back the replies of the command channel; reports go on."""
        self._stalled_until_s = time.monotonic() + seconds

    def mute(self, muted: bool = True) -> None:
        """Neither reply nor report; the connections stay open."""
        self._muted = muted

    def cut(self) -> None:
        """Drop every connection; new ones are accepted."""
        with self._lock:
            clients, self._clients = self._clients, set()
        for client in clients:
            with contextlib.suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()

    def leave_mode(self, mode: int = 2) -> None:
        """Change the mode as a person does at the vendor's own screen; 2 is hand guiding."""
        with self._lock:
            self.mode, self.state = mode, STANDBY
            self.world.stop()

    def press_stop(self) -> None:
        """Stop as the vendor's own screen does: state 4, no error code."""
        with self._lock:
            self.state = STOPPED
            self.world.stop()

    # What it is doing ---------------------------------------------------------------------------------------------

    def joints_rad(self) -> Floats:
        """(J,) joint positions now [rad]."""
        with self._lock:
            q, _ = self.world.now()
            return q

    def place(self, q: Floats) -> None:
        """Put the arm somewhere, at rest."""
        with self._lock:
            self.world.place(q)

    # Wire ---------------------------------------------------------------------------------------------------------

    def _listen(self, port: int, serve: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server((self.host, port))
        listener.settimeout(0.1)
        self._listeners.append(listener)
        self._spawn(lambda: self._accept(listener, serve))
        return int(listener.getsockname()[1])

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=lambda: _ahead(work), daemon=True, name="xarm-loopback")
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        while not self._stop.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(0.2)
            with self._lock:
                self._clients.add(client)
            self._spawn(lambda client=client: self._guard(serve, client))  # type: ignore[misc]

    def _guard(self, serve: Callable[[socket.socket], None], client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            serve(client)
        with self._lock:
            self._clients.discard(client)
        client.close()

    def _serve_commands(self, client: socket.socket) -> None:
        buffer = b""
        while not self._stop.is_set():
            try:
                data = client.recv(4096)
            except TimeoutError:
                continue
            if not data:
                return
            requests, buffer = split(buffer + data)
            for request in requests:
                if self._muted:
                    continue
                reply = self._answer(request)
                self._stop.wait(max(0.0, self._stalled_until_s - time.monotonic()))
                client.sendall(reply)

    def _serve_reports(self, client: socket.socket, port: int, hz: float) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + 1.0 / hz, time.monotonic())
            if self._muted:
                continue
            report = self._report()
            client.sendall(report.normal() if port == NORMAL_PORT else report.real())

    def _report(self) -> Report:
        with self._lock:
            q, qd = self.world.now()
            if self.state in (MOVING, STANDBY):
                self.state = MOVING if np.any(np.abs(qd) > 1e-3) else STANDBY
            pose = self.world.pose_mm_rad(q)
            return Report(self.state, self.mode, list(q), pose, self.enabled, self.error_code, self.warning_code)

    def _answer(self, request: Request) -> bytes:
        with self._lock:
            if request.function not in (Function.GET_JOINTS, Function.GET_STATE):
                self.commands.append((time.monotonic(), request.function, request.data))
            handler = self._answers.get(request.function)
            data = b"" if handler is None else handler(request.data)
            return request.reply(self._status() | (Status.INVALID if handler is None else 0), data)

    def _status(self) -> int:
        status = Status.ERROR if self.error_code else Status(0)
        status |= Status.WARNING if self.warning_code else Status(0)
        return int(status | (Status(0) if self.state in (MOVING, STANDBY) else Status.NOT_READY))

    # Answers ------------------------------------------------------------------------------------------------------

    def _answer_table(self) -> dict[int, Callable[[bytes], bytes]]:
        return {
            Function.GET_VERSION: lambda _: MODELS[self.model].version.encode().ljust(40, b"\0"),
            Function.GET_SERIAL: lambda _: b"LB1300LOOPBACK".ljust(40, b"\0"),
            Function.MOTION_ENABLE: self._motion_enable,
            Function.SET_STATE: self._set_state,
            Function.GET_STATE: lambda _: bytes([self.state]),
            Function.GET_COMMAND_COUNT: lambda _: b"\0\0",
            Function.GET_ERROR: lambda _: bytes([self.error_code, self.warning_code]),
            Function.CLEAN_ERROR: self._clean_error,
            Function.CLEAN_WARNING: self._clean_warning,
            Function.SET_MODE: self._set_mode,
            Function.SERVO_JOINTS: self._servo_joints,
            Function.SERVO_POSE: self._servo_pose,
            Function.GET_TCP_POSE: lambda _: floats(self.world.pose_mm_rad(self.joints_rad())),
            Function.GET_JOINTS: self._get_joints,
            Function.TOOL_READ: lambda _: struct.pack(">i", BAUD_2M),
            Function.TOOL_MODBUS: lambda data: data[:1] + self.gripper.answer(data[1:]),
        }

    def _motion_enable(self, data: bytes) -> bytes:
        if not self.error_code:
            self.enabled = bool(data[1])
            if not self.enabled:
                self.state = STOPPED
        return b""

    def _set_state(self, data: bytes) -> bytes:
        wanted = data[0]
        if wanted in (PAUSED, STOPPED):
            self.state = wanted
            self.world.stop()
        elif wanted == 0 and self.enabled and not self.error_code:
            self.state = STANDBY
        return b""

    def _set_mode(self, data: bytes) -> bytes:
        self.mode = data[0]
        self.state = self.state if self.state == STOPPED else RESET  # ready again after set_state(0)
        self.world.stop()
        return b""

    def _clean_error(self, _: bytes) -> bytes:
        self.error_code = 0
        return b""

    def _clean_warning(self, _: bytes) -> bytes:
        self.warning_code = 0
        return b""

    def _get_joints(self, data: bytes) -> bytes:
        q, qd = self.world.now()
        if not data:
            return floats(list(q), 7)
        return b"".join((floats(list(q), 7), floats(list(qd), 7), floats((), 7))[: data[0] & 0x0F])

    def _accepts_servo(self) -> bool:
        return self.mode == SERVO_MODE and self.enabled and self.state in (MOVING, STANDBY) and not self.error_code

    def _servo_joints(self, data: bytes) -> bytes:
        joints = unpack_floats(data, 7)[: self.world.count]
        if self._accepts_servo():
            if self.world.within_limits(joints):
                self.setpoints.append(Setpoint(time.monotonic(), joints_rad=joints))
                self.world.aim(np.array(joints))
            else:
                self.error(JOINT_LIMIT)
        return b""

    def _servo_pose(self, data: bytes) -> bytes:
        pose = unpack_floats(data, 6)
        if self._accepts_servo():
            joints = self.world.solve(pose)
            if joints is None:
                self.error(KINEMATICS)
            else:
                self.setpoints.append(Setpoint(time.monotonic(), pose_mm_rad=pose))
                self.world.aim(joints)
        return b""


def _ahead(work: Callable[[], None]) -> None:
    """Work ahead of the machine's queue where that is allowed: a controller has a processor of its own."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))  # of this thread only
    work()


def serve(name: str, arguments: list[str]) -> int:
    """Serve `name` until Ctrl-C; arguments: host and command port, 127.0.0.1 and 5502 unless given."""
    host = arguments[0] if arguments else "127.0.0.1"
    port = int(arguments[1]) if len(arguments) > 1 else 5502
    with XArmController(name, host, port) as controller, contextlib.suppress(KeyboardInterrupt):
        print(f"{name} on {controller.address}: plug-in xarm, host {host}, port {controller.port}. Ctrl-C ends it.")  # noqa: T201
        threading.Event().wait()
    return 0
