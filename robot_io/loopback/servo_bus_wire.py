"""What the two servo protocols have in common: requests, replies, and the interface of a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from robot_io.loopback.servo_bus_servo import SimServo


@dataclass(frozen=True, slots=True)
class Request:
    """One instruction frame: whom it is for, what to do, with what, and whose replies it waits for, in order."""

    target: int
    instruction: int
    parameters: bytes
    wanted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One status frame of one servo."""

    id: int
    frame: bytes


class WireProtocol(Protocol):
    """Parses requests from a byte stream and answers them."""

    def parse(self, buffer: bytearray) -> list[Request]:
        """Take whole requests off the front of a buffer."""
        ...

    def answer(self, request: Request, servos: Mapping[int, SimServo]) -> list[Reply]:
        """Do what a request asks; return the replies in order."""
        ...
