"""Franka Research 3 through franky and libfranka. Experimental: it has never moved a real robot.

Written against the public libfranka protocol and tried on a loopback controller only, which has no gravity, no
coupling and few of the real controller's checks. Before it touches an arm: a computer with a real-time kernel on a
direct cable, franky's own examples first, low stiffness, a hand on the user stop. The Franka Hand is not driven yet.

The thread that keeps the 1 kHz exchange is franky's, in C++; it leads the joints by an impedance whose reference this
driver sets at the loop's pace. If the process dies, the robot stops by itself; if only the loop stops, the last
reference is held.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.contracts import PluginConfig
from cascade.contracts.errors import DeviceError
from robot_io.arms.driver import DeviceFault, DriverInfo, Reading, Safety, Takes
from robot_io.process.models import arm_model

Floats = NDArray[np.float64]

COMMAND_PORT = 1337
WATCH_S = 0.004
Seven = tuple[float, float, float, float, float, float, float]


class FrankaConfig(PluginConfig):
    """Options of the Franka driver."""

    host: str = Field(description="Address of the control box (its shop-floor port); FCI must be activated in Desk.")
    realtime: Literal["enforce", "ignore"] = Field(
        "enforce", description="enforce: refuse a kernel without real-time scheduling; ignore: only for a loopback."
    )
    stiffness_nm_rad: Seven = Field(
        (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0), description="Of each joint's impedance [Nm/rad]."
    )
    collision_torque_nm: float = Field(20.0, gt=0.0, le=100.0, description="Above it at a joint, the robot stops.")
    collision_force_n: float = Field(30.0, gt=0.0, le=100.0, description="Above it at the flange, the robot stops.")
    rate_hz: float = Field(125.0, ge=50.0, le=500.0, description="References per second.")


@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    """What the watching thread saw last."""

    state: Any
    in_control: bool


class FrankaDriver:
    """A Franka Research 3 as the arm process sees it; one per process."""

    def __init__(self, config: FrankaConfig) -> None:
        model = arm_model("fr3")
        self._config = config
        self._franky: Any = None
        self._robot: Any = None
        self._motion: Any = None
        self._armed = False
        self._watched: _Watched | None = None
        self._failure: str | None = None
        self._ended: str | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: Floats | None = None
        self._max_speed = model.joint_limits.max_speed_rad_s
        self._info = DriverInfo(
            name="franka",
            model="fr3",
            joint_names=model.joint_names,
            takes=Takes.JOINTS,
            rate_hz=config.rate_hz,
            slowest_hz=50.0,
            joint_limits=model.joint_limits,
            kinematics="fr3",
            watchdog_s=None,
            has_gripper=False,
            has_wrench=True,
        )

    @property
    def info(self) -> DriverInfo:
        """What is known before connecting."""
        return self._info

    def connect(self, timeout_s: float) -> None:
        """Reach the control box in time, then let franky connect; nothing moves."""
        deadline_s = time.monotonic() + timeout_s
        self._franky = _load()
        host = self._config.host
        try:
            socket.create_connection((host, COMMAND_PORT), timeout=timeout_s).close()
        except OSError as error:
            raise DeviceError(
                f"Franka at {host}: its control port {COMMAND_PORT} cannot be reached ({error}).",
                "Unlock the joints and activate FCI in Desk; check the cable.",
            ) from error
        self._robot = self._open(max(0.5, deadline_s - time.monotonic()))
        self._closing.clear()
        self._failure = self._ended = None
        self._thread = threading.Thread(target=self._watch, daemon=True, name="franka-state")
        self._thread.start()
        while self._watched is None:
            if self._failure or time.monotonic() > deadline_s:
                self.close()
                raise DeviceError(
                    f"Franka at {host}: it reports no state ({self._failure}).", "Restart the control box."
                )
            time.sleep(0.002)

    def arm(self) -> None:
        """Take control with the reference where the joints are; the arm stands still."""
        robot, watched = self._connected()
        deadline_s = time.monotonic() + 1.5
        while watched.state.robot_mode.name == "Move" and time.monotonic() < deadline_s:  # still braking after a halt
            time.sleep(WATCH_S)
            robot, watched = self._connected()
        name = watched.state.robot_mode.name
        if name != "Idle" or robot.has_errors:
            names = ", ".join(_flags(watched.state.current_errors)) or "no errors"
            raise DeviceError(
                f"Franka: expected it to be idle, found {name} ({names}).",
                "Clear the fault, release the user stop, leave guiding and execution modes.",
            )
        q = np.array(watched.state.q)
        self._motion = self._franky.JointImpedanceTrackingMotion(stiffness=list(self._config.stiffness_nm_rad))
        self._motion.set_reference(self._franky.JointReference(q=q))
        self._last, self._ended = None, None
        robot.move(self._motion, asynchronous=True)
        deadline_s = time.monotonic() + 2.0
        while not (robot.is_in_control and self._watched is not None and self._watched.in_control):
            if time.monotonic() > deadline_s or self._ended:
                raise DeviceError(f"Franka: it gives no control ({self._ended or 'no answer'}).", "Look at Desk.")
            time.sleep(0.002)
        self._armed = True

    def read(self) -> Reading:
        """Return the latest state; raises DeviceError on a lost link."""
        _, watched = self._connected()
        state = watched.state
        faults = self._faults(watched)
        mode = state.robot_mode.name
        safety = Safety.ESTOP if mode == "UserStopped" else Safety.NORMAL  # a reflex is told once, by its fault
        return Reading(
            t_dev_s=state.time.to_sec(),
            q=np.array(state.q, dtype=np.float64),
            qd=np.array(state.dq, dtype=np.float64),
            wrench=np.array(state.O_F_ext_hat_K, dtype=np.float64),
            safety=safety,
            running=self._armed and not faults,
            faults=faults,
        )

    def send(self, setpoint: Floats, gripper: float | None) -> None:
        """Move the reference to (7,) joints [rad], with the speed that the last two imply."""
        if not self._armed:
            raise DeviceError("Franka: it takes no setpoints before it is armed.", "Arm it first.")
        last, self._last = self._last, np.array(setpoint, dtype=np.float64)
        speed = np.zeros(7) if last is None else (self._last - last) * self._config.rate_hz
        speed = np.clip(speed, -self._max_speed, self._max_speed)
        self._motion.set_reference(self._franky.JointReference(q=self._last, dq=speed))

    def halt(self) -> None:
        """Let franky brake the joints and give up control; setpoints are taken again after `arm`."""
        was_armed, self._armed = self._armed, False
        if self._robot is not None and was_armed:
            with contextlib.suppress(Exception):
                self._robot.move(self._franky.TorqueStopMotion(), asynchronous=True)

    def recover(self) -> None:
        """Ask for the controller's error recovery; the arm stands still."""
        robot, _ = self._connected()
        self._armed = False
        try:
            robot.recover_from_errors()
        except Exception as error:
            raise DeviceError(
                f"Franka: it does not recover ({error}).", "Release the user stop; look at Desk."
            ) from error
        deadline_s = time.monotonic() + 1.0
        while robot.has_errors or self.read().faults:  # until a state from after the recovery has come
            if time.monotonic() > deadline_s:
                raise DeviceError("Franka: errors remain after recovery.", "Look at Desk.")
            time.sleep(0.005)
        self._ended = None

    def disarm(self) -> None:
        """Brake and give up control; the controller holds the joints."""
        robot, _ = self._connected()
        self.halt()
        deadline_s = time.monotonic() + 2.0
        while robot.is_in_control and time.monotonic() < deadline_s:
            time.sleep(0.005)

    def close(self) -> None:
        """Brake if it is armed, then disconnect; at most about three seconds."""
        if self._armed:
            with contextlib.suppress(DeviceError):
                self.disarm()
        self._closing.set()
        if self._thread is not None:
            self._thread.join(1.2)
        self._thread = self._robot = self._motion = self._watched = None

    def _open(self, timeout_s: float) -> Any:
        """Construct franky's Robot in a thread: its handshake has no timeout of its own."""
        franky, config = self._franky, self._config
        found: list[Any] = []
        failure: list[str] = []
        realtime = franky.RealtimeConfig.Enforce if config.realtime == "enforce" else franky.RealtimeConfig.Ignore

        def construct() -> None:
            try:
                found.append(
                    franky.Robot(
                        config.host,
                        default_torque_threshold=config.collision_torque_nm,
                        default_force_threshold=config.collision_force_n,
                        realtime_config=realtime,
                    )
                )
            except Exception as error:
                failure.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=construct, daemon=True, name="franka-connect")
        thread.start()
        thread.join(timeout_s)
        if not found:
            why = failure[0] if failure else f"no answer within {timeout_s:.1f} s"
            raise DeviceError(
                f"Franka at {config.host}: franky does not connect ({why}).",
                "Activate FCI in Desk; check the system version, and for real-time errors this computer's kernel.",
            )
        return found[0]

    def _watch(self) -> None:
        """Read states and the motion's end: either may block for up to a second on a dead link."""
        robot = self._robot
        while not self._closing.wait(WATCH_S):
            try:
                robot.poll_motion()
            except Exception as error:
                self._ended = str(error).splitlines()[0]
            try:
                self._watched = _Watched(robot.state, bool(robot.is_in_control))
            except self._franky.InvalidOperationException:
                continue  # another read or the start of control has the link just now
            except Exception as error:
                self._failure = str(error)
                return

    def _connected(self) -> tuple[Any, _Watched]:
        if self._robot is None or self._watched is None:
            raise DeviceError("Franka: not connected.", "Connect first.")
        if self._failure:
            raise DeviceError(
                f"Franka at {self._config.host}: the link is lost ({self._failure}).", "Check the cable, connect again."
            )
        return self._robot, self._watched

    def _faults(self, watched: _Watched) -> tuple[DeviceFault, ...]:
        state = watched.state
        mode = state.robot_mode.name
        names = ", ".join(_flags(state.current_errors) or _flags(state.last_motion_errors)) or "no reason given"
        if mode == "Reflex":
            return (DeviceFault(code="reflex", message=f"Franka: a reflex stopped it ({names})."),)
        if mode == "UserStopped":
            return (DeviceFault(code="user_stop", message="Franka: the user stop is pressed. Release it."),)
        if self._armed and mode == "Guiding":
            return (DeviceFault(code="guiding", message="Franka: somebody is guiding it by hand."),)
        if self._armed and not watched.in_control:
            return (DeviceFault(code="control_lost", message=f"Franka: control has ended ({self._ended or names})."),)
        return ()


def _flags(errors: Any) -> list[str]:
    return [name for name in dir(errors) if not name.startswith("_") and getattr(errors, name) is True]


def _load() -> Any:
    try:
        return importlib.import_module("franky")
    except ImportError as error:
        raise DeviceError(
            f"Franka: franky is not installed ({error}).", 'Install it: pip install "cascade-wam[franka]".'
        ) from error
