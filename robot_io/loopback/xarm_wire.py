"""The xArm controller's wire format: command frames, report records, gripper registers.

Field order and lengths are those that UFACTORY's SDK writes and parses. Integers are big-endian, floats little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

HEADER = struct.Struct(">HHHB")  # transaction, protocol, length of what follows, function
NORMAL_PORT, REAL_PORT = 30001, 30003
"""Report ports; the SDK picks its parser by the number, so they cannot be moved."""


class Function(IntEnum):
    """Function bytes that the loopback controller answers."""

    GET_VERSION = 1
    GET_SERIAL = 2
    MOTION_ENABLE = 11
    SET_STATE = 12
    GET_STATE = 13
    GET_COMMAND_COUNT = 14
    GET_ERROR = 15
    CLEAN_ERROR = 16
    CLEAN_WARNING = 17
    SET_MODE = 19
    SERVO_JOINTS = 29
    SERVO_POSE = 30
    GET_TCP_POSE = 41
    GET_JOINTS = 42
    TOOL_MODBUS = 124
    TOOL_READ = 128


class Status(IntFlag):
    """State byte that every reply starts with."""

    INVALID = 0x08
    NOT_READY = 0x10
    WARNING = 0x20
    ERROR = 0x40


@dataclass(frozen=True, slots=True)
class Request:
    """One command of a client."""

    transaction: int
    protocol: int
    function: int
    data: bytes

    def reply(self, status: int, data: bytes = b"") -> bytes:
        """Return the frame that answers this request."""
        header = HEADER.pack(self.transaction, self.protocol, len(data) + 2, self.function)
        return header + bytes([status]) + data


def split(buffer: bytes) -> tuple[list[Request], bytes]:
    """Return the whole requests at the start of `buffer`, and what is left of it."""
    requests = []
    while len(buffer) >= HEADER.size:
        transaction, protocol, length, function = HEADER.unpack_from(buffer)
        end = 6 + length
        if length < 1 or len(buffer) < end:
            break
        requests.append(Request(transaction, protocol, function, buffer[HEADER.size : end]))
        buffer = buffer[end:]
    return requests, buffer


def floats(values: Sequence[float], count: int = 0) -> bytes:
    """Return float32 values, padded with zeros to `count`."""
    padded = [float(value) for value in values] + [0.0] * max(0, count - len(values))
    return struct.pack(f"<{len(padded)}f", *padded)


def unpack_floats(data: bytes, count: int) -> tuple[float, ...]:
    """Return the first `count` float32 values of `data`."""
    values: tuple[float, ...] = struct.unpack_from(f"<{count}f", data)
    return values


@dataclass(frozen=True, slots=True)
class Report:
    """What a report record tells: joints [rad], TCP pose [mm, rad as rpy], codes."""

    state: int
    mode: int
    joints_rad: Sequence[float]
    pose_mm_rad: Sequence[float]
    enabled: bool
    error: int
    warning: int

    def real(self) -> bytes:
        """Return the 87 bytes of port 30003."""
        body = bytes([self.mode << 4 | self.state]) + struct.pack(">H", 0)
        body += floats(self.joints_rad, 7) + floats(self.pose_mm_rad, 6) + floats((), 7)
        return struct.pack(">I", len(body) + 4) + body

    def normal(self) -> bytes:
        """Return the 145 bytes of port 30001."""
        motors = 0x7F if self.enabled else 0
        body = self.real()[4:] + bytes([motors, motors, self.error, self.warning])
        body += floats((), 6) + floats((), 4) + bytes([3, 3]) + floats((0.0, 0.0, -1.0))
        return struct.pack(">I", len(body) + 4) + body
