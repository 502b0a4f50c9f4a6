"""What is watched in every cycle, and what each finding leads to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Limits
from cascade.contracts.driver import DriverInfo, Reading, Safety
from robot_io.process.poses import matrix_of, rotation_vector

Floats = NDArray[np.float64]

OVERRUN_WARN_NS, OVERRUN_SLOW_NS, OVERRUN_STOP_NS = 20_000_000, 50_000_000, 200_000_000
SPEED_MARGIN = 1.2
SPEED_CYCLES = 2
STALE_FAULT = 4.0  # times the age at which motion stops


class Severity(IntEnum):
    """What a finding leads to."""

    WARN = 0  # a line in the log
    SLOW = 1  # half speed for a while
    HOLD = 2  # brake and hold; goes on with the next target
    BRAKE_FAULT = 3  # brake within the limits, latch
    FAULT = 4  # the device's own stop, latch
    ESTOP = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    severity: Severity
    message: str


_SAFETY = {
    Safety.SAFEGUARD_STOP: (Severity.HOLD, "A safeguard is open: close it, then send targets again."),
    Safety.PROTECTIVE_STOP: (Severity.FAULT, "The controller stopped itself: look why, then clear the fault."),
    Safety.VIOLATION: (Severity.FAULT, "The controller reports a violated safety limit: see its panel."),
    Safety.FAULT: (Severity.FAULT, "The controller reports a fault of its own: see its panel."),
    Safety.ESTOP: (Severity.ESTOP, "Emergency stop: release it at the robot, then connect and arm again."),
}


@dataclass(slots=True)
class Watches:
    """The watches over one arm; `look` is called with every reading.

    Attributes:
        twist: (6,) measured speed of the end effector, from its last two poses, or None.
    """

    limits: Limits
    info: DriverInfo
    twist: Floats | None = None
    _t_dev_s: float = -np.inf
    _advanced_ns: int = 0
    _T: Floats | None = None
    _fast: int = 0
    _off_since_ns: int = 0
    _safety: Safety = Safety.NORMAL
    _stopped_since_ns: int = 0
    _notes: set[str] = field(default_factory=set)

    def forget(self, now_ns: int) -> None:
        """Begin anew: the arm was moved by other hands, or a simulated world was built anew."""
        self._t_dev_s, self._advanced_ns, self._T, self.twist = -np.inf, now_ns, None, None
        self._fast = self._off_since_ns = self._stopped_since_ns = 0

    def look(self, reading: Reading, T: Floats, setpoint: Floats | None, now_ns: int, *, ready: bool) -> list[Finding]:
        """Return what is wrong now.

        Args:
            reading: newest measurement.
            T: (4, 4) its end-effector pose.
            setpoint: (7,) last sent, or None when nothing is sent.
            now_ns: monotonic time.
            ready: whether the arm is armed: what concerns motion is watched then only.
        """
        found: list[Finding] = []
        self._fresh(reading, T, now_ns, found, ready)
        self._device(reading, found, now_ns, ready)
        if ready:
            self._forces(reading, found)
            self._speed(found)
            if setpoint is not None and not self.info.plans_itself:
                self._tracking(T, setpoint, now_ns, found)
        else:
            self._fast = self._off_since_ns = 0
        return found

    def _fresh(self, reading: Reading, T: Floats, now_ns: int, found: list[Finding], ready: bool) -> None:
        if reading.t_dev_s > self._t_dev_s:
            dt = reading.t_dev_s - self._t_dev_s
            if self._T is not None and dt < 0.5:
                motion = np.concatenate([T[:3, 3] - self._T[:3, 3], rotation_vector(T[:3, :3] @ self._T[:3, :3].T)])
                self.twist = motion / dt
            self._t_dev_s, self._T, self._advanced_ns = reading.t_dev_s, T, now_ns
            return
        age_s = (now_ns - self._advanced_ns) * 1e-9
        limit_s = self.info.state_age_s
        text = f"The device's clock has stood still for {age_s * 1e3:.0f} ms."
        if age_s > STALE_FAULT * limit_s:
            found.append(Finding("stale_state", Severity.FAULT, text))
        elif age_s > limit_s and ready:
            found.append(Finding("stale_state", Severity.HOLD, text))

    def _device(self, reading: Reading, found: list[Finding], now_ns: int, ready: bool) -> None:
        if reading.safety is Safety.REDUCED and self._safety is not Safety.REDUCED:
            found.append(Finding("reduced", Severity.WARN, "The controller's reduced mode is active."))
        self._safety = reading.safety
        if reading.safety in _SAFETY:
            severity, text = _SAFETY[reading.safety]
            found.append(Finding(reading.safety.value, severity, text))
        for fault in reading.faults:
            severity = Severity.FAULT if fault.latches else Severity.HOLD
            found.append(Finding(fault.code, severity, fault.message))
        if ready and not reading.running and reading.safety not in _SAFETY and not reading.faults:
            found.append(Finding("program_stopped", Severity.FAULT, "The device takes no setpoints any more."))

    def _forces(self, reading: Reading, found: list[Finding]) -> None:
        if reading.wrench is None:
            return
        for what, vector, limit, unit in (
            ("force", reading.wrench[:3], self.limits.max_force_n, "N"),
            ("torque", reading.wrench[3:], self.limits.max_torque_nm, "Nm"),
        ):
            value = float(np.linalg.norm(vector))
            if limit is not None and not value <= limit:
                text = f"External {what} of {value:.1f} {unit}, allowed are {limit:.1f} {unit}."
                found.append(Finding(f"{what}_limit", Severity.BRAKE_FAULT, text))

    def _speed(self, found: list[Finding]) -> None:
        if self.twist is None:
            return
        linear, angular = float(np.linalg.norm(self.twist[:3])), float(np.linalg.norm(self.twist[3:]))
        limits = self.limits
        fast = linear > SPEED_MARGIN * limits.max_speed_m_s or angular > SPEED_MARGIN * limits.max_angular_speed_rad_s
        self._fast = self._fast + 1 if fast else 0
        if self._fast >= SPEED_CYCLES:
            text = f"Measured {linear:.2f} m/s and {angular:.2f} rad/s, more than 1.2 times the limit."
            found.append(Finding("overspeed", Severity.HOLD, text))

    def _tracking(self, T: Floats, setpoint: Floats, now_ns: int, found: list[Finding]) -> None:
        wanted = matrix_of(setpoint)
        off_m = float(np.linalg.norm(T[:3, 3] - wanted[:3, 3]))
        off_rad = float(np.linalg.norm(rotation_vector(T[:3, :3] @ wanted[:3, :3].T)))
        if off_m <= self.limits.max_tracking_error_m and off_rad <= self.limits.max_tracking_error_rad:
            self._off_since_ns = 0
            return
        self._off_since_ns = self._off_since_ns or now_ns
        if now_ns - self._off_since_ns > self.limits.tracking_error_s * 1e9:
            text = f"The arm is {off_m * 1e3:.0f} mm and {off_rad:.2f} rad away from where it was sent."
            found.append(Finding("tracking_error", Severity.BRAKE_FAULT, text))


def overrun(gap_ns: int) -> Finding | None:
    """Judge a cycle that began `gap_ns` late."""
    if gap_ns < OVERRUN_WARN_NS:
        return None
    severity = Severity.WARN
    if gap_ns >= OVERRUN_SLOW_NS:
        severity = Severity.HOLD if gap_ns >= OVERRUN_STOP_NS else Severity.SLOW
    return Finding("overrun", severity, f"A control cycle began {gap_ns * 1e-6:.0f} ms late.")
