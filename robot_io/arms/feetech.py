"""SO-100 and SO-101: five joints and a gripper, six Feetech STS3215 servos on one serial bus.

The servos hold their last goal when goals cease, so there is no watchdog to set; they also go limp the moment torque is
off, so torque is taken off in the resting pose only. A pulled cable leaves them holding.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import JointLimits
from cascade.contracts.errors import DeviceError
from robot_io.arms import feetech_registers as reg
from robot_io.arms.driver import DeviceFault, DriverInfo, Reading, Takes
from robot_io.arms.feetech_bus import FeetechBus
from robot_io.arms.feetech_calibration_file import ServoCalibration, load_calibration
from robot_io.arms.feetech_config import FeetechConfig
from robot_io.arms.feetech_gripper import GripperGuard
from robot_io.arms.feetech_identity import check_identity
from robot_io.arms.feetech_watch import ServoWatch
from robot_io.process.models import arm_model

Floats = NDArray[np.float64]

_FULL_ACCELERATION = 254
_AT_REST_TICKS = 40
_RANGE_SLACK_TICKS = 60
_PACE_S = 0.02


class FeetechDriver:
    """An SO-100 or SO-101 as the arm process sees it."""

    def __init__(self, config: FeetechConfig) -> None:
        self._config = config
        self._bus = FeetechBus(config.port, baud_hz=config.baud_hz, budget_s=config.bus_budget_s)
        self._calibration: ServoCalibration | None = None
        self._guard = GripperGuard(config.gripper_current_a, config.gripper_torque_share, config.gripper_hold_share)
        self._watch = ServoWatch(config.max_temperature_c, config.min_voltage_v)
        self._last: dict[int, reg.Sample] = {}
        self._torque_on = False
        self._holding = False
        self._way: tuple[dict[int, int], float] | None = None  # goals of the way to rest, and until when
        model = arm_model("so101")
        limits = model.joint_limits
        if config.calibration.exists():
            limits = _within(limits, load_calibration(config.calibration, config.model, model.joint_names))
        self._info = DriverInfo(
            name="feetech",
            model=config.model,
            joint_names=model.joint_names,
            takes=Takes.JOINTS,
            rate_hz=config.rate_hz,
            joint_limits=limits,
            kinematics="so101",
            watchdog_s=None,
            rest_q=np.array(config.rest_q_rad),
            address=config.port,
        )

    @property
    def info(self) -> DriverInfo:
        """What is known before connecting."""
        return self._info

    @property
    def is_connected(self) -> bool:
        """Whether the bus was there when last used."""
        return self._bus.is_open and self._calibration is not None

    def connect(self, timeout_s: float) -> None:
        """Open the port and check that exactly the calibrated arm is on it; nothing moves, torque stays as it is.

        Raises:
            DeviceError: no calibration, no port, a missing or foreign servo.
        """
        self._calibration = None
        calibration = load_calibration(self._config.calibration, self._config.model, self._info.joint_names)
        self._bus.close()
        self._bus.open()
        try:
            torque = check_identity(self._bus, calibration, time.monotonic() + timeout_s)
        except DeviceError:
            self._bus.close()
            raise
        self._calibration = calibration
        self._torque_on = torque
        self._holding = False
        self._watch.forget()

    def arm(self) -> None:
        """Make the present position the goal of every servo, then put torque on."""
        calibration = self._connected()
        samples = self._sample()
        self._refuse_troubled(samples)
        self._watch.forget()
        for name, joint in calibration.joints.items():
            ticks = samples[joint.id].ticks
            if not joint.lower_ticks - _RANGE_SLACK_TICKS <= ticks <= joint.upper_ticks + _RANGE_SLACK_TICKS:
                raise DeviceError(
                    f"{name} (servo id {joint.id}): expected a position of {joint.lower_ticks} to "
                    f"{joint.upper_ticks} ticks, found {ticks}.",
                    "Move the joint into its range by hand, or calibrate the arm again.",
                )
        values = {servo: self._profile(servo, sample.ticks) for servo, sample in samples.items()}
        self._bus.sync_write(reg.ACCELERATION, values)
        self._bus.sync_write(reg.TORQUE_ENABLE, {servo: b"\x01" for servo in samples})
        self._confirm_torque()
        self._torque_on, self._holding, self._way = True, False, None

    def read(self) -> Reading:
        """Return what the servos measure; a servo in trouble is held with less torque and named in the faults.

        Raises:
            DeviceError: the cable is out, or a servo is silent (the others hold where they are).
        """
        calibration = self._connected()
        samples = self._sample()
        faults = self._protect(samples)
        gripper = samples[calibration.gripper.id]
        share = self._guard.measured(time.monotonic(), gripper.ticks, gripper.current_a)
        if share is not None and self._torque_on:
            self._limit_torque({calibration.gripper.id: share})
        joints = calibration.joints.values()
        return Reading(
            t_dev_s=time.monotonic(),  # servos have no clock: this is when they answered
            q=np.array([joint.to_rad(samples[joint.id].ticks) for joint in joints]),
            qd=np.array([joint.sign * samples[joint.id].speed / reg.TICKS_PER_RAD for joint in joints]),
            gripper_opening=calibration.gripper.to_opening(gripper.ticks),
            running=self._torque_on and not self._holding,
            faults=faults,
        )

    def send(self, setpoint: Floats, gripper: float | None) -> None:
        """Send goals (5,) [rad] in one frame; not followed while a servo is in trouble."""
        calibration = self._connected()
        if self._holding or not self._torque_on:
            return
        angles = np.asarray(setpoint, dtype=np.float64)
        if angles.shape != (len(calibration.joints),) or not np.all(np.isfinite(angles)):
            raise DeviceError(f"feetech: expected {len(calibration.joints)} finite joint angles, found {setpoint}.")
        goals = {
            joint.id: joint.to_ticks(float(angle))
            for joint, angle in zip(calibration.joints.values(), angles, strict=True)
        }
        if gripper is not None:
            goals[calibration.gripper.id] = goal = calibration.gripper.to_ticks(gripper)
            share = self._guard.wanted(goal, calibration.gripper.open_ticks)
            if share is not None:
                self._limit_torque({calibration.gripper.id: share})
        self._goals(goals)

    def halt(self) -> None:
        """Make every servo hold where it was last measured."""
        self._way = None
        with contextlib.suppress(DeviceError):
            self._hold()

    def recover(self) -> None:
        """Let servos in trouble try again where they stand; raises DeviceError naming one that still complains."""
        calibration = self._connected()
        samples = self._sample()
        if self._torque_on:
            self._hold()
            self._bus.sync_write(reg.TORQUE_ENABLE, {servo: b"\x01" for servo in samples})  # ends an overload
            samples = self._sample()
        self._refuse_troubled(samples)
        self._watch.forget()
        self._limit_torque({servo: self._share(servo) for servo in calibration.ids})
        self._holding = False

    def disarm(self) -> None:
        """Go to the resting pose slowly, then take torque off; where that fails, keep torque and hold.

        Raises:
            DeviceError: the arm did not reach its resting pose; it holds.
        """
        try:
            while not self.disarm_step():
                time.sleep(_PACE_S)
                self._refuse_troubled(self._sample())
        except DeviceError:
            self.halt()
            raise

    def disarm_step(self) -> bool:
        """Begin the way to rest, or look after the last reading how far it is; True: it is over, torque is off.

        `halt` ends the way: the arm then holds where it is.

        Raises:
            DeviceError: the arm did not reach its resting pose; it holds.
        """
        calibration = self._connected()
        if not self._torque_on:
            return True
        if self._way is None:
            self._way = self._begin_rest(calibration)
            return False
        goals, deadline_s = self._way
        stuck = [i for i, goal in goals.items() if abs(goal - self._last[i].ticks) > _AT_REST_TICKS]
        if not stuck:
            self._bus.sync_write(reg.TORQUE_ENABLE, {servo: b"\x00" for servo in calibration.ids})
            self._torque_on, self._way = False, None
            return True
        if time.monotonic() > deadline_s:
            self.halt()
            names = ", ".join(f"{calibration.name(servo)} (servo id {servo})" for servo in stuck)
            raise DeviceError(
                f"{names}: did not reach the resting pose; torque stays on.", "Clear the way, then disarm again."
            )
        return False

    def close(self) -> None:
        """Let go of the port; an arm that has torque holds, so that it does not fall."""
        if self._torque_on:
            self.halt()
        self._bus.close()
        self._calibration = None

    def _connected(self) -> ServoCalibration:
        if self._calibration is None or not self._bus.is_open:
            raise DeviceError(f"{self._config.port}: the arm is not connected.", "Connect it again.")
        return self._calibration

    def _sample(self) -> dict[int, reg.Sample]:
        calibration = self._connected()
        answers, missing = self._bus.sync_read(calibration.ids, reg.SENSORS, reg.SENSORS_SIZE)
        self._last.update({i: reg.Sample.parse(answer.status, answer.data) for i, answer in answers.items()})
        if missing:
            self.halt()
            names = ", ".join(f"{calibration.name(i)} (id {i})" for i in missing)
            error = self._bus.silent(missing)
            error.problem = f"{names}: {error.problem} The other joints hold."
            raise type(error)(error.problem, error.fix, missing)
        return {servo: self._last[servo] for servo in calibration.ids}

    def _protect(self, samples: Mapping[int, reg.Sample]) -> tuple[DeviceFault, ...]:
        """Hold and lower the torque of servos in trouble, once; return all there is to report."""
        calibration = self._connected()
        fresh = self._watch.look(samples)
        if fresh and self._torque_on:
            self._hold()
            self._limit_torque({servo: self._share(servo) * self._config.reduced_share for servo in fresh})
            self._holding = True
        return tuple(
            DeviceFault(
                code=trouble.code,
                message=f"{calibration.name(servo)} (servo id {servo}): {trouble.what} "
                f"({samples[servo].temperature_c} °C, {samples[servo].voltage_v:.1f} V, "
                f"load {100 * abs(samples[servo].load):.0f} %). {trouble.remedy}",
            )
            for servo, trouble in self._watch.reported
        )

    def _refuse_troubled(self, samples: Mapping[int, reg.Sample]) -> None:
        for servo, trouble in self._watch.all_now(samples):
            name = self._connected().name(servo)
            raise DeviceError(f"{name} (servo id {servo}): {trouble.what}.", trouble.remedy)

    def _share(self, servo: int) -> float:
        is_gripper = servo == self._connected().gripper.id
        return self._config.gripper_torque_share if is_gripper else self._config.torque_share

    def _profile(self, servo: int, ticks: int) -> bytes:
        """Acceleration, goal, time, speed and torque limit, as they follow each other in the servo."""
        torque = reg.word(round(1000 * self._share(servo)))
        return bytes([_FULL_ACCELERATION]) + reg.word(ticks) + reg.word(0) + reg.word(0) + torque

    def _confirm_torque(self) -> None:
        """Check that the frames without answer arrived; torque on is written again to a servo that missed it."""
        for servo in self._connected().ids:
            if self._bus.read(servo, reg.TORQUE_ENABLE, 1).data != b"\x01":
                sample = self._last[servo]
                self._bus.write(servo, reg.ACCELERATION, self._profile(servo, sample.ticks))
                self._bus.write(servo, reg.TORQUE_ENABLE, b"\x01")

    def _limit_torque(self, shares: Mapping[int, float]) -> None:
        self._bus.sync_write(reg.TORQUE_LIMIT, {i: reg.word(round(1000 * share)) for i, share in shares.items()})

    def _goals(self, ticks: Mapping[int, int]) -> None:
        self._bus.sync_write(reg.GOAL, {servo: reg.word(goal) for servo, goal in ticks.items()})

    def _hold(self) -> None:
        if self._torque_on:
            self._goals({servo: sample.ticks for servo, sample in self._last.items()})

    def _begin_rest(self, calibration: ServoCalibration) -> tuple[dict[int, int], float]:
        """Let all joints go to rest so that they arrive together; the servos keep the speed themselves."""
        goals = {
            joint.id: joint.to_ticks(angle)
            for joint, angle in zip(calibration.joints.values(), self._config.rest_q_rad, strict=True)
        }
        samples = self._sample()
        self._refuse_troubled(samples)
        far = {servo: abs(goal - samples[servo].ticks) for servo, goal in goals.items()}
        takes_s = max(max(far.values()) / (self._config.rest_speed_rad_s * reg.TICKS_PER_RAD), 0.1)
        speeds = {servo: max(1, round(distance / takes_s)) for servo, distance in far.items()}
        # goal, time and speed follow each other in the servo
        self._bus.sync_write(
            reg.GOAL, {i: reg.word(goal) + reg.word(0) + reg.word(speeds[i]) for i, goal in goals.items()}
        )
        return goals, time.monotonic() + 1.5 * takes_s + 2.0


def _within(limits: JointLimits, calibration: ServoCalibration) -> JointLimits:
    """Return limits that stay inside the calibrated ranges too."""
    joints = calibration.joints.values()
    return JointLimits(
        lower_rad=np.maximum(limits.lower_rad, [joint.lower_rad for joint in joints]),
        upper_rad=np.minimum(limits.upper_rad, [joint.upper_rad for joint in joints]),
        max_speed_rad_s=limits.max_speed_rad_s,
        max_acceleration_rad_s2=limits.max_acceleration_rad_s2,
        max_jerk_rad_s3=limits.max_jerk_rad_s3,
    )
