"""Meta-World's Sawyer as a device: the world lives in the arm process, which steps it once per control cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.contracts import JointLimits, PluginConfig, PluginSpec
from cascade.contracts.driver import ArmDriver, DriverInfo, Reading, Takes
from robot_io.sim.starts import Starts

Floats = NDArray[np.float64]

GAIN = 20.0
"""Metres of error to Meta-World actions, as in AVDC's controller: 5 cm and more is full speed, 1 cm per step."""

CONTROL_HZ = 80.0
ARM_JOINTS = tuple(f"right_j{i}" for i in range(7))


class SimDriverConfig(PluginConfig):
    """Options of the simulated device."""

    starts: Starts = Field("stock", description="Where the hand begins, see the rig's option.")


def action_towards(target_m: Floats | None, position_m: Floats, gripper: float) -> Floats:
    """Meta-World's action (4,) towards a target, or none; the opening becomes a force, 0.5 is none."""
    motion = np.zeros(3) if target_m is None else GAIN * (target_m - position_m)
    return np.append(np.clip(motion, -1.0, 1.0), 1.0 - 2.0 * gripper)


class SimDriver:
    """The simulated Sawyer (an ArmDriver): a proportional controller that moves to a goal at its own pace."""

    def __init__(self, config: SimDriverConfig) -> None:
        self._config = config
        self._world: Any = None
        self._target_m: Floats | None = None
        self._gripper = 1.0
        self._cycles = 0
        big = np.full(len(ARM_JOINTS), 100.0)
        limits = JointLimits(
            lower_rad=-big, upper_rad=big, max_speed_rad_s=big, max_acceleration_rad_s2=big, max_jerk_rad_s3=big
        )
        self._info = DriverInfo(
            name="sim",
            model="sawyer",
            joint_names=ARM_JOINTS,
            takes=Takes.POSE,
            rate_hz=CONTROL_HZ,
            joint_limits=limits,
            kinematics=None,
            watchdog_s=None,
            plans_itself=True,
            state_age_s=1.0,
        )

    @property
    def info(self) -> DriverInfo:
        """What is known of it."""
        return self._info

    def connect(self, timeout_s: float) -> None:
        """Load Meta-World; the world is built by `reset`."""
        import metaworld.env_dict  # noqa: F401  (takes a second: while the caller builds its own world)

        from robot_io.sim.world import World

        self._world = World(self._config.starts)

    def reset(self, task: str, seed: int) -> None:
        """Build the layout of (task, seed): the hand stands at its start, the gripper is open."""
        self._world.reset(task, seed)
        self._target_m, self._gripper = None, 1.0

    def arm(self) -> None:
        """Stand still."""
        self._target_m = None

    def read(self) -> Reading:
        """The hand as it is; before the first reset there is none, and it is nowhere."""
        if not self._world.ready:
            nowhere = np.zeros(len(ARM_JOINTS))
            return Reading(t_dev_s=self._cycles / CONTROL_HZ, q=nowhere, qd=nowhere, T_base_ee=np.eye(4))
        q = self._world.joints_rad
        return Reading(
            t_dev_s=self._cycles / CONTROL_HZ,
            q=q,
            qd=np.zeros_like(q),
            T_base_ee=self._world.T_base_ee,
            gripper_opening=self._world.opening,
        )

    def send(self, setpoint: Floats, gripper: float | None) -> None:
        """Go to this goal."""
        self._target_m = setpoint[:3].copy()
        self._gripper = self._gripper if gripper is None else gripper

    def advance(self, now_ns: int) -> None:
        """Let the world go on by one control period (the arm process calls this at the end of a cycle)."""
        self._cycles += 1
        if self._world.ready:
            position = self._world.T_base_ee[:3, 3]
            self._world.step(action_towards(self._target_m, position, self._gripper))

    def mirror(self) -> bytes:
        """What the caller's process draws."""
        exported: bytes = self._world.export() if self._world.ready else b""
        return exported

    def halt(self) -> None:
        """Stand still, the gripper as it was last told."""
        self._target_m = None

    def recover(self) -> None:
        """Stand still."""
        self.halt()

    def disarm(self) -> None:
        """Stand still."""
        self.halt()

    def close(self) -> None:
        """Nothing to let go of."""


def _build(config: SimDriverConfig) -> ArmDriver:
    return SimDriver(config)


SIM_ARM: PluginSpec[ArmDriver] = PluginSpec("The simulated Sawyer, for the simulated rig only", SimDriverConfig, _build)
