"""The simulated rig's arm process, seen from the caller: one world moves there, its mirror is drawn here."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmMode, Limits
from robot_io.process.arm_process import ArmProcess
from robot_io.process.settings import ProcessSettings
from robot_io.sim.world import CONTROL_HZ, World

Floats = NDArray[np.float64]

_UNBOUNDED = 1e3
DRIVER = "robot_io.sim.driver:SIM_ARM"
CONNECT_S = 60.0


def goal_limits(limits: Limits) -> Limits:
    """Limits of the process: the workspace; the Sawyer's own controller bounds the rest, the gate judges steps."""
    return Limits(
        workspace_m=limits.workspace_m,
        max_speed_m_s=_UNBOUNDED,
        max_acceleration_m_s2=_UNBOUNDED,
        max_jerk_m_s3=_UNBOUNDED,
        max_step_m=_UNBOUNDED,
        max_rotation_rad=2 * np.pi,
        max_angular_speed_rad_s=_UNBOUNDED,
        margin_m=0.0,
    )


class SimProcess:
    """Starts the arm process when it is first needed, and keeps the mirror up to date.

    Args:
        world: the mirror. The same (task, seed) builds it bit for bit like the one that moves.
        limits: of the rig.
        frozen: whether time stands still between ticks.
        ttl_s: how long a target holds.
    """

    def __init__(self, world: World, limits: Limits, *, frozen: bool, ttl_s: float) -> None:
        self._world, self._frozen = world, frozen
        self._seen = 0
        settings = ProcessSettings(
            rate_hz=CONTROL_HZ,
            ttl_s=ttl_s,
            disarm_s=None,
            caller_s=None if frozen else 2.0,
            scheduling="nice",
            lockstep=frozen,
            simulated=True,
        )
        self.arm = ArmProcess(
            DRIVER, {"starts": world.starts}, goal_limits(limits), settings=settings, clock_ns=self._now_ns
        )

    def _now_ns(self) -> int:
        return round(self._world.total_steps * 1e9 / CONTROL_HZ) if self._frozen else time.monotonic_ns()

    def reset(self, task: str, seed: int) -> None:
        """Build both worlds at the same time; the arm is armed in the new one, whatever happened in the old."""
        if self.arm.mode in (ArmMode.DISCONNECTED, ArmMode.FAULT, ArmMode.ESTOP):
            self.arm.close()
            self.arm.start(CONNECT_S)
            self._world.reset(task, seed)  # while the other process loads
            self.arm.connect(CONNECT_S)
            self.arm.reset_world(task=task, seed=seed)
        else:
            self.arm.reset_world(lambda: self._world.reset(task, seed), task=task, seed=seed)
        if self.arm.mode is ArmMode.IDLE:
            self.arm.arm()
        self.pull()

    def tick(self) -> None:
        """In frozen time: one control cycle, which is one step of the world."""
        self.arm.tick()
        self.pull()

    def pull(self) -> bool:
        """Make the mirror show the newest state; return whether there was a new one."""
        counter, exported = self.arm.mirrored()
        if counter == self._seen or not exported:
            return False
        self._seen = counter
        return self._world.adopt(exported)

    def close(self) -> None:
        """End the process."""
        self.arm.close()
        self._seen = 0
