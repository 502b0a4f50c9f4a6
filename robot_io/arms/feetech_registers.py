"""Registers of Feetech's STS series, and what one reading of them says.

Addresses and units after the maker's memory table of the STS3215. Signed values carry their sign in a bit of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

STS3215_MODEL = 777
TICKS_PER_TURN = 4096
TICKS_PER_RAD = TICKS_PER_TURN / math.tau

MODEL = 3  # 2 bytes
OFFSET = 31  # 2 bytes, permanent, sign in bit 11; what the servo subtracts from its encoder
TORQUE_ENABLE = 40
ACCELERATION = 41  # 100 ticks/s^2 per unit
GOAL = 42  # 2 bytes
TORQUE_LIMIT = 48  # 2 bytes, 1000 is full torque
LOCK = 55  # 1 protects the permanent registers
SENSORS = 56
SENSORS_SIZE = 15

_CURRENT_UNIT_A = 0.0065
_ERRORS = {
    1: ("servo_voltage", "supply voltage outside its limits", "Check the power supply and its plug."),
    2: ("servo_sensor", "position sensor failed", "Replace the servo."),
    4: ("servo_overheat", "too hot", "Let it cool; find what it pushes against."),
    8: ("servo_current", "too much current", "Find what it pushes against; check its cable."),
    32: ("servo_overload", "overloaded", "Take the load off; find what it pushes against."),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a servo complains of: a stable code, what it is, and what to do."""

    code: str
    what: str
    remedy: str


HOT = Trouble("servo_overheat", "too hot", "Let it cool; find what it pushes against.")
LOW_VOLTAGE = Trouble("servo_voltage", "supply voltage too low", "Check the power supply and its plug.")


def troubles(status: int) -> list[Trouble]:
    """Return what a status byte says; empty when all is well."""
    return [Trouble(*_ERRORS[bit]) for bit in _ERRORS if status & bit]


def signed(raw: int, bit: int) -> int:
    """Return the value of a number whose sign is in `bit`."""
    return -(raw & ((1 << bit) - 1)) if raw & (1 << bit) else raw


def with_sign(value: int, bit: int) -> int:
    """Undo `signed`."""
    return (-value) | (1 << bit) if value < 0 else value


def word(value: int) -> bytes:
    """Return two little-endian bytes."""
    return value.to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Sample:
    """One servo at one instant.

    Attributes:
        ticks: position, 0..4095; speed: [ticks/s].
        load: share of the full torque, signed.
        voltage_v, temperature_c, current_a: as measured.
        status: error bits of the servo.
    """

    ticks: int
    speed: int
    load: float
    voltage_v: float
    temperature_c: int
    current_a: float
    status: int

    @classmethod
    def parse(cls, status: int, data: bytes) -> Sample:
        """Read the `SENSORS_SIZE` bytes from `SENSORS` on."""

        def at(address: int) -> int:
            return int.from_bytes(data[address - SENSORS : address - SENSORS + 2], "little")

        return cls(
            ticks=signed(at(56), 15),
            speed=signed(at(58), 15),
            load=signed(at(60), 10) / 1000.0,
            voltage_v=data[62 - SENSORS] / 10.0,
            temperature_c=data[63 - SENSORS],
            current_a=abs(signed(at(69), 15)) * _CURRENT_UNIT_A,
            status=status | data[65 - SENSORS],
        )
