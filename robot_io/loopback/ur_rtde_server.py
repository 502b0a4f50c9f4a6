"""The RTDE port of the emulated UR controller: protocol 2, recipes, one session per client.

Source: Universal Robots, "Real-Time Data Exchange (RTDE) Guide". A packet is a big-endian header (size,
type) and a body.
"""

from __future__ import annotations

import re
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from robot_io.loopback.ur_script import STREAMED, ControlProgram, Registers
from robot_io.loopback.ur_world import World

HEADER = struct.Struct(">HB")
VERSION = (5, 11, 0, 108249)
CYCLE_HZ = 500.0

_FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "INT32": "i",
    "UINT32": "I",
    "UINT64": "Q",
    "DOUBLE": "d",
    "VECTOR3D": "3d",
    "VECTOR6D": "6d",
    "VECTOR6INT32": "6i",
}


class Outputs:
    """Values of the output variables by name, read from world, program and registers."""

    def __init__(self, world: World, registers: Registers, program: Callable[[], ControlProgram | None]) -> None:
        self._registers = registers
        zeros = [0.0] * 6

        def runtime() -> int:
            running = program()
            return 1 if running is None else running.runtime_state

        def status() -> int:
            return (1 if world.robot_mode >= 5 else 0) | (2 if runtime() == 2 else 0)

        self._variables: dict[str, tuple[str, Callable[[], Any]]] = {
            "timestamp": ("DOUBLE", lambda: world.timestamp_s),
            "actual_q": ("VECTOR6D", lambda: world.q),
            "actual_qd": ("VECTOR6D", lambda: world.qd),
            "target_q": ("VECTOR6D", lambda: world.target_q),
            "target_qd": ("VECTOR6D", lambda: world.qd),
            "actual_TCP_pose": ("VECTOR6D", lambda: world.pose),
            "target_TCP_pose": ("VECTOR6D", lambda: world.pose),
            "actual_TCP_speed": ("VECTOR6D", lambda: world.twist),
            "target_TCP_speed": ("VECTOR6D", lambda: world.twist),
            "actual_TCP_force": ("VECTOR6D", lambda: world.wrench),
            "ft_raw_wrench": ("VECTOR6D", lambda: world.wrench),
            "robot_mode": ("INT32", lambda: world.robot_mode),
            "safety_mode": ("INT32", lambda: world.safety_mode),
            "safety_status": ("INT32", lambda: world.safety_mode),
            "safety_status_bits": ("UINT32", lambda: world.safety_bits),
            "robot_status_bits": ("UINT32", status),
            "runtime_state": ("UINT32", runtime),
            "joint_mode": ("VECTOR6INT32", lambda: [253 if world.robot_mode == 7 else 239] * 6),
            "tcp_offset": ("VECTOR6D", lambda: world.tcp_offset),
            "payload": ("DOUBLE", lambda: world.payload_kg),
            "payload_cog": ("VECTOR3D", lambda: world.payload_cog_m),
            "payload_inertia": ("VECTOR6D", lambda: zeros),
            "actual_tool_accelerometer": ("VECTOR3D", lambda: (0.0, 0.0, -9.81)),
            "joint_temperatures": ("VECTOR6D", lambda: [30.0] * 6),
            "speed_scaling": ("DOUBLE", lambda: 1.0 if runtime() == 2 else 0.0),
            "target_speed_fraction": ("DOUBLE", lambda: 1.0),
            "actual_robot_voltage": ("DOUBLE", lambda: 48.0),
            "actual_main_voltage": ("DOUBLE", lambda: 230.0),
            "actual_joint_voltage": ("VECTOR6D", lambda: [48.0] * 6),
        }
        for name in ("target_qdd", "target_current", "target_moment", "actual_current", "joint_control_output"):
            self._variables[name] = ("VECTOR6D", lambda: zeros)
        for name in ("actual_execution_time", "actual_momentum", "actual_robot_current"):
            self._variables[name] = ("DOUBLE", lambda: 0.0)
        for name in ("input0", "input1", "output0", "output1"):
            self._variables[f"standard_analog_{name}"] = ("DOUBLE", lambda: 0.0)
        for name in ("input", "output"):
            self._variables[f"actual_digital_{name}_bits"] = ("UINT64", lambda: 0)

    def variable(self, name: str) -> tuple[str, Callable[[], Any]]:
        """Return type and getter of a variable; type 'NOT_FOUND' when there is none of that name."""
        register = re.fullmatch(r"((?:out|in)put_(?:int|double))_register_(\d+)", name)
        if register and int(register.group(2)) < 48:
            values: dict[str, list[Any]] = {
                "output_int": self._registers.ints_out,
                "output_double": self._registers.doubles_out,
                "input_int": self._registers.ints_in,
                "input_double": self._registers.doubles_in,
            }
            group, index = values[register.group(1)], int(register.group(2))
            return ("INT32" if register.group(1).endswith("int") else "DOUBLE"), lambda: group[index]
        return self._variables.get(name, ("NOT_FOUND", lambda: 0))


class Inputs:
    """What clients write, which client owns which variable, and the setpoints that came over the wire."""

    def __init__(self, registers: Registers) -> None:
        self.registers = registers
        self.owners: dict[str, object] = {}
        self.setpoints: deque[tuple[float, str, tuple[float, ...]]] = deque(maxlen=50_000)
        self.on_write: Callable[[int], None] = lambda index: None

    def kind(self, name: str, owner: object) -> str:
        """Return the type of an input variable, 'IN_USE' when another client has it, else 'NOT_FOUND'."""
        register = re.fullmatch(r"input_(int|double)_register_(\d+)", name)
        if name != "external_force_torque" and not (register and int(register.group(2)) < 48):
            return "NOT_FOUND"
        if self.owners.setdefault(name, owner) is not owner:
            return "IN_USE"
        if register is None:
            return "VECTOR6D"
        return "INT32" if register.group(1) == "int" else "DOUBLE"

    def release(self, owner: object) -> None:
        """Free the variables of a client that left."""
        self.owners = {name: who for name, who in self.owners.items() if who is not owner}

    def write(self, names: list[str], values: tuple[Any, ...]) -> None:
        """Take one input package; record it when it is a setpoint."""
        doubles, command = [], 0
        for name, value in zip(names, values, strict=False):
            prefix, _, index = name.rpartition("_")
            if prefix == "input_int_register":
                self.registers.ints_in[int(index)] = value
                if int(index) in (0, 24):
                    command = value
                    self.on_write(int(index))
            elif prefix == "input_double_register":
                self.registers.doubles_in[int(index)] = value
                doubles.append(value)
        self.registers.writes += 1
        if command in STREAMED:
            self.setpoints.append((time.monotonic(), STREAMED[command], tuple(doubles[:6])))


class Session:
    """One RTDE client: its recipes and whether it is being sent data."""

    def __init__(self, outputs: Outputs, inputs: Inputs) -> None:
        self._outputs, self._inputs = outputs, inputs
        self._received = bytearray()
        self._recipes: dict[int, tuple[list[str], struct.Struct]] = {}
        self._getters: list[Callable[[], Any]] = []
        self._packer: struct.Struct | None = None
        self._every, self._count = 1, 0
        self.started = False

    def close(self) -> None:
        """Give up the input variables that this client owned."""
        self._inputs.release(self)

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the client; return the answer.

        Raises:
            ValueError: a packet without sense, upon which a controller hangs up.
        """
        self._received += data
        answers = bytearray()
        while len(self._received) >= 3:
            size, kind = HEADER.unpack_from(self._received)
            if size < 3:
                raise ValueError("packet shorter than its header")
            if len(self._received) < size:
                break
            body = bytes(self._received[3:size])
            del self._received[:size]
            answer = self._handle(chr(kind), body)
            if answer is not None:
                answers += HEADER.pack(3 + len(answer), kind) + answer
        return bytes(answers)

    def _handle(self, kind: str, body: bytes) -> bytes | None:
        match kind:
            case "V":
                return bytes([body == b"\x00\x02"])
            case "v":
                return struct.pack(">4I", *VERSION)
            case "O":
                return self._setup_outputs(body)
            case "I":
                return self._setup_inputs(body)
            case "S":
                self.started = self._packer is not None
                return bytes([self.started])
            case "P":
                self.started = False
                return b"\x01"
            case "U":
                self._take(body)
                return None
            case _:
                raise ValueError(f"packet of unknown type {kind!r}")

    def _setup_outputs(self, body: bytes) -> bytes:
        frequency = struct.unpack_from(">d", body)[0]
        names = [name for name in body[8:].decode().split(",") if name]
        found = [self._outputs.variable(name) for name in names]
        kinds = [kind for kind, _ in found]
        if "NOT_FOUND" not in kinds:
            self._packer = struct.Struct(">B" + "".join(_FORMATS[kind] for kind in kinds))
            self._getters = [getter for _, getter in found]
            self._vector = [kind.startswith("VECTOR") for kind in kinds]
            self._every = max(1, round(CYCLE_HZ / min(CYCLE_HZ, max(1.0, frequency))))
        return b"\x01" + ",".join(kinds).encode()

    def _setup_inputs(self, body: bytes) -> bytes:
        names = [name for name in body.decode().split(",") if name]
        kinds = [self._inputs.kind(name, self) for name in names]
        recipe = 0
        if not {"IN_USE", "NOT_FOUND"} & set(kinds):
            recipe = len(self._recipes) + 1
            self._recipes[recipe] = (names, struct.Struct(">" + "".join(_FORMATS[kind] for kind in kinds)))
        return bytes([recipe]) + ",".join(kinds).encode()

    def _take(self, body: bytes) -> None:
        if not body or body[0] not in self._recipes:
            raise ValueError("data for a recipe that was not set up")
        names, packer = self._recipes[body[0]]
        if len(body) - 1 < packer.size:
            raise ValueError("data shorter than its recipe")
        self._inputs.write(names, packer.unpack_from(body, 1))

    def package(self) -> bytes | None:
        """Return this cycle's data package, or None in a cycle that the client's frequency leaves out."""
        self._count += 1
        if not self.started or self._packer is None or self._count % self._every:
            return None
        values: list[Any] = [1]
        for getter, vector in zip(self._getters, self._vector, strict=True):
            if vector:
                values.extend(getter())
            else:
                values.append(getter())
        return HEADER.pack(3 + self._packer.size, ord("U")) + self._packer.pack(*values)
