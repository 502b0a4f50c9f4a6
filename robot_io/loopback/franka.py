"""A loopback Franka controller: libfranka 0.21, and franky on top of it, connect, read states and run motions.

It streams states over UDP, a thousand a second while it moves, and takes joint positions or torques in return. Time in
its states is counted in steps, so a busy machine makes it slow rather than wild. What it is not: a Franka. There is no
gravity, no coupling between joints, no Cartesian motion generator and no gripper; the checks of the real controller
(discontinuities, power, self-collision) are absent but for joint ranges and missing answers.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robot_io.loopback.franka_wire import (
    COMMAND,
    COMMAND_PORT,
    ERRORS,
    MOVE,
    STATE,
    VERSION,
    Command,
    Controller,
    Generator,
    Mode,
    MoveStatus,
    reply,
    split,
)
from robot_io.loopback.franka_world import STEP_S, FrankaWorld, description

Floats = NDArray[np.float64]

RECORDED = 50_000  # newest commands that are kept
IDLE_STEPS = 2  # states come every 2 ms while nothing moves
PATIENCE_S = 0.5  # a real controller aborts after 20 ms without an answer
_SETTERS = range(Command.SET_COLLISION_BEHAVIOR, Command.RECOVER)
_NOT_POSSIBLE, _OK = 1, 0


class FrankaController:
    """A Franka Research 3's control box on a loopback address; its ports are fixed, so each needs its own address.

    Args:
        host: loopback address, such as 127.0.0.41.

    Attributes:
        commands: (monotonic time, joint positions [rad] or torques [Nm]) of each step, oldest first.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.world = FrankaWorld()
        self.commands: deque[tuple[float, Floats]] = deque(maxlen=RECORDED)
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._muted = False
        self._mode = Mode.IDLE
        self._generator, self._controller = Generator.IDLE, Controller.OTHER
        self._errors = np.zeros(41, np.uint8)
        self._reflex = np.zeros(41, np.uint8)
        self._move: tuple[int, int] | None = None  # generator, id
        self._answered_s = 0.0
        self._message_id = 0
        self._client: socket.socket | None = None
        self._target: tuple[str, int] | None = None
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """The address that clients are given."""
        return self.host

    def start(self) -> FrankaController:
        """Listen on port 1337 and start the world."""
        self._listener = socket.create_server((self.host, COMMAND_PORT))
        self._listener.settimeout(0.1)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((self.host, 0))
        self._udp.setblocking(False)
        for work in (self._serve, self._live):
            thread = threading.Thread(target=_ahead, args=(work,), daemon=True, name="franka-loopback")
            self._threads.append(thread)
            thread.start()
        return self

    def close(self) -> None:
        """Close the sockets and wait for the threads."""
        self._stop.set()
        self.cut()
        for thread in self._threads:
            thread.join(2.0)
        if self._listener is not None:
            self._listener.close()
            self._udp.close()

    def __enter__(self) -> FrankaController:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Faults -------------------------------------------------------------------------------------------------------

    def reflex(self, error: str = "joint_reflex") -> None:
        """Abort the motion with a reflex, a key of `franka_wire.ERRORS`, as a collision does."""
        with self._lock:
            self._errors[ERRORS[error]] = self._reflex[ERRORS[error]] = 1
            self._mode = Mode.REFLEX
            self._end_move(MoveStatus.REFLEX)

    def user_stop(self, pressed: bool = True) -> None:
        """Press or release the user stop."""
        with self._lock:
            self._mode = Mode.USER_STOPPED if pressed else Mode.IDLE
            if pressed:
                self._end_move(MoveStatus.EMERGENCY)

    def mute(self, muted: bool = True) -> None:
        """Send no states; the connection stays open."""
        self._muted = muted

    def cut(self) -> None:
        """Drop the client."""
        with self._lock:
            client, self._client, self._target = self._client, None, None
        if client is not None:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()

    def joints_rad(self) -> Floats:
        """(7,) joint positions now [rad]."""
        with self._lock:
            return self.world.q.copy()

    # Commands -----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, peer = self._listener.accept()  # type: ignore[union-attr]
            except TimeoutError:
                continue
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(0.2)
            with self._lock:
                self._client = client
            with contextlib.suppress(OSError):
                self._answer_all(client, peer[0])
            with self._lock:
                self._end_move(None)
                if self._client is client:
                    self._client = self._target = None
            client.close()

    def _answer_all(self, client: socket.socket, peer: str) -> None:
        buffer = b""
        while not self._stop.is_set():
            try:
                data = client.recv(4096)
            except TimeoutError:
                continue
            if not data:
                return
            messages, buffer = split(buffer + data)
            for command, command_id, payload in messages:
                with self._lock:
                    self._answer(peer, command, command_id, payload)

    def _answer(self, peer: str, command: int, command_id: int, payload: bytes) -> None:
        if command == Command.CONNECT:
            version, port = struct.unpack_from("<HH", payload)
            self._send(command, command_id, struct.pack("<BH", int(version != VERSION), VERSION))
            self._target = (peer, port) if version == VERSION else None
        elif command == Command.GET_MODEL:
            self._send(command, command_id, b"\0" + description(self.world.model).encode())
        elif command == Command.MOVE:
            self._start_move(command_id, payload)
        elif command == Command.STOP_MOVE:
            self._send(command, command_id, bytes([_OK]))
            self._end_move(MoveStatus.PREEMPTED)
        elif command == Command.RECOVER:
            possible = self._mode != Mode.USER_STOPPED
            if possible:
                self._errors[:] = 0
                self._mode = Mode.IDLE
            self._send(command, command_id, bytes([_OK if possible else _NOT_POSSIBLE]))
        elif command in _SETTERS:
            self._send(command, command_id, bytes([_OK]))

    def _start_move(self, command_id: int, payload: bytes) -> None:
        controller, generator = MOVE.unpack_from(payload)
        modes = (controller, generator + 1)
        known = ((Controller.JOINT_IMPEDANCE, Generator.JOINT_POSITION), (Controller.EXTERNAL, Generator.NONE))
        if self._mode not in (Mode.IDLE, Mode.MOVE) or modes not in known:
            self._send(Command.MOVE, command_id, bytes([MoveStatus.NOT_POSSIBLE]))
            return
        if self._move is not None:
            self._end_move(MoveStatus.PREEMPTED)
        self._reflex[:] = 0
        self._move = (modes[1], command_id)
        self._controller, self._generator, self._mode = Controller(modes[0]), Generator(modes[1]), Mode.MOVE
        self._answered_s = time.monotonic()
        self._send(Command.MOVE, command_id, bytes([MoveStatus.STARTED]))

    def _end_move(self, status: MoveStatus | None) -> None:
        self.world.brake()
        move, self._move = self._move, None
        self._generator, self._controller = Generator.IDLE, Controller.OTHER
        if self._mode == Mode.MOVE:
            self._mode = Mode.IDLE
        if move is not None and status is not None:
            self._send(Command.MOVE, move[1], bytes([status]))

    def _send(self, command: int, command_id: int, payload: bytes) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.sendall(reply(command, command_id, payload))

    # World --------------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        due_s = time.monotonic()
        while not self._stop.is_set():
            moving = self._move is not None
            steps = 1 if moving else IDLE_STEPS
            self._message_id += steps
            target = self._target
            if target is not None and not self._muted:
                with contextlib.suppress(OSError):
                    self._udp.sendto(self._state(), target)
            if moving:
                self._take_answer()
            due_s = max(due_s + steps * STEP_S, time.monotonic() - 0.005)
            self._stop.wait(max(0.0, due_s - time.monotonic()))

    def _take_answer(self) -> None:
        """Wait a moment for the answer to this state; step the world with it, or stand where nothing comes."""
        command = None
        if select.select([self._udp], [], [], 0.01)[0]:
            with contextlib.suppress(OSError):
                while True:
                    data = self._udp.recv(COMMAND.itemsize + 1)
                    command = np.frombuffer(data, COMMAND)[0] if len(data) == COMMAND.itemsize else command
        with self._lock:
            if self._move is None:
                return
            if command is None:
                if time.monotonic() - self._answered_s > PATIENCE_S:
                    self.reflex("communication")
                return
            self._answered_s = time.monotonic()
            torques = self._generator == Generator.NONE
            values = np.array(command["tau_J_d" if torques else "q_c"])
            self.commands.append((self._answered_s, values))
            (self.world.push if torques else self.world.lead)(values)
            if self.world.outside():
                self.reflex("joint_position_limits")
            elif command["motion_finished"] or command["torque_finished"]:
                self._end_move(MoveStatus.SUCCESS)

    def _state(self) -> bytes:
        with self._lock:
            state = np.zeros((), STATE)
            state["message_id"] = self._message_id
            for name in ("F_T_EE", "EE_T_K", "F_T_NE", "NE_T_EE"):
                state[name] = np.eye(4).ravel()
            pose = self.world.flange().T.ravel()
            for name in ("O_T_EE", "O_T_EE_d", "O_T_EE_c"):
                state[name] = pose
            for name in ("q", "q_d", "theta"):
                state[name] = self.world.q
            for name in ("dq", "dq_d", "dtheta"):
                state[name] = self.world.qd
            state["ddq_d"] = self.world.qdd
            state["elbow"] = state["elbow_d"] = state["elbow_c"] = (self.world.q[2], -1.0)
            state["O_ddP_O"] = (0.0, 0.0, -9.81)
            state["motion_generator_mode"], state["controller_mode"] = self._generator, self._controller
            state["errors"], state["reflex_reason"], state["robot_mode"] = self._errors, self._reflex, self._mode
            state["control_command_success_rate"] = 1.0 if self._move is not None else 0.0
            return state.tobytes()


def _ahead(work: Callable[[], None]) -> None:
    """Work ahead of the machine's queue where that is allowed: a controller has a processor of its own."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))  # of this thread only
    work()


def serve(name: str, arguments: list[str]) -> int:
    """Serve until Ctrl-C; argument: the address, 127.0.0.1 unless given."""
    host = arguments[0] if arguments else "127.0.0.1"
    with FrankaController(host) as controller, contextlib.suppress(KeyboardInterrupt):
        print(f"{name} on {controller.address}: plug-in franka, host {host}, realtime ignore. Ctrl-C ends it.")  # noqa: T201
        threading.Event().wait()
    return 0
