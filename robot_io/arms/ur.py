"""Universal Robots e-Series arms: ur_rtde for motion, an RTDE client of our own for state and safety.

What shaped this file: ur_rtde's constructors wait without end and hold the interpreter, so every port is tried with a
timeout first. After a lost link it reconnects and repeats the interrupted command, and may crash, so a lost link ends
this process: `read` raises, and the interface is given no means to start its program again (it is created without the
upload flag). Its state looks fresh for seconds after the controller fell silent, so it is never asked for state. Its
program holds or repeats the last command for ever, so the controller's watchdog is set before the first motion. Its
stop waits for the controller, so stopping goes through a socket of its own, without waiting.

Poses are converted here and only here: UR uses rotation vectors, cascade quaternions (wxyz) and matrices. The end
effector is the tool centre point that is active on the controller.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.driver import DeviceFault, DriverInfo, Reading, Safety, Takes
from cascade.contracts.errors import DeviceError
from robot_io.arms import ur_dashboard
from robot_io.arms.robotiq import GripperResult, RobotiqGripper
from robot_io.arms.rtde_monitor import PLAYING, READY, RUNNING, RTDEMonitor, Sample
from robot_io.arms.ur_config import URConfig
from robot_io.arms.ur_errors import not_powered, stopped
from robot_io.arms.ur_pose import apart, flange_of, matrix_of, to_ur
from robot_io.arms.ur_rtde_control import control_class, keep_forever, open_control, quiet, vendor_errors
from robot_io.process.models import arm_model

Floats = NDArray[np.float64]

RATE_HZ = 125.0
UNLOCK_AFTER_S = 5.0
"""A protective stop can be unlocked this long after it, says the controller; look at its cause meanwhile."""

_RESUME_M, _RESUME_RAD = 0.01, 0.03
"""After a safeguard stop the arm goes on by itself only if it is to go on from where it stands."""

_FEED_S = 0.012  # without a setpoint for longer than this, the watchdog is fed by itself
_GRIPPER_NOTICE_S = 0.3  # how long a lost object or a timeout is reported as a reason to hold


class URDriver:
    """One UR arm; see `cascade.contracts.driver.ArmDriver` for what each method promises."""

    def __init__(self, config: URConfig) -> None:
        self._config = config
        model = arm_model(config.model)
        self.info = DriverInfo(
            name="ur",
            model=config.model,
            joint_names=model.joint_names,
            takes=Takes.POSE,
            rate_hz=RATE_HZ,
            joint_limits=model.joint_limits,
            kinematics=config.model,
            watchdog_s=1.0 / config.watchdog_hz,
            slowest_hz=config.watchdog_hz,
            has_gripper=config.gripper != "none",
            has_wrench=True,
            address=config.host,
            T_flange_ee=None if config.tcp_offset is None else matrix_of(np.array(config.tcp_offset)),
        )
        self._monitor = RTDEMonitor(
            config.host, silence_s=config.silence_s, command_register=24 if config.registers == "upper" else 0
        )
        self._dashboard = ur_dashboard.Dashboard(config.host)
        self._gripper = self._make_gripper()
        self._control: Any = None
        self._stopper: socket.socket | None = None
        self._sample: Sample | None = None
        self._armed = False
        self._sent_s = 0.0
        self._paused = False  # by a safeguard, since the last setpoint
        self._withheld = ""
        self._stopped_s: float | None = None  # when a protective stop was first seen

    def _make_gripper(self) -> RobotiqGripper | None:
        config = self._config
        if config.gripper == "none":
            return None
        return RobotiqGripper(config.host, config.gripper_port, speed=config.gripper_speed, force=config.gripper_force)

    # Connecting

    def connect(self, timeout_s: float) -> None:
        """Try all three ports with timeouts, ask who and how the controller is, then connect ur_rtde; nothing moves.

        Raises:
            DeviceError: naming the port, the mode or the stop that is in the way, and the step to take.
        """
        interface, config = control_class(), self._config
        deadline = time.monotonic() + timeout_s
        try:
            self._check(deadline)
            self._set_up_tool(deadline)
            upper = config.registers == "upper"
            self._control = open_control(interface, config.host, upper_registers=upper, deadline_s=deadline)
            if self._gripper is not None:
                self._gripper.connect(max(0.5, deadline - time.monotonic()))
            self._sample = self._settle()
        except DeviceError:
            self.close()
            raise

    def _check(self, deadline: float) -> None:
        def left() -> float:
            return max(0.2, min(2.0, deadline - time.monotonic()))

        host = self._config.host
        self._dashboard.connect(left())
        self._stopper = ur_dashboard.open_port(host, ur_dashboard.SCRIPT_PORT, "script interface", left())
        self._stopper.setblocking(False)
        ur_dashboard.check_identity(self._dashboard, self._config.model)
        ur_dashboard.check_remote(self._dashboard)
        self._sample = sample = self._monitor.connect(left())
        if sample.safety not in (Safety.NORMAL, Safety.REDUCED, Safety.SAFEGUARD_STOP):
            raise stopped(host, sample.safety)
        if sample.robot_mode != RUNNING and not self._config.power_on:
            raise not_powered(host, sample)

    def _set_up_tool(self, deadline: float) -> None:
        """Set tool centre point and payload by a program on the side, which stops nothing and moves nothing."""
        config, lines = self._config, []
        if config.tcp_offset is not None:
            lines.append("set_tcp(p[" + ", ".join(f"{value:.9g}" for value in config.tcp_offset) + "])")
        if config.payload_kg is not None:
            centre = ", ".join(f"{value:.9g}" for value in config.payload_cog_m)
            lines.append(f"set_payload({config.payload_kg:.9g}, [{centre}])")
        if not lines:
            return
        self._script("sec cascade_tool():\n  " + "\n  ".join(lines) + "\nend\n")
        if config.tcp_offset is not None:
            self._await_tool(np.array(config.tcp_offset), deadline)

    def _await_tool(self, offset: Floats, deadline: float) -> None:
        """Wait until the controller reports poses with the new tool centre point; 10 mm allow for its calibration."""
        wanted = matrix_of(offset)
        while time.monotonic() < deadline:
            sample = self._monitor.read()
            T = flange_of(arm_model(self._config.model), sample.q) @ wanted
            if float(np.linalg.norm(T[:3, 3] - sample.tcp_pose[:3])) < 0.01:
                return
            time.sleep(0.005)
        raise DeviceError(
            f"{self._config.host}: expected the tool centre point to become {list(offset)}, it did not.",
            "Set it in the installation on the pendant and leave `tcp_offset` out.",
        )

    # Motion

    def arm(self) -> None:
        """Power if allowed, upload the program, wait until it runs, set the watchdog. The arm stands still."""
        host, sample = self._config.host, self._wait_fresh()
        if sample.safety not in (Safety.NORMAL, Safety.REDUCED):
            raise stopped(host, sample.safety)
        if sample.robot_mode != RUNNING:
            self._power_on(sample)
        if self._armed:
            self.disarm()
        self._until(
            lambda now: now.runtime_state != PLAYING,
            1.0,
            "program that runs on the controller to end",
            "Stop it at the pendant; only one program can move the arm.",
        )
        control = self._need_control()
        with vendor_errors(host):
            # The controller's registers outlive its programs: a program would take up the last target at once.
            with quiet():
                control.kickWatchdog()
            self._until(lambda now: now.command == 0, 1.0, "last command to be cleared")
            control.reuploadScript()
            self._until(lambda now: now.runtime_state == PLAYING and control.isProgramRunning(), 3.0, "program to run")
            if not control.setWatchdog(self._config.watchdog_hz):
                self.halt()
                raise DeviceError(f"{host}: the controller did not take the watchdog; the arm stays unarmed.", "Retry.")
        # Until its program is ready ur_rtde would wait for that inside the next call: up to 3 s, should the link break.
        self._until(lambda now: now.answer == READY, 1.0, "program to be ready")
        self._armed, self._sent_s = True, time.monotonic()
        self._paused, self._withheld = False, ""
        if self._gripper is not None:
            self._gripper.activate()

    def _power_on(self, sample: Sample) -> None:
        if not self._config.power_on:
            raise not_powered(self._config.host, sample)
        for command in ("power on", "brake release"):
            answer = self._dashboard.ask(command)
            if "fail" in answer.lower() or "not allowed" in answer.lower():
                raise DeviceError(f"{self._config.host}: the controller refused '{command}': {answer}.")
        self._until(lambda now: now.robot_mode == RUNNING, 20.0, "arm to be powered, brakes released")

    def read(self) -> Reading:
        """Return the newest state.

        Raises:
            DeviceError: the link is lost: this process must end, before ur_rtde connects anew.
        """
        self._sample = sample = self._monitor.read()
        self._drain()
        if self._armed and not self._need_control().isConnected():
            raise DeviceError(f"{self._config.host}: ur_rtde lost its connection.", "Connect again.")
        safety, running = sample.safety, sample.runtime_state == PLAYING
        if safety is Safety.PROTECTIVE_STOP:
            self._stopped_s = self._stopped_s or time.monotonic()
        if self._armed and time.monotonic() - self._sent_s > _FEED_S:
            self._feed(running)
        return Reading(
            t_dev_s=sample.t_dev_s,
            q=sample.q,
            qd=sample.qd,
            T_base_ee=matrix_of(sample.tcp_pose),
            wrench=sample.wrench,
            gripper_opening=self._gripper.status.opening if self._gripper is not None else None,
            safety=safety,
            running=self._armed and running,
            faults=tuple(self._faults(sample, running)),
        )

    def _faults(self, sample: Sample, running: bool) -> Iterator[DeviceFault]:
        moving_allowed = sample.safety in (Safety.NORMAL, Safety.REDUCED)
        if self._withheld:
            yield DeviceFault(code="safeguard_resume", message=self._withheld)
        if sample.robot_mode != RUNNING and moving_allowed and self._armed:
            yield DeviceFault(code="not_powered", message=str(not_powered(self._config.host, sample)))
        elif self._armed and not running and moving_allowed:
            yield DeviceFault(
                code="program_stopped",
                message="The controller ended its program: a target it cannot reach, its watchdog, or somebody's stop. "
                "See its log, then arm again.",
            )
        if self._gripper is None:
            return
        status = self._gripper.status
        if status.result is GripperResult.FAULT and self._armed:
            yield DeviceFault(code="gripper_fault", message=status.message, latches=False)
        recent = time.monotonic() - status.since_s < _GRIPPER_NOTICE_S
        if status.result in (GripperResult.LOST, GripperResult.TIMEOUT) and recent:
            yield DeviceFault(code=f"gripper_{status.result}", message=status.message, latches=False)

    def _feed(self, running: bool) -> None:
        """Feed the watchdog while nothing is to be sent: the arm stands at the last setpoint, its process is alive."""
        self._sent_s = time.monotonic()
        if self._sample is not None and running and self._sample.answer != READY:
            return
        # A paused program makes ur_rtde complain on every call, 80 times a second.
        with vendor_errors(self._config.host), contextlib.nullcontext() if running else quiet():
            self._need_control().kickWatchdog()

    def send(self, setpoint: Floats, gripper: float | None) -> None:
        """Send one pose (7,) xyz [m] + quaternion wxyz; nothing is sent while the controller is stopped."""
        sample = self._sample
        if self._gripper is not None and gripper is not None:
            self._gripper.move(gripper)
        if not self._armed or sample is None:
            return
        if sample.runtime_state != PLAYING or sample.safety not in (Safety.NORMAL, Safety.REDUCED):
            self._paused = self._paused or sample.safety is Safety.SAFEGUARD_STOP
            return
        if sample.answer != READY:
            return
        config, pose = self._config, to_ur(setpoint)
        if self._paused and not self._may_resume(pose, sample):
            return
        self._paused = False
        with vendor_errors(config.host):
            self._need_control().servoL(pose, 0.5, 0.5, 1.0 / RATE_HZ, config.lookahead_s, config.gain)
        self._sent_s = time.monotonic()

    def _may_resume(self, pose: list[float], sample: Sample) -> bool:
        """Whether a pose is where the safeguard stopped the arm; if not, end the program: the arm would jump."""
        away_m, away_rad = apart(pose, sample.tcp_pose)
        if away_m <= _RESUME_M and away_rad <= _RESUME_RAD:
            return True
        self.halt()
        self._withheld = (
            f"After the safeguard stop the next setpoint is {away_m * 1e3:.0f} mm and {away_rad:.2f} rad away from the "
            "arm: it was not sent. Clear the fault and arm again, to go on from where the arm stands."
        )
        return False

    def halt(self) -> None:
        """Replace the program by a stop along the tool's path; one write, no waiting, never raises."""
        self._armed = False
        with contextlib.suppress(DeviceError):
            self._script(f"def cascade_stop():\n  stopl({self._config.stop_deceleration_m_s2:.6g})\nend\n")

    def recover(self) -> None:
        """Unlock a protective stop, not before 5 s after it; other latched stops need a person at the controller.

        Raises:
            DeviceError: too early (says how long to wait), refused, or a stop that only a person can leave.
        """
        if self._armed:
            self.halt()
        self._withheld = ""
        safety = self._wait_fresh().safety
        if safety is Safety.PROTECTIVE_STOP:
            self._unlock()
        elif safety not in (Safety.NORMAL, Safety.REDUCED, Safety.SAFEGUARD_STOP):
            raise stopped(self._config.host, safety)

    def _unlock(self) -> None:
        host, since_s = self._config.host, time.monotonic() - (self._stopped_s or time.monotonic())
        if since_s < UNLOCK_AFTER_S:
            raise DeviceError(
                f"{host}: expected {UNLOCK_AFTER_S:.0f} s since the protective stop, found {since_s:.1f} s.",
                "Look why it stopped meanwhile, then clear the fault again.",
            )
        self._dashboard.ask("close safety popup")
        answer = self._dashboard.ask("unlock protective stop")
        if "releasing" not in answer.lower():
            raise DeviceError(f"{host}: expected the protective stop to be released, found: {answer}.", "Try again.")
        self._until(lambda now: now.safety is not Safety.PROTECTIVE_STOP, 3.0, "protective stop to end")
        self._stopped_s = None

    def disarm(self) -> None:
        """Stop, wait until the program has ended and the arm stands (up to 1.5 s), hold."""
        was_armed = self._armed
        self.halt()
        if was_armed:
            self._until(
                lambda now: now.runtime_state != PLAYING and bool(np.abs(now.qd).max() < 0.01), 1.5, "arm to stand"
            )

    def close(self) -> None:
        """Stop if armed, then let go; never raises. With a lost link ur_rtde is left as it is: its process must end."""
        with contextlib.suppress(DeviceError):
            if self._armed:
                self.disarm()
        self._release_control()
        if self._gripper is not None:
            self._gripper.close()
        self._monitor.close()
        self._dashboard.close()
        if self._stopper is not None:
            self._stopper.close()
        self._stopper, self._sample, self._stopped_s = None, None, None

    def _release_control(self) -> None:
        control, self._control = self._control, None
        if control is None:
            return
        keep_forever(control)
        with contextlib.suppress(DeviceError, RuntimeError):
            self._monitor.read()  # raises when the link is lost: then nothing more is asked of ur_rtde
            control.disconnect()

    # Small things

    def _need_control(self) -> Any:
        if self._control is None:
            raise DeviceError(f"{self._config.host}: not connected.", "Connect first.")
        return self._control

    def _script(self, program: str) -> None:
        if self._stopper is None:
            raise DeviceError(f"{self._config.host}: not connected.", "Connect first.")
        try:
            self._stopper.send(program.encode())
        except OSError as error:
            raise DeviceError(f"{self._config.host}: the script interface broke: {error}.") from error

    def _drain(self) -> None:
        """Read and forget what the script interface streams, so that the controller's buffer does not fill."""
        with contextlib.suppress(OSError):
            while self._stopper is not None and len(self._stopper.recv(65536)) == 65536:
                pass

    def _wait_fresh(self) -> Sample:
        self._sample = self._monitor.read()
        return self._sample

    def _settle(self) -> Sample:
        """Read what waited while ur_rtde was being connected."""
        time.sleep(0.01)
        return self._monitor.read()

    def _until(self, holds: Callable[[Sample], bool], timeout_s: float, what: str, fix: str = "") -> None:
        """Read until `holds`; raises DeviceError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not holds(self._wait_fresh()):
            self._drain()
            if time.monotonic() > deadline:
                raise DeviceError(f"{self._config.host}: waited {timeout_s:.1f} s for the {what}, in vain.", fix)
            time.sleep(0.004)
