"""A simulated bus servo: registers, a motor with limited speed and torque, temperature, voltage and error bits.

There is no gravity and no other load than a mechanical stop, so a servo without torque stays where it is. Time passes
only when somebody asks: `advance` integrates from the last call in short steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

TICKS_PER_TURN = 4096
_STEP_S = 0.002
_LONGEST_S = 2.0  # a bus that was silent longer has settled anyway
_GAIN_PER_S = 30.0  # proportional gain of the position loop
_LOAD_PER_TICK = 0.004  # share of the stall torque per tick of position error


@dataclass
class Motor:
    """The moving part of a servo.

    Attributes:
        ticks: position of the shaft, counted over turns.
        lower_stop, upper_stop: mechanical stops [ticks].
        max_speed: at full torque [ticks/s]; max_acceleration: [ticks/s^2].
        speed: now [ticks/s]; load: share of the stall torque, signed, -1..1.
    """

    ticks: float
    lower_stop: float
    upper_stop: float
    max_speed: float = 3000.0
    max_acceleration: float = 25400.0
    speed: float = 0.0
    load: float = 0.0

    def rest(self) -> None:
        """Without torque: no speed, no load."""
        self.speed = self.load = 0.0

    def drive(self, goal: float, torque_share: float, speed_cap: float, dt_s: float) -> None:
        """Move towards a goal for a short time with a share 0..1 of the torque."""
        error = goal - self.ticks
        cap = min(speed_cap, self.max_speed) * min(1.0, 2.0 * torque_share)
        acceleration = max(self.max_acceleration * torque_share, 1e-9)
        wanted = min(_GAIN_PER_S * abs(error), math.sqrt(2.0 * acceleration * abs(error)), cap)
        change = math.copysign(wanted, error) - self.speed
        self.speed += math.copysign(min(abs(change), 2.0 * acceleration * dt_s), change)
        reached = self.ticks + self.speed * dt_s
        self.ticks = min(max(reached, self.lower_stop), self.upper_stop)
        if self.ticks != reached:
            self.speed = 0.0
        pull = min(_LOAD_PER_TICK * abs(error), torque_share)
        self.load = math.copysign(pull, error) if abs(error) > 2.0 else 0.0


@dataclass
class SimServo:
    """A servo with a table of registers; subclasses know a maker's addresses.

    Attributes:
        id: on the bus; model: the maker's model number.
        motor: the moving part.
        temperature_c, voltage_v: what its sensors read.
        forced_errors: error bits set from outside, in the maker's own meaning.
        registers: 256 bytes.
    """

    id: int
    model: int
    motor: Motor
    temperature_c: float = 32.0
    voltage_v: float = 12.0
    forced_errors: int = 0
    registers: bytearray = field(default_factory=lambda: bytearray(256))
    goals: list[int] = field(default_factory=list)
    _advanced_s: float | None = None

    def word(self, address: int, size: int = 2) -> int:
        """Return an unsigned little-endian value."""
        return int.from_bytes(self.registers[address : address + size], "little")

    def put(self, address: int, value: int, size: int = 2) -> None:
        """Set a little-endian value, two's complement where negative."""
        self.registers[address : address + size] = (value & ((1 << (8 * size)) - 1)).to_bytes(size, "little")

    def advance(self, now_s: float) -> None:
        """Let time pass until `now_s` (monotonic), then refresh what the sensors show."""
        before = now_s if self._advanced_s is None else self._advanced_s
        self._advanced_s = now_s
        left = min(now_s - before, _LONGEST_S)
        while left > 1e-9:
            dt_s = min(_STEP_S, left)
            self.step(dt_s)
            left -= dt_s
        self.refresh(now_s)

    def read(self, address: int, size: int) -> bytes:
        """Return registers as they are."""
        return bytes(self.registers[address : address + size])

    def take_goals(self) -> list[int]:
        """Return goal positions written since the last call [ticks]."""
        taken, self.goals = self.goals, []
        return taken

    def step(self, dt_s: float) -> None:
        """Move for one short step."""
        raise TypeError("SimServo: use the class of a protocol.")

    def refresh(self, now_s: float) -> None:
        """Write sensors to registers."""
        raise TypeError("SimServo: use the class of a protocol.")

    def write(self, address: int, data: bytes) -> int:
        """Write registers; return the error of the status packet."""
        raise TypeError("SimServo: use the class of a protocol.")

    def error(self) -> int:
        """Return the error byte of a status packet."""
        raise TypeError("SimServo: use the class of a protocol.")

    def summary(self) -> dict[str, float]:
        """Return what a test wants to know of this servo."""
        raise TypeError("SimServo: use the class of a protocol.")
