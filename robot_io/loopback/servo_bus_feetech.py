"""The bus of Feetech's STS servos: frames, and an STS3215 behind them.

Frames are FF FF id length instruction parameters checksum; values are little-endian, signs are a bit of their own.
Addresses after the maker's memory table of the STS series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robot_io.loopback.servo_bus_servo import TICKS_PER_TURN, SimServo
from robot_io.loopback.servo_bus_wire import Reply, Request

STS3215 = 777
BROADCAST = 0xFE
PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 1, 2, 3, 4, 5, 0x82, 0x83

_MODEL, _ID, _REPLY_LEVEL, _MAX_VOLTAGE, _MIN_VOLTAGE = 3, 5, 8, 14, 15
_MAX_TEMPERATURE, _MAX_TORQUE, _OFFSET = 13, 16, 31
_PROTECTIVE_TORQUE, _PROTECTION_TIME, _OVERLOAD_TORQUE = 34, 35, 36
_TORQUE, _GOAL, _GOAL_SPEED, _TORQUE_LIMIT, _LOCK = 40, 42, 46, 48, 55
_POSITION, _SPEED, _LOAD, _VOLTAGE, _TEMPERATURE, _STATUS, _MOVING, _CURRENT = 56, 58, 60, 62, 63, 65, 66, 69
_SRAM_START, _SENSORS_START, _SENSORS_END = 40, 56, 71
VOLTAGE_ERROR, SENSOR_ERROR, HEAT_ERROR, CURRENT_ERROR, OVERLOAD_ERROR = 1, 2, 4, 8, 32
_FACTORY = {0: 3, 1: 10, 6: 0, 8: 1, 13: 70, 14: 140, 15: 40, 34: 20, 35: 200, 36: 80, 41: 0, 55: 1}
_STALL_MA_PER_UNIT = 2700 / 6.5


def signed(value: int, bit: int) -> int:
    """Return the sign-and-magnitude form of a value whose sign is in `bit`."""
    return (-value) | (1 << bit) if value < 0 else value


def unsigned(raw: int, bit: int) -> int:
    """Undo `signed`."""
    return -(raw & ~(1 << bit)) if raw & (1 << bit) else raw


@dataclass
class FeetechServo(SimServo):
    """An STS3215 in position mode.

    When the load stays above its overload torque for its protection time, it lowers its own torque to the protective
    one and says so, as the real one does; writing torque enable ends that.
    """

    pending: tuple[int, bytes] | None = None
    _overloaded_s: float = field(default=0.0)
    _protecting: bool = False

    def __post_init__(self) -> None:
        for address, value in _FACTORY.items():
            self.registers[address] = value
        self.put(_MODEL, self.model)
        self.registers[_ID] = self.id
        self.put(11, TICKS_PER_TURN - 1)
        self.put(_MAX_TORQUE, 1000)
        self.put(28, 500)
        self.put(_TORQUE_LIMIT, 1000)
        self.refresh(0.0)
        self.put(_GOAL, self.reported)

    @property
    def reported(self) -> int:
        """Position as the servo reports it, homing offset subtracted [ticks]."""
        return (round(self.motor.ticks) - unsigned(self.word(_OFFSET), 11)) % TICKS_PER_TURN

    def step(self, dt_s: float) -> None:
        """Move for one short step."""
        if not self.registers[_TORQUE]:
            self.motor.rest()
            self._overloaded_s = 0.0
            return
        share = min(self.word(_TORQUE_LIMIT), self.word(_MAX_TORQUE)) / 1000.0
        if self._protecting or self.forced_errors & OVERLOAD_ERROR:
            share = min(share, self.registers[_PROTECTIVE_TORQUE] / 100.0)
        offset = self.motor.ticks - self.reported
        goal = unsigned(self.word(_GOAL), 15) + offset
        self.motor.drive(goal, share, self.word(_GOAL_SPEED) or self.motor.max_speed, dt_s)
        above = abs(self.motor.load) * 100.0 >= self.registers[_OVERLOAD_TORQUE]
        self._overloaded_s = self._overloaded_s + dt_s if above else 0.0
        if self._overloaded_s >= self.registers[_PROTECTION_TIME] * 0.01:
            self._protecting = True

    def refresh(self, now_s: float) -> None:
        """Write sensors to registers."""
        self.put(_POSITION, self.reported)
        self.put(_SPEED, signed(round(self.motor.speed), 15))
        self.put(_LOAD, signed(round(self.motor.load * 1000.0), 10))
        self.registers[_VOLTAGE] = round(self.voltage_v * 10.0)
        self.registers[_TEMPERATURE] = round(self.temperature_c)
        self.registers[_MOVING] = int(abs(self.motor.speed) > 1.0)
        self.put(_CURRENT, round(abs(self.motor.load) * _STALL_MA_PER_UNIT))
        self.registers[_STATUS] = self.error()

    def error(self) -> int:
        """Return the error byte: forced bits and what the servo finds itself."""
        bits = self.forced_errors
        if not self.registers[_MIN_VOLTAGE] <= self.voltage_v * 10.0 <= self.registers[_MAX_VOLTAGE]:
            bits |= VOLTAGE_ERROR
        if self.temperature_c > self.registers[_MAX_TEMPERATURE]:
            bits |= HEAT_ERROR
        return bits | (OVERLOAD_ERROR if self._protecting else 0)

    def write(self, address: int, data: bytes) -> int:
        """Write registers; the permanent ones only while unlocked, sensors never."""
        for place, value in enumerate(data, start=address):
            locked = place < _SRAM_START and self.registers[_LOCK]
            if place <= _ID or _SENSORS_START <= place < _SENSORS_END or locked:
                continue
            self.registers[place] = value
        if address <= _TORQUE < address + len(data):
            self._protecting = False
            self._overloaded_s = 0.0
        if address <= _GOAL and address + len(data) >= _GOAL + 2:
            self.goals.append(unsigned(self.word(_GOAL), 15))
        return self.error()

    def summary(self) -> dict[str, float]:
        """Return what a test wants to know of this servo."""
        return {
            "torque_on": self.registers[_TORQUE],
            "goal": unsigned(self.word(_GOAL), 15),
            "position": self.reported,
            "torque_limit": self.word(_TORQUE_LIMIT),
            "load": self.motor.load,
            "error": self.error(),
            "offset": unsigned(self.word(_OFFSET), 11),
        }


def checksum(body: bytes) -> int:
    """Return the checksum of the bytes between header and checksum."""
    return ~sum(body) & 0xFF


def status(servo_id: int, error: int, data: bytes = b"") -> bytes:
    """Return a status frame."""
    body = bytes([servo_id, len(data) + 2, error]) + data
    return b"\xff\xff" + body + bytes([checksum(body)])


class FeetechProtocol:
    """Parses requests and answers them."""

    def parse(self, buffer: bytearray) -> list[Request]:
        """Take whole requests off the front of a buffer; what is broken is skipped."""
        requests = []
        while len(buffer) >= 6:
            if buffer[:2] != b"\xff\xff" or buffer[2] == 0xFF:
                del buffer[0]
                continue
            size = buffer[3] + 4
            if len(buffer) < size:
                break
            frame = bytes(buffer[:size])
            if size < 6 or checksum(frame[2:-1]) != frame[-1]:
                del buffer[0]
                continue
            del buffer[:size]
            parameters = frame[5:-1]
            wanted = tuple(parameters[2:]) if frame[4] == SYNC_READ else (frame[2],)
            requests.append(Request(frame[2], frame[4], parameters, wanted))
        return requests

    def answer(self, request: Request, servos: Mapping[int, SimServo]) -> list[Reply]:
        """Do what a request asks of the servos that are there; return their replies in order."""
        if request.instruction == SYNC_READ:
            address, size = request.parameters[0], request.parameters[1]
            asked = [servos[i] for i in request.wanted if i in servos]
            return [Reply(s.id, status(s.id, s.error(), s.read(address, size))) for s in asked]
        if request.instruction == SYNC_WRITE:
            self._sync_write(request.parameters, servos)
            return []
        everyone = request.target == BROADCAST
        chosen = list(servos.values()) if everyone else [s for s in (servos.get(request.target),) if s]
        replies = [self._one(request, servo) for servo in chosen if isinstance(servo, FeetechServo)]
        if everyone and request.instruction != PING:
            return []
        return [reply for reply in replies if reply is not None]

    @staticmethod
    def _sync_write(parameters: bytes, servos: Mapping[int, SimServo]) -> None:
        address, size = parameters[0], parameters[1]
        for start in range(2, len(parameters) - size, size + 1):
            servo = servos.get(parameters[start])
            if servo:
                servo.write(address, parameters[start + 1 : start + 1 + size])

    @staticmethod
    def _one(request: Request, servo: FeetechServo) -> Reply | None:
        parameters, data = request.parameters, b""
        if request.instruction == READ:
            data = servo.read(parameters[0], parameters[1])
        elif request.instruction == WRITE:
            servo.write(parameters[0], parameters[1:])
        elif request.instruction == REG_WRITE:
            servo.pending = (parameters[0], parameters[1:])
        elif request.instruction == ACTION:
            if servo.pending:
                servo.write(*servo.pending)
            servo.pending = None
        elif request.instruction != PING:
            return None
        quiet = request.instruction not in (PING, READ) and not servo.registers[_REPLY_LEVEL]
        return None if quiet else Reply(servo.id, status(servo.id, servo.error(), data))
