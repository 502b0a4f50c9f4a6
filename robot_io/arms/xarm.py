"""UFACTORY xArm 6 and 7, streamed in servo mode through the vendor's SDK.

The controller ignores the speed of servo commands and follows each at once, as fast as the joints can: the arm
process's limiter before this driver is what makes the motion gentle. There is no watchdog: when setpoints cease the arm
holds the last one.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.contracts import PluginConfig
from cascade.contracts.errors import DeviceError
from robot_io.arms.driver import DeviceFault, DriverInfo, Reading, Safety, Takes
from robot_io.arms.xarm_channel import OK, CommandChannel, Measured
from robot_io.arms.xarm_codes import fault, meaning
from robot_io.arms.xarm_gripper import XArmGripperLink
from robot_io.arms.xarm_sdk import close_api, greet, open_api
from robot_io.arms.xarm_units import from_controller, to_controller
from robot_io.process.models import arm_model

Floats = NDArray[np.float64]

SERVO_MODE = 1
PAUSED, STOPPED = 3, 4
SDK_REPLY_S = 1.0
UNEXPLAINED_S = 0.1  # a stop's error code may come a little later than the stop


class XArmConfig(PluginConfig):
    """Options of the xArm driver."""

    model: Literal["xarm6", "xarm7"] = Field("xarm6", description="Which arm it is; checked when connecting.")
    host: str = Field(description="Address of the control box, as printed on it.")
    port: int = Field(502, ge=1, le=65535, description="Command port of the controller.")
    report: Literal["real", "normal"] = Field(
        "real", description="Report stream: real is 100 Hz on port 30003, normal is 5 Hz on port 30001."
    )
    takes: Takes = Field(
        Takes.JOINTS, description="joints: we solve the kinematics; pose: the controller does, its TCP offset included."
    )
    rate_hz: float = Field(100.0, ge=50.0, le=250.0, description="Setpoints per second.")
    gripper: Literal["xarm", "none"] = Field("none", description="What is mounted: UFACTORY's gripper, or nothing.")
    gripper_speed_pulses_s: int = Field(3000, ge=350, le=5000, description="Of 850 pulses from closed to open.")
    stall_s: float = Field(0.15, gt=0.0, le=1.0, description="A reply owed for longer makes the arm hold.")
    lost_s: float = Field(1.0, gt=0.0, le=10.0, description="A reply owed for longer counts as a lost link.")


class XArmDriver:
    """An xArm as the arm process sees it."""

    def __init__(self, config: XArmConfig) -> None:
        self._config = config
        self._api: Any = None
        self._channel: CommandChannel | None = None
        self._gripper = XArmGripperLink(config.gripper_speed_pulses_s) if config.gripper == "xarm" else None
        self._armed = False
        self._stopped_s = 0.0  # when a stop without an error code was first seen
        model = arm_model(config.model)
        self._axes = model.joints
        self._info = DriverInfo(
            name="xarm",
            model=config.model,
            joint_names=model.joint_names,
            takes=config.takes,
            rate_hz=config.rate_hz,
            slowest_hz=50.0,
            joint_limits=model.joint_limits,
            kinematics=config.model,
            watchdog_s=None,
            has_gripper=self._gripper is not None,
        )

    @property
    def info(self) -> DriverInfo:
        """What is known before connecting."""
        return self._info

    def connect(self, timeout_s: float) -> None:
        """Greet the controller, check that it is the arm of the options, connect the SDK; nothing moves."""
        deadline_s = time.monotonic() + timeout_s
        config = self._config
        found = greet(config.host, config.port, config.report, timeout_s)
        if found.axes != self._axes:
            raise DeviceError(
                f"xArm at {config.host}: expected {config.model}, found an arm of {found.axes} joints.",
                "Check the address, or set the option model.",
            )
        if found.firmware < (1, 9, 110):
            firmware = ".".join(map(str, found.firmware))
            raise DeviceError(
                f"xArm at {config.host}: expected firmware 1.9.110 or later, found {firmware}.",
                "Update it with UFACTORY Studio.",
            )
        self._api = open_api(config.host, config.port, config.report, max(0.5, deadline_s - time.monotonic()))
        self._api.set_timeout(SDK_REPLY_S)
        self._channel = CommandChannel(self._api, self._axes, self._servo, self._gripper, 1.0 / config.rate_hz)
        while missing := self._missing():
            if time.monotonic() > deadline_s or self._channel.failure:
                self.close()
                raise DeviceError(
                    f"xArm at {config.host}: it answers, but reports no {missing} within {timeout_s:.1f} s.",
                    "Check the option gripper." if missing == "gripper" else "Restart the controller.",
                )
            time.sleep(0.005)

    def _missing(self) -> str:
        measured = self._channel.measured() if self._channel is not None else None
        if measured is None or measured.pose is None:
            return "joints"
        return "gripper" if self._gripper is not None and measured.gripper_opening is None else ""

    def arm(self) -> None:
        """Enable the motors and enter servo mode, in the order that the controller demands; the arm stands still."""
        api = self._open()
        if error_code := int(api.get_err_warn_code()[1][0]):
            raise DeviceError(fault(error_code).message, "Clear the fault first.")
        self._make_ready(api, clean_error=False)
        if self._gripper is not None:
            self._gripper.prepare(api)
        self._armed = True

    def recover(self) -> None:
        """Clean the error, enable, enter servo mode again; the arm stands still."""
        self._armed = False
        self._make_ready(self._open(), clean_error=True)
        deadline_s = time.monotonic() + 1.0
        while self.read().faults and time.monotonic() < deadline_s:  # until a reading from after it has come
            time.sleep(0.005)

    def read(self) -> Reading:
        """Return the latest measurement; raises DeviceError on a lost link."""
        api, channel = self._open(), self._channel
        measured = channel.measured() if channel is not None else None
        if channel is None or measured is None:
            raise DeviceError("xArm: nothing was measured yet.", "Connect first.")
        waiting_s = channel.waiting_s()
        if channel.failure or not api.connected or waiting_s > self._config.lost_s:
            why = channel.failure or (f"no reply for {waiting_s:.1f} s" if api.connected else "connection closed")
            raise DeviceError(
                f"xArm at {self._config.host}: the link is lost ({why}).", "Check the cable, connect again."
            )
        faults = self._faults(measured, int(api.mode), int(api.state), waiting_s)
        return Reading(
            t_dev_s=measured.stamp_s,
            q=measured.q,
            qd=measured.qd,
            T_base_ee=from_controller(measured.pose) if self._info.takes is Takes.POSE and measured.pose else None,
            gripper_opening=measured.gripper_opening,
            safety=_safety(measured.error_code),
            running=self._armed and not faults,
            faults=faults,
        )

    def send(self, setpoint: Floats, gripper: float | None) -> None:
        """Leave one setpoint for the command channel: (J,) joints [rad] or a (7,) pose, as `info.takes` says."""
        if not self._armed or self._channel is None:
            raise DeviceError("xArm: it takes no setpoints before it is armed.", "Arm it first.")
        self._channel.offer(setpoint, gripper)

    def halt(self) -> None:
        """Ask for the controller's own stop (state 4); it takes setpoints again after `arm`."""
        self._armed = False
        if self._channel is not None:
            self._channel.halt()

    def disarm(self) -> None:
        """Leave servo mode; the motors hold the arm."""
        api = self._open()
        self._armed = False
        if self._channel is not None:
            self._channel.flush()
        _check("set_mode", api.set_mode(0))

    def close(self) -> None:
        """Stop if it is armed, then let go; at most about three seconds."""
        if self._armed:
            self.halt()
        self._armed = False
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._api is not None:
            close_api(self._api)
            self._api = None

    def _open(self) -> Any:
        if self._api is None:
            raise DeviceError("xArm: not connected.", "Connect first.")
        return self._api

    def _servo(self, setpoint: Floats) -> int:
        if self._info.takes is Takes.JOINTS:
            return int(self._api.set_servo_angle_j([float(angle) for angle in setpoint], is_radian=True))
        return int(self._api.set_servo_cartesian(to_controller(setpoint), is_radian=True))

    def _make_ready(self, api: Any, *, clean_error: bool) -> None:
        """Clean, enable, mode, state: any other order leaves the controller refusing motion without a word."""
        channel = self._channel
        if channel is None:
            raise DeviceError("xArm: not connected.", "Connect first.")
        channel.flush()
        if clean_error:
            _check("clean_error", api.clean_error())
        _check("clean_warn", api.clean_warn())
        _check("motion_enable", api.motion_enable(True))
        _check("set_mode", api.set_mode(SERVO_MODE))
        _check("set_state", api.set_state(0))
        reports = channel.report_count + 2  # the next one may have been on its way before
        deadline_s = time.monotonic() + 1.5
        while channel.report_count < reports or api.mode != SERVO_MODE or api.state >= PAUSED:
            if time.monotonic() > deadline_s:
                error_code = int(api.get_err_warn_code()[1][0])
                why = fault(error_code).message if error_code else f"mode {api.mode}, state {api.state}"
                raise DeviceError(
                    f"xArm: it does not become ready ({why}).", "Look at UFACTORY Studio, then try again."
                )
            time.sleep(0.005)

    def _faults(self, measured: Measured, mode: int, state: int, waiting_s: float) -> tuple[DeviceFault, ...]:
        faults: list[DeviceFault] = []
        self._stopped_s = self._stopped_s if state == STOPPED else 0.0
        refused = self._channel.refused if self._channel is not None else OK
        if measured.error_code:
            faults.append(fault(measured.error_code))
        elif self._armed and (mode != SERVO_MODE or state > STOPPED):
            faults.append(_found("mode_left", f"servo mode was left (mode {mode}); somebody uses the vendor's screen"))
        elif self._armed and state == STOPPED:
            self._stopped_s = self._stopped_s or time.monotonic()
            if time.monotonic() - self._stopped_s > UNEXPLAINED_S:
                faults.append(_found("stopped", "the controller was stopped from elsewhere"))
        elif self._armed and state == PAUSED:
            faults.append(_found("paused", "the controller is paused", latches=False))
        elif self._armed and refused != OK and waiting_s == 0.0:
            faults.append(_found("refused", f"the last setpoint was not taken (code {refused})", latches=False))
        if waiting_s > self._config.stall_s:
            faults.append(_found("reply_stalled", f"no reply for {waiting_s * 1000:.0f} ms", latches=False))
        if measured.gripper_error:
            faults.append(_found("gripper_fault", f"the gripper reports error {measured.gripper_error}", latches=False))
        return tuple(faults)


def _safety(error_code: int) -> Safety:
    """Tell an emergency stop apart; other errors are told once, by their fault."""
    pressed = error_code != 0 and meaning(error_code).safety is Safety.ESTOP
    return Safety.ESTOP if pressed else Safety.NORMAL


def _found(code: str, what: str, *, latches: bool = True) -> DeviceFault:
    return DeviceFault(code=code, message=f"xArm: {what}.", latches=latches)


def _check(step: str, code: int) -> None:
    if code not in (0, 1, 2, 9):  # 1 and 2: an error or warning stands, 9: not ready yet; looked at afterwards
        raise DeviceError(f"xArm: {step} answered {code} instead of 0.", "Check the link and the controller's screen.")
