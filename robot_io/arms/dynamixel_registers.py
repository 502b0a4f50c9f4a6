"""Registers of Dynamixel's X series, models by number, and what one reading says.

Addresses and units after the maker's control table of the X series (protocol 2.0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TICKS_PER_RAD = 4096 / math.tau

MODELS = {
    "xl330-m077": 1190,
    "xl330-m288": 1200,
    "xc330-m288": 1240,
    "xl430-w250": 1060,
    "xc430-w150": 1070,
    "xc430-w240": 1080,
    "xm430-w350": 1020,
    "xm430-w210": 1030,
    "xm540-w270": 1120,
    "xm540-w150": 1130,
}
"""Model name -> number that its ping answers."""

OPERATING_MODE = 11
POSITION_MODE, CURRENT_BASED_POSITION_MODE = 3, 5
TORQUE_ENABLE = 64
HARDWARE_ERROR = 70
BUS_WATCHDOG = 98  # 20 ms per unit; 255 once it has expired
WATCHDOG_UNIT_S = 0.02
GOAL_CURRENT = 102
PROFILE_SPEED = 112
GOAL = 116
SENSORS = 120
SENSORS_SIZE = 27
TICK_WRAP_MS = 32768

SPEED_UNIT_RAD_S = 0.229 * math.tau / 60.0
_CURRENT_UNITS_A = {1020: 0.00269, 1030: 0.00269, 1120: 0.00269, 1130: 0.00269}
_ALERT = 0x80
_ERRORS = {
    1: ("servo_voltage", "supply voltage outside its limits"),
    4: ("servo_overheat", "too hot"),
    8: ("servo_sensor", "encoder failed"),
    16: ("servo_current", "electrical shock or too little power"),
    32: ("servo_overload", "overloaded"),
}


def complaints(bits: int) -> list[tuple[str, str]]:
    """Return (code, words) of a hardware error byte."""
    known = [_ERRORS[bit] for bit in _ERRORS if bits & bit]
    return known if known or not bits else [("servo_error", f"hardware error {bits}")]


def current_unit_a(model_number: int) -> float:
    """Return ampere per unit of current; the small servos count milliampere."""
    return _CURRENT_UNITS_A.get(model_number, 0.001)


def little(value: int, size: int) -> list[int]:
    """Return the little-endian bytes of a number, two's complement, as the vendor's SDK takes them."""
    return list((value & ((1 << (8 * size)) - 1)).to_bytes(size, "little"))


@dataclass(frozen=True, slots=True)
class Sample:
    """One servo at one instant.

    Attributes:
        ticks: position; speed_rad_s: of the shaft, in the servo's own direction.
        tick_ms: clock of the servo, wraps at `TICK_WRAP_MS`.
        voltage_v, temperature_c: as measured.
        alert: whether its hardware error is set.
    """

    ticks: int
    speed_rad_s: float
    tick_ms: int
    voltage_v: float
    temperature_c: int
    alert: bool

    @classmethod
    def parse(cls, error: int, data: bytes) -> Sample:
        """Read the `SENSORS_SIZE` bytes from `SENSORS` on."""

        def at(address: int, size: int, *, signed: bool = False) -> int:
            start = address - SENSORS
            return int.from_bytes(data[start : start + size], "little", signed=signed)

        return cls(
            ticks=at(132, 4, signed=True),
            speed_rad_s=at(128, 4, signed=True) * SPEED_UNIT_RAD_S,
            tick_ms=at(120, 2),
            voltage_v=at(144, 2) / 10.0,
            temperature_c=at(146, 1),
            alert=bool(error & _ALERT),
        )
