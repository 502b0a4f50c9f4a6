"""The limiter of devices that plan their own way: a goal is kept inside the workspace, nothing more.

Speed, acceleration and jerk are then the device's own; what is promised of setpoints elsewhere is not promised here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Limits

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """A setpoint that is a goal: (7,) pose; `limited` names 'workspace' when it was moved to the wall."""

    pose: Floats
    q: Floats | None = None
    limited: tuple[str, ...] = ()


class GoalLimiter:
    """Passes goals on, positions clamped to the workspace."""

    def __init__(self, limits: Limits) -> None:
        self._low, self._high = limits.workspace_m
        self._pose: Floats = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    def reset(self, T_base_ee: Floats, q: Floats) -> None:
        """Begin at a measured pose (4, 4)."""
        from robot_io.process.poses import pose_of

        self._pose = pose_of(T_base_ee)

    def step(self, target: Floats | None, speed_scale: float = 1.0) -> Goal:
        """Return the goal, the last one when there is no new one."""
        if target is None:
            return Goal(pose=self._pose)
        inside = np.clip(target[:3], self._low, self._high)
        limited = () if np.array_equal(inside, target[:3]) else ("workspace",)
        self._pose = np.concatenate([inside, target[3:]])
        return Goal(pose=self._pose, limited=limited)
