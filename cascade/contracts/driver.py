"""What the arm process asks of a driver: the vendor's part, and nothing else.

A driver lives in the arm process and is called by one thread only. It converts units at its edge (everything here is
SI, base frame, monotonic time), never reconnects by itself, never re-sends a command, and never waits longer than the
time it is given. Limits, smoothing, time-to-live, inverse kinematics and latching are the arm process's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.limits import JointLimits

Floats = NDArray[np.float64]


class Takes(StrEnum):
    """What setpoints a device takes."""

    POSE = "pose"  # (7,) xyz [m] + quaternion wxyz of the end effector; the controller solves the kinematics
    JOINTS = "joints"  # (J,) [rad]; the arm process solves the kinematics


class Safety(StrEnum):
    """State of the controller's own safety, as it reports it."""

    NORMAL = "normal"
    REDUCED = "reduced"  # slower limits are active; motion goes on
    SAFEGUARD_STOP = "safeguard_stop"  # a light curtain or door: hold, goes on by itself at the controller
    PROTECTIVE_STOP = "protective_stop"  # a collision or limit: latches
    VIOLATION = "violation"  # latches
    FAULT = "fault"  # latches
    ESTOP = "estop"  # latches; only a person at the robot leaves it


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFault:
    """What a device reports against going on.

    Attributes:
        code: stable name, such as 'link_lost', 'servo_overload', 'program_stopped'.
        message: what happened, which joint or id, and what to do.
        latches: True: the arm process goes to FAULT; False: it holds until the report ends.
    """

    code: str
    message: str = ""
    latches: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What a device measured.

    Attributes:
        t_dev_s: the device's own clock, which must advance between readings (else the state is stale).
        q, qd: (J,) joint positions [rad] and speeds [rad/s].
        T_base_ee: (4, 4) or None when the device does not know it (then the arm process computes it from q).
        wrench: (6,) [N, Nm] in the base frame, or None.
        gripper_opening: 0..1, or None without a gripper or reading.
        safety, running: the controller's safety state, and whether it takes setpoints.
        faults: what it reports against going on.
    """

    t_dev_s: float
    q: Floats
    qd: Floats
    T_base_ee: Floats | None = None
    wrench: Floats | None = None
    gripper_opening: float | None = None
    safety: Safety = Safety.NORMAL
    running: bool = True
    faults: tuple[DeviceFault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DriverInfo:
    """What is known of a device before it is connected.

    Attributes:
        name: 'ur', 'xarm', ...; model: 'ur5e', 'xarm7', ...
        joint_names: J names.
        takes: what setpoints it takes.
        rate_hz: rate at which it wants setpoints; slowest_hz: below this it stops by itself or becomes rough.
        joint_limits: the vendor's own, not yet tightened.
        kinematics: name of the arm's model in `robot_io.process.kinematics`, or None when it has none.
        watchdog_s: time after which the device stops by itself when setpoints cease; None: it has no watchdog.
        rest_q: (J,) a safe resting pose to go to before torque is taken off, or None.
        has_gripper, has_wrench: whether readings carry them.
        address: what names the device on this machine, such as '192.168.1.10' or '/dev/ttyACM0': two processes are
            never let near the same one. Empty: nothing to share, as in simulation.
        plans_itself: a setpoint is a goal that the device moves to at its own pace (a proportional controller): it may
            lead the measured pose, so tracking error means nothing, and a stop holds at the measured pose.
        T_flange_ee: (4, 4) end effector in the frame of the model's flange; None: the flange itself.
        needs_forward: readings carry no T_base_ee although the device takes poses: it is computed from q.
        state_age_s: age of the device's clock after which motion stops; 4 times that is a fault.
    """

    name: str
    model: str
    joint_names: tuple[str, ...]
    takes: Takes
    rate_hz: float
    joint_limits: JointLimits
    kinematics: str | None
    watchdog_s: float | None
    slowest_hz: float = 25.0
    rest_q: Floats | None = None
    has_gripper: bool = True
    has_wrench: bool = False
    address: str = ""
    plans_itself: bool = False
    T_flange_ee: Floats | None = None
    needs_forward: bool = False
    state_age_s: float = 0.05


@runtime_checkable
class ArmDriver(Protocol):
    """A vendor's arm. Constructors do no I/O; every method but `halt` and `close` may raise DeviceError."""

    @property
    def info(self) -> DriverInfo:
        """Readable before connecting."""
        ...

    def connect(self, timeout_s: float) -> None:
        """Check ports and identity within `timeout_s`, then connect; nothing moves.

        Raises:
            DeviceError: naming the exact missing step (port closed, local mode, wrong serial port, missing package).
        """
        ...

    def arm(self) -> None:
        """Make ready to move: the watchdog first, then power, mode and program. The arm stands still."""
        ...

    def read(self) -> Reading:
        """Latest measurement; returns within a fraction of a control period; raises DeviceError on a lost link."""
        ...

    def send(self, setpoint: Floats, gripper: float | None) -> None:
        """Send one setpoint, of the kind of `info.takes`, and a gripper opening 0..1 (None: leave it)."""
        ...

    def halt(self) -> None:
        """Ask the device for its own fastest smooth stop; never raises, never waits."""
        ...

    def recover(self) -> None:
        """Leave a latched stop after a person cleared it (unlock, clean errors, power); the arm stands still."""
        ...

    def disarm(self) -> None:
        """Stop taking setpoints and hold; servo arms go to rest before torque is taken off.

        A driver for which this takes longer than a few cycles also has `disarm_step() -> bool`, which the arm process
        calls once per cycle, after `read`, until it returns True: so that the state stays fresh, and `halt` ends it.
        """
        ...

    def close(self) -> None:
        """Let go of the device, safe state first; never raises, bounded time."""
        ...
