"""The bus of Dynamixel X servos: protocol 2.0 frames, and a servo of the X series behind them.

Frames are FF FF FD 00 id length(2) instruction parameters CRC16(2); values are little-endian two's complement.
Addresses after the maker's control table of the X series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robot_io.loopback.servo_bus_servo import SimServo
from robot_io.loopback.servo_bus_wire import Reply, Request

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
PING, READ, WRITE, REG_WRITE, ACTION, REBOOT = 1, 2, 3, 4, 5, 8
STATUS, SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x55, 0x82, 0x83, 0x8A
INSTRUCTION_ERROR, RANGE_ERROR, ACCESS_ERROR, ALERT = 2, 4, 7, 0x80

_MODEL, _FIRMWARE, _ID, _SECONDARY_ID, _MODE = 0, 6, 7, 12, 11
_TEMPERATURE_LIMIT, _MAX_VOLTAGE, _MIN_VOLTAGE, _SHUTDOWN = 31, 32, 34, 63
_TORQUE, _HARDWARE_ERROR, _WATCHDOG = 64, 70, 98
_GOAL_PWM, _GOAL_CURRENT, _PROFILE_SPEED, _GOAL = 100, 102, 112, 116
_TICK, _MOVING, _CURRENT, _SPEED, _POSITION, _VOLTAGE, _TEMPERATURE = 120, 122, 126, 128, 132, 144, 146
_RAM_START, _SENSORS = 64, range(120, 147)
VOLTAGE_ERROR, HEAT_ERROR, ENCODER_ERROR, SHOCK_ERROR, OVERLOAD_ERROR = 1, 4, 8, 16, 32
_SPEED_UNIT_TICKS_S = 0.229 / 60.0 * 4096.0
_CURRENT_BASED_POSITION = 5
WATCHDOG_EXPIRED = 0xFF
_MA_AT_STALL = 1400.0


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        crc = value << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x8005 if crc & 0x8000 else crc << 1
        table.append(crc & 0xFFFF)
    return tuple(table)


_TABLE = _crc_table()


def crc16(data: bytes) -> int:
    """Return the CRC-16 (polynomial 8005, start 0) of a frame up to its CRC."""
    crc = 0
    for byte in data:
        crc = ((crc << 8) & 0xFFFF) ^ _TABLE[((crc >> 8) ^ byte) & 0xFF]
    return crc


def frame(servo_id: int, instruction: int, content: bytes) -> bytes:
    """Return a frame with stuffing and CRC."""
    body = (bytes([instruction]) + content).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    head = HEADER + bytes([servo_id]) + (len(body) + 2).to_bytes(2, "little") + body
    return head + crc16(head).to_bytes(2, "little")


@dataclass
class DynamixelServo(SimServo):
    """A servo of the X series in position mode (3) or current-based position mode (5).

    A hardware error that its shutdown mask names takes the torque off until it is rebooted, as in the real one. Its bus
    watchdog (unit 20 ms) stops it when no instruction reaches it in time; then goals are refused until it is cleared.
    """

    pending: tuple[int, bytes] | None = None
    shut_down: bool = False
    _heard_s: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.put(_MODEL, self.model)
        self.registers[_FIRMWARE] = 46
        self.registers[_ID] = self.id
        self.registers[_SECONDARY_ID] = 255
        self.registers[_MODE] = 3
        self.registers[_TEMPERATURE_LIMIT] = 72
        self.put(_MAX_VOLTAGE, 160)
        self.put(_MIN_VOLTAGE, 35)
        self.registers[_SHUTDOWN] = VOLTAGE_ERROR | SHOCK_ERROR | OVERLOAD_ERROR | HEAT_ERROR
        self.put(_GOAL_PWM, 885)
        self.put(_GOAL_CURRENT, 1193)
        self.refresh(0.0)
        self.put(_GOAL, round(self.motor.ticks), 4)

    def heard(self, now_s: float) -> None:
        """Note that an instruction reached this servo; the watchdog may have expired before."""
        limit = self.registers[_WATCHDOG]
        if limit not in (0, WATCHDOG_EXPIRED) and self._heard_s and now_s - self._heard_s > limit * 0.02:
            self._expire(self._heard_s + limit * 0.02)
        self._heard_s = now_s

    def _expire(self, at_s: float) -> None:
        super().advance(at_s)
        self.registers[_WATCHDOG] = WATCHDOG_EXPIRED
        self.put(_GOAL, round(self.motor.ticks), 4)
        self.motor.rest()

    def advance(self, now_s: float) -> None:
        """Let time pass; the watchdog counts also while nobody speaks."""
        limit = self.registers[_WATCHDOG]
        if limit not in (0, WATCHDOG_EXPIRED) and self._heard_s and now_s - self._heard_s > limit * 0.02:
            self._expire(self._heard_s + limit * 0.02)
        super().advance(now_s)

    def step(self, dt_s: float) -> None:
        """Move for one short step."""
        if not self.registers[_TORQUE]:
            self.motor.rest()
            return
        share = min(self.word(_GOAL_PWM), 885) / 885.0
        if self.registers[_MODE] == _CURRENT_BASED_POSITION:
            share = min(share, self.word(_GOAL_CURRENT) / _MA_AT_STALL)
        cap = self.word(_PROFILE_SPEED, 4) * _SPEED_UNIT_TICKS_S or self.motor.max_speed
        self.motor.drive(self._signed_goal(), share, cap, dt_s)

    def _signed_goal(self) -> int:
        return int.from_bytes(self.registers[_GOAL : _GOAL + 4], "little", signed=True)

    def refresh(self, now_s: float) -> None:
        """Write sensors to registers."""
        self.put(_TICK, round(now_s * 1000.0) % 32768)
        self.registers[_MOVING] = int(abs(self.motor.speed) > 1.0)
        self.put(_CURRENT, round(self.motor.load * _MA_AT_STALL))
        self.put(_SPEED, round(self.motor.speed / _SPEED_UNIT_TICKS_S), 4)
        self.put(_POSITION, round(self.motor.ticks), 4)
        self.put(_VOLTAGE, round(self.voltage_v * 10.0))
        self.registers[_TEMPERATURE] = round(self.temperature_c)
        self.registers[_HARDWARE_ERROR] |= self._errors_now()
        if self.registers[_HARDWARE_ERROR] & self.registers[_SHUTDOWN]:
            self.shut_down = True
            self.registers[_TORQUE] = 0

    def _errors_now(self) -> int:
        bits = self.forced_errors
        if not self.word(_MIN_VOLTAGE) <= self.voltage_v * 10.0 <= self.word(_MAX_VOLTAGE):
            bits |= VOLTAGE_ERROR
        return bits | (HEAT_ERROR if self.temperature_c > self.registers[_TEMPERATURE_LIMIT] else 0)

    def error(self) -> int:
        """Return the alert bit of the status packet."""
        return ALERT if self.registers[_HARDWARE_ERROR] else 0

    def write(self, address: int, data: bytes) -> int:
        """Write registers; refuses what the real one refuses, with its error number."""
        if address < _RAM_START and self.registers[_TORQUE]:
            return ACCESS_ERROR | self.error()
        if address in _SENSORS or (address <= _TORQUE < address + len(data) and self.shut_down and any(data)):
            return ACCESS_ERROR | self.error()
        writes_goal = address <= _GOAL < address + len(data)
        if writes_goal and self.registers[_WATCHDOG] == WATCHDOG_EXPIRED:
            return RANGE_ERROR | self.error()
        self.registers[address : address + len(data)] = data
        if writes_goal:
            self.goals.append(self._signed_goal())
        elif address <= _TORQUE < address + len(data):
            self.put(_GOAL, round(self.motor.ticks), 4)  # torque on: the goal becomes where it stands
        return self.error()

    def reboot(self) -> None:
        """Clear hardware errors; torque and watchdog are off afterwards."""
        self.shut_down = False
        self.registers[_HARDWARE_ERROR] = 0
        self.registers[_TORQUE] = 0
        self.registers[_WATCHDOG] = 0

    def summary(self) -> dict[str, float]:
        """Return what a test wants to know of this servo."""
        return {
            "torque_on": self.registers[_TORQUE],
            "goal": self._signed_goal(),
            "position": round(self.motor.ticks),
            "torque_limit": self.word(_GOAL_PWM),
            "load": self.motor.load,
            "error": self.registers[_HARDWARE_ERROR],
            "watchdog": self.registers[_WATCHDOG],
        }


class DynamixelProtocol:
    """Parses requests and answers them."""

    def parse(self, buffer: bytearray) -> list[Request]:
        """Take whole requests off the front of a buffer; what is broken is skipped."""
        requests = []
        while len(buffer) >= 10:
            if buffer[:3] != HEADER[:3] or buffer[3] == 0xFD:
                del buffer[0]
                continue
            size = int.from_bytes(buffer[5:7], "little") + 7
            if size < 10 or size > 1024:
                del buffer[0]
                continue
            if len(buffer) < size:
                break
            whole = bytes(buffer[:size])
            del buffer[: size if crc16(whole[:-2]) == int.from_bytes(whole[-2:], "little") else 1]
            if crc16(whole[:-2]) != int.from_bytes(whole[-2:], "little"):
                continue
            parameters = whole[8:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            group = whole[7] in (SYNC_READ, FAST_SYNC_READ)
            requests.append(Request(whole[4], whole[7], parameters, tuple(parameters[4:]) if group else (whole[4],)))
        return requests

    def answer(self, request: Request, servos: Mapping[int, SimServo]) -> list[Reply]:
        """Do what a request asks of the servos that are there; return their replies in order."""
        parameters = request.parameters
        if request.instruction in (SYNC_READ, FAST_SYNC_READ):
            address, size = int.from_bytes(parameters[0:2], "little"), int.from_bytes(parameters[2:4], "little")
            asked = [servos[i] for i in request.wanted if i in servos]
            if request.instruction == FAST_SYNC_READ:
                return self._fast(asked, address, size) if len(asked) == len(request.wanted) else []
            return [Reply(s.id, frame(s.id, STATUS, bytes([s.error()]) + s.read(address, size))) for s in asked]
        if request.instruction == SYNC_WRITE:
            address, size = int.from_bytes(parameters[0:2], "little"), int.from_bytes(parameters[2:4], "little")
            for start in range(4, len(parameters) - size, size + 1):
                if parameters[start] in servos:
                    servos[parameters[start]].write(address, parameters[start + 1 : start + 1 + size])
            return []
        everyone = request.target == BROADCAST
        chosen = list(servos.values()) if everyone else [s for s in (servos.get(request.target),) if s]
        replies = [self._one(request, servo) for servo in chosen if isinstance(servo, DynamixelServo)]
        return [] if everyone and request.instruction != PING else replies

    @staticmethod
    def _fast(asked: list[SimServo], address: int, size: int) -> list[Reply]:
        """One frame in which every servo adds its part and a CRC of all before it."""
        length = 1 + (size + 4) * len(asked)
        whole = HEADER + bytes([BROADCAST]) + length.to_bytes(2, "little") + bytes([STATUS])
        for servo in asked:
            whole += bytes([servo.error(), servo.id]) + servo.read(address, size)
            whole += crc16(whole).to_bytes(2, "little")
        return [Reply(BROADCAST, whole)]

    @staticmethod
    def _one(request: Request, servo: DynamixelServo) -> Reply:
        parameters, data, error = request.parameters, b"", servo.error()
        address = int.from_bytes(parameters[0:2], "little")
        if request.instruction == PING:
            data = servo.read(_MODEL, 2) + servo.read(_FIRMWARE, 1)
        elif request.instruction == READ:
            data = servo.read(address, int.from_bytes(parameters[2:4], "little"))
        elif request.instruction == WRITE:
            error = servo.write(address, parameters[2:])
        elif request.instruction == REG_WRITE:
            servo.pending = (address, parameters[2:])
        elif request.instruction == ACTION:
            error = servo.write(*servo.pending) if servo.pending else error
            servo.pending = None
        elif request.instruction == REBOOT:
            servo.reboot()
        else:
            error |= INSTRUCTION_ERROR
        return Reply(servo.id, frame(servo.id, STATUS, bytes([error]) + data))
