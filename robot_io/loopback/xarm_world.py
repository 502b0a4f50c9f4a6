"""The loopback xArm's joints, kinematics and gripper."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_io.loopback.xarm_kinematics import forward, from_controller, inverse, to_controller

Floats = NDArray[np.float64]

STEP_S = 0.002
STIFFNESS_RAD_S = 60.0  # critically damped: the arm is about 33 ms behind its setpoints
MAX_SPEED_RAD_S = np.pi


@dataclass(frozen=True, slots=True)
class Model:
    """What the controller says of itself, and where it stands at the start [rad]."""

    version: str
    start_rad: tuple[float, ...]
    lower_rad: tuple[float, ...]
    upper_rad: tuple[float, ...]


TURN = 2 * np.pi
MODELS = {
    "xarm6": Model(
        "6,6,XI1300LOOP,AC1300LOOP,v2.5.0",
        (0.0, -0.6, -0.9, 0.0, 1.5, 0.0),
        (-TURN, -2.059, -3.927, -TURN, -1.692, -TURN),
        (TURN, 2.094, 0.191, TURN, 3.141, TURN),
    ),
    "xarm7": Model(
        "7,7,XS1300LOOP,AC1300LOOP,v2.5.0",
        (0.0, -0.6, 0.0, 0.7, 0.0, 1.3, 0.0),
        (-TURN, -2.059, -TURN, -0.191, -TURN, -1.692, -TURN),
        (TURN, 2.094, TURN, 3.927, TURN, 3.141, TURN),
    ),
}
"""Models that the loopback plays. Limits as in UFACTORY's user manual, a hair inside."""


class XArmWorld:
    """Joints that follow their setpoints as a critically damped second-order system, speed limited."""

    def __init__(self, model: str) -> None:
        self._model = MODELS[model]
        self._name = model
        self.count = len(self._model.start_rad)
        self.place(np.array(self._model.start_rad))

    def place(self, q: Floats) -> None:
        """Put the arm at (J,) joints [rad], at rest."""
        self._q, self._qd, self._aim = q.astype(np.float64), np.zeros(self.count), q.astype(np.float64)
        self._time_s = time.monotonic()

    def now(self) -> tuple[Floats, Floats]:
        """Move on to the present; return joints [rad] and their speeds [rad/s]."""
        elapsed_s = min(time.monotonic() - self._time_s, 0.5)  # settled after that
        steps = int(elapsed_s / STEP_S)
        for _ in range(steps):
            pull = STIFFNESS_RAD_S**2 * (self._aim - self._q) - 2 * STIFFNESS_RAD_S * self._qd
            self._qd = np.clip(self._qd + pull * STEP_S, -MAX_SPEED_RAD_S, MAX_SPEED_RAD_S)
            self._q = self._q + self._qd * STEP_S
        self._time_s = time.monotonic() - (elapsed_s - steps * STEP_S)
        return self._q.copy(), self._qd.copy()

    def aim(self, q: Floats) -> None:
        """Take a new setpoint [rad]."""
        self.now()
        self._aim = q.astype(np.float64)

    def stop(self) -> None:
        """Brake smoothly where the arm is."""
        q, qd = self.now()
        self._aim = q + qd / STIFFNESS_RAD_S

    def within_limits(self, q: Sequence[float]) -> bool:
        """Say whether joints are inside the model's limits."""
        return bool(np.all(np.array(q) >= self._model.lower_rad) and np.all(np.array(q) <= self._model.upper_rad))

    def pose_mm_rad(self, q: Floats) -> tuple[float, ...]:
        """Return the flange pose as the controller states it: xyz [mm] and roll, pitch, yaw [rad]."""
        return to_controller(forward(self._name, q))

    def solve(self, pose_mm_rad: Sequence[float]) -> Floats | None:
        """Return joints within the limits that reach a pose near the present aim, or None."""
        q = inverse(self._name, from_controller(pose_mm_rad), self._aim)
        return q if q is not None and self.within_limits(list(q)) else None


class XArmGripper:
    """The xArm gripper's Modbus registers; it closes at 0 and is open at 850 pulses.

    Attributes:
        enabled, error, speed: as the registers tell; `error` may be set to play a fault.
        blocked_at: pulses below which it cannot close, as with a thing between the fingers; None: nothing there.
    """

    ENABLE, ERROR, SPEED, TARGET, POSITION = 0x0100, 0x000F, 0x0303, 0x0700, 0x0702
    READ, WRITE = 3, 16

    def __init__(self) -> None:
        self.enabled, self.error, self.speed = False, 0, 2000
        self.blocked_at: float | None = None
        self.target = 850.0
        self._at, self._time_s = 850.0, time.monotonic()

    def position(self) -> float:
        """Return where the fingers are now [pulses]."""
        now_s = time.monotonic()
        step = self.speed * (now_s - self._time_s) if self.enabled else 0.0
        target = self.target if self.blocked_at is None else max(self.target, self.blocked_at)
        self._at += float(np.clip(target - self._at, -step, step))
        self._time_s = now_s
        return self._at

    def answer(self, request: bytes) -> bytes:
        """Return the Modbus reply to a read or write request (device, function, address, count, ...)."""
        device, function, address, count = struct.unpack_from(">BBHH", request)
        if function == self.READ:
            values = {
                self.POSITION: struct.pack(">i", round(self.position())),
                self.ERROR: struct.pack(">H", self.error),
            }
            data = values.get(address, bytes(2 * count))
            return struct.pack(">BBB", device, function, len(data)) + data
        self._write(address, request[7:])
        return struct.pack(">BBHH", device, function, address, count)

    def _write(self, address: int, value: bytes) -> None:
        self.position()
        if address == self.TARGET:
            self.target = float(struct.unpack(">i", value)[0])
        elif address == self.ENABLE:
            self.enabled = value != b"\0\0"
        elif address == self.SPEED:
            self.speed = struct.unpack(">H", value)[0]
