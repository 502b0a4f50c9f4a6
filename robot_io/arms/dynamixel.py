"""Arms of Dynamixel X servos, such as Koch or ViperX, through the vendor's SDK.

The servos' bus watchdog is set before torque goes on: when nobody speaks on the bus any more, they stop by themselves
and hold. A hardware error (overload, overheating, voltage) makes such a servo take its own torque off; nothing on the
bus can prevent that, so the driver holds all others and says which joint is limp.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import JointLimits
from cascade.contracts.errors import DeviceError
from robot_io.arms import dynamixel_registers as reg
from robot_io.arms.driver import DeviceFault, DriverInfo, Reading, Takes
from robot_io.arms.dynamixel_bus import DynamixelBus
from robot_io.arms.dynamixel_config import DynamixelConfig

Floats = NDArray[np.float64]

_GOAL_PWM, _FULL_PWM = 100, 885
_SECONDARY_ID = 12
_AT_REST_RAD = 0.06
_SLOW_CHECK_EVERY = 10
_REBOOT_S = 2.0
_HOT_READINGS = 3
_PACE_S = 0.02


class DynamixelDriver:
    """An arm of Dynamixel X servos as the arm process sees it."""

    def __init__(self, config: DynamixelConfig) -> None:
        self._config = config
        self._bus = DynamixelBus(config.port, baud_hz=config.baud_hz, budget_s=config.bus_budget_s)
        self._checked = False
        self._torque_on = False
        self._way_until_s: float | None = None  # on its way to rest, until then at most
        self._faults: dict[tuple[int, str], DeviceFault] = {}
        self._hot: dict[int, int] = {}
        self._last: dict[int, reg.Sample] = {}
        self._reads = 0
        self._tick_ms: int | None = None
        self._clock_ms = 0
        count = len(config.joints)
        self._info = DriverInfo(
            name="dynamixel",
            model=config.model,
            joint_names=tuple(joint.name for joint in config.joints),
            takes=Takes.JOINTS,
            rate_hz=config.rate_hz,
            joint_limits=JointLimits(
                lower_rad=np.array([joint.lower_rad for joint in config.joints]),
                upper_rad=np.array([joint.upper_rad for joint in config.joints]),
                max_speed_rad_s=np.full(count, config.max_speed_rad_s),
                max_acceleration_rad_s2=np.full(count, config.max_acceleration_rad_s2),
                max_jerk_rad_s3=np.full(count, config.max_jerk_rad_s3),
            ),
            kinematics=config.kinematics,
            watchdog_s=config.watchdog_s,
            rest_q=np.array([joint.rest_rad for joint in config.joints]),
            has_gripper=config.gripper is not None,
            address=config.port,
        )

    @property
    def info(self) -> DriverInfo:
        """What is known before connecting."""
        return self._info

    @property
    def is_connected(self) -> bool:
        """Whether the bus was there when last used."""
        return self._bus.is_open and self._checked

    def connect(self, timeout_s: float) -> None:
        """Open the port and check ids and models; nothing moves, torque stays as it is."""
        self._checked = False
        self._bus.close()
        self._bus.open()
        try:
            self._check_identity(time.monotonic() + timeout_s)
            answers, missing = self._bus.sync_read(self._config.ids, reg.TORQUE_ENABLE, 1)
            if missing:
                raise self._bus.silent(missing)
        except DeviceError:
            self._bus.close()
            raise
        self._torque_on = any(data[0] for _, data in answers.values())
        self._checked = True
        self._forget()

    def arm(self) -> None:
        """Set the watchdog, make the present position the goal, then put torque on."""
        self._connected()
        samples = self._sample()
        self._refuse_alerts(samples)
        for servo in self._config.ids:
            self._prepare(servo, samples[servo].ticks)
        self._torque_on = True
        self._forget()

    def read(self) -> Reading:
        """Return what the servos measure; raises DeviceError when the cable is out or a servo is silent."""
        self._connected()
        samples = self._sample()
        self._look(samples)
        gripper = self._config.gripper
        joints = self._config.joints
        return Reading(
            t_dev_s=self._device_time_s(samples[joints[0].id].tick_ms),
            q=np.array([joint.to_rad(samples[joint.id].ticks) for joint in joints]),
            qd=np.array([joint.sign * samples[joint.id].speed_rad_s for joint in joints]),
            gripper_opening=None if gripper is None else gripper.to_opening(samples[gripper.id].ticks),
            running=self._torque_on and not self._faults,
            faults=tuple(self._faults.values()),
        )

    def send(self, setpoint: Floats, gripper: float | None) -> None:
        """Send goals (J,) [rad] in one frame; not followed while a servo is in trouble."""
        self._connected()
        if self._faults or not self._torque_on:
            return
        angles = np.asarray(setpoint, dtype=np.float64)
        joints = self._config.joints
        if angles.shape != (len(joints),) or not np.all(np.isfinite(angles)):
            raise DeviceError(f"dynamixel: expected {len(joints)} finite joint angles, found {setpoint}.")
        goals = {joint.id: joint.to_ticks(float(angle)) for joint, angle in zip(joints, angles, strict=True)}
        if gripper is not None and self._config.gripper is not None:
            goals[self._config.gripper.id] = self._config.gripper.to_ticks(gripper)
        self._bus.sync_write(reg.GOAL, 4, goals)

    def halt(self) -> None:
        """Make every servo hold where it was last measured."""
        self._way_until_s = None
        with contextlib.suppress(DeviceError):
            self._hold()

    def recover(self) -> None:
        """Reboot servos with a hardware error, clear the watchdog, and hold everything where it stands."""
        self._connected()
        samples = self._sample()
        for servo in [i for i, sample in samples.items() if sample.alert]:
            self._bus.reboot(servo)
            self._wait_for(servo)
        samples = self._sample()
        self._refuse_alerts(samples)
        if self._torque_on:
            for servo in self._config.ids:
                self._prepare(servo, samples[servo].ticks)
        self._forget()

    def disarm(self) -> None:
        """Go to the resting pose slowly, then take torque off; where that fails, keep torque and hold."""
        try:
            while not self.disarm_step():
                time.sleep(_PACE_S)
                self._refuse_alerts(self._sample())
        except DeviceError:
            self.halt()
            raise

    def disarm_step(self) -> bool:
        """Begin the way to rest, or look after the last reading how far it is; True: it is over, torque is off.

        `halt` ends the way: the arm then holds where it is.

        Raises:
            DeviceError: the arm did not reach its resting pose; it holds.
        """
        self._connected()
        if not self._torque_on:
            return True
        joints = self._config.joints
        if self._way_until_s is None:
            self._way_until_s = self._begin_rest()
        stuck = [j for j in joints if abs(j.rest_rad - j.to_rad(self._last[j.id].ticks)) > _AT_REST_RAD]
        if not stuck:
            for servo in self._config.ids:
                self._bus.write(servo, reg.TORQUE_ENABLE, 1, 0)
                self._bus.write(servo, reg.BUS_WATCHDOG, 1, 0)
            self._torque_on, self._way_until_s = False, None
            return True
        if time.monotonic() > self._way_until_s:
            self.halt()
            names = ", ".join(f"{joint.name} (servo id {joint.id})" for joint in stuck)
            raise DeviceError(
                f"{names}: did not reach the resting pose; torque stays on.", "Clear the way, then disarm again."
            )
        self._bus.sync_write(reg.GOAL, 4, {joint.id: joint.to_ticks(joint.rest_rad) for joint in joints})
        return False

    def close(self) -> None:
        """Let go of the port; an arm that has torque holds, so that it does not fall."""
        if self._torque_on:
            self.halt()
        self._bus.close()
        self._checked = False

    def _connected(self) -> None:
        if not self.is_connected:
            raise DeviceError(f"{self._config.port}: the arm is not connected.", "Connect it again.")

    def _check_identity(self, deadline_s: float) -> None:
        expected = {joint.id: reg.MODELS[joint.model] for joint in self._config.joints}
        expected |= {j.shadow_id: reg.MODELS[j.model] for j in self._config.joints if j.shadow_id is not None}
        if self._config.gripper is not None:
            expected[self._config.gripper.id] = reg.MODELS[self._config.gripper.model]
        found = self._bus.models(expected)
        missing = tuple(servo for servo in expected if servo not in found)
        if missing:
            raise self._bus.silent(missing)
        for servo, model in expected.items():
            if found[servo] != model:
                raise DeviceError(
                    f"servo id {servo} on {self._config.port}: expected model {model}, found {found[servo]}.",
                    "This is another device: name the arm's own serial port, or correct the servo table.",
                )
        for joint in self._config.joints:
            if joint.shadow_id is not None:
                answers, _ = self._bus.sync_read((joint.shadow_id,), _SECONDARY_ID, 1)
                if not answers or answers[joint.shadow_id][1][0] != joint.id:
                    raise DeviceError(
                        f"servo id {joint.shadow_id}: expected the secondary id {joint.id}, so that it follows.",
                        "Set it with the maker's tool: two servos on one axis must not work against each other.",
                    )
        if time.monotonic() > deadline_s:
            raise DeviceError(f"{self._config.port}: the servos answered too slowly to be checked in time.")

    def _prepare(self, servo: int, ticks: int) -> None:
        """Watchdog, mode, full torque and speed, goal where it stands, torque on."""
        gripper = self._config.gripper
        limit_a = gripper.current_a if gripper is not None and gripper.id == servo else None
        mode = reg.POSITION_MODE if limit_a is None else reg.CURRENT_BASED_POSITION_MODE
        bus = self._bus
        bus.write(servo, reg.BUS_WATCHDOG, 1, 0)  # clears one that has expired
        bus.write(servo, reg.BUS_WATCHDOG, 1, max(1, math.ceil(self._config.watchdog_s / reg.WATCHDOG_UNIT_S - 1e-9)))
        answers, missing = bus.sync_read((servo,), reg.OPERATING_MODE, 1)
        if missing:
            raise bus.silent(missing)
        if answers[servo][1][0] != mode:
            bus.write(servo, reg.OPERATING_MODE, 1, mode)  # refused while torque is on, and then said so
        if limit_a is not None and gripper is not None:
            unit_a = reg.current_unit_a(reg.MODELS[gripper.model])
            bus.write(servo, reg.GOAL_CURRENT, 2, round(limit_a / unit_a))
        bus.write(servo, _GOAL_PWM, 2, _FULL_PWM)
        bus.write(servo, reg.PROFILE_SPEED, 4, 0)
        bus.write(servo, reg.GOAL, 4, ticks)
        bus.write(servo, reg.TORQUE_ENABLE, 1, 1)

    def _sample(self) -> dict[int, reg.Sample]:
        answers, missing = self._bus.sync_read(self._config.ids, reg.SENSORS, reg.SENSORS_SIZE)
        self._last.update({i: reg.Sample.parse(error, data) for i, (error, data) in answers.items()})
        if missing:
            self.halt()
            names = ", ".join(f"{self._config.name(i)} (id {i})" for i in missing)
            error = self._bus.silent(missing)
            raise type(error)(f"{names}: {error.problem} The other joints hold.", error.fix, missing)
        return {servo: self._last[servo] for servo in self._config.ids}

    def _look(self, samples: Mapping[int, reg.Sample]) -> None:
        """Add what is new to the faults; hold the arm when there is any."""
        before = len(self._faults)
        self._reads += 1
        for servo, sample in samples.items():
            if sample.alert and not any(known == servo for known, _ in self._faults):
                self._report_hardware_error(servo)
            hot = self._hot[servo] = self._hot.get(servo, 0) + 1 if self._is_hot(sample) else 0
            if hot == _HOT_READINGS:
                words = f"too hot ({sample.temperature_c} °C). It holds with less torque; let it cool."
                self._report(servo, "servo_overheat", words)
                self._bus.sync_write(_GOAL_PWM, 2, {servo: round(_FULL_PWM * self._config.reduced_share)})
        if self._torque_on and self._reads % _SLOW_CHECK_EVERY == 0:
            answers, _ = self._bus.sync_read(self._config.ids, reg.BUS_WATCHDOG, 1)
            for servo in [i for i, (_, data) in answers.items() if data[0] == 255]:
                self._report(servo, "watchdog_expired", "stopped by itself: nobody spoke on the bus for too long.")
        if len(self._faults) > before:
            self.halt()

    def _is_hot(self, sample: reg.Sample) -> bool:
        return sample.temperature_c > self._config.max_temperature_c

    def _report_hardware_error(self, servo: int) -> None:
        answers, _ = self._bus.sync_read((servo,), reg.HARDWARE_ERROR, 1)
        bits = answers[servo][1][0] if servo in answers else 0
        for code, words in reg.complaints(bits):
            self._report(
                servo, code, f"{words}; the servo took its torque off. Support the joint, then clear the fault."
            )

    def _report(self, servo: int, code: str, words: str) -> None:
        message = f"{self._config.name(servo)} (servo id {servo}): {words}"
        self._faults.setdefault((servo, code), DeviceFault(code=code, message=message))

    def _refuse_alerts(self, samples: Mapping[int, reg.Sample]) -> None:
        for servo, sample in samples.items():
            if sample.alert or self._is_hot(sample):
                what = "reports a hardware error" if sample.alert else f"is too hot ({sample.temperature_c} °C)"
                raise DeviceError(
                    f"{self._config.name(servo)} (servo id {servo}): {what}.", "Let it cool, then clear the fault."
                )

    def _hold(self) -> None:
        if self._torque_on:
            self._bus.sync_write(reg.GOAL, 4, {servo: sample.ticks for servo, sample in self._last.items()})

    def _wait_for(self, servo: int) -> None:
        until = time.monotonic() + _REBOOT_S
        while servo not in self._bus.models((servo,)):
            if time.monotonic() > until:
                raise self._bus.silent((servo,))

    def _begin_rest(self) -> float:
        """Set speeds with which all joints arrive at rest together; return until when they may take."""
        samples = self._sample()
        self._refuse_alerts(samples)
        joints = self._config.joints
        far = {joint.id: abs(joint.rest_rad - joint.to_rad(samples[joint.id].ticks)) for joint in joints}
        takes_s = max(max(far.values()) / self._config.rest_speed_rad_s, 0.1)
        speeds = {servo: max(1, round(way / takes_s / reg.SPEED_UNIT_RAD_S)) for servo, way in far.items()}
        for servo, speed in speeds.items():
            self._bus.write(servo, reg.PROFILE_SPEED, 4, speed)
        return time.monotonic() + 1.5 * takes_s + 2.0

    def _device_time_s(self, tick_ms: int) -> float:
        """Return the first servo's own clock, unwrapped [s]."""
        if self._tick_ms is not None:
            self._clock_ms += (tick_ms - self._tick_ms) % reg.TICK_WRAP_MS
        self._tick_ms = tick_ms
        return self._clock_ms / 1000.0

    def _forget(self) -> None:
        self._faults.clear()
        self._hot.clear()
        self._tick_ms = None
