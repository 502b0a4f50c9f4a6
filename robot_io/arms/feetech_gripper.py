"""Keeps a gripper's servo from burning while it holds something.

A position servo that is told to close on an object stalls: it pulls with all the torque it has until it is hot. Here
the torque is lowered as soon as the current says that it holds, and given back when the fingers are to open.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class GripperGuard:
    """Decides the torque of a gripper from its current.

    Attributes:
        limit_a: current that counts as holding.
        after_s: how long it must last.
        full_share, hold_share: torque limit while moving, and while holding.
    """

    limit_a: float
    full_share: float
    hold_share: float
    after_s: float = 0.3
    _above_since_s: float | None = None
    _holding_ticks: int | None = None

    @property
    def holding(self) -> bool:
        """Whether the torque is lowered."""
        return self._holding_ticks is not None

    def measured(self, now_s: float, ticks: int, current_a: float) -> float | None:
        """Take a measurement; return the torque share to set when it changes, else None."""
        if self.holding or current_a <= self.limit_a:
            self._above_since_s = None
            return None
        if self._above_since_s is None:
            self._above_since_s = now_s
        if now_s - self._above_since_s < self.after_s:
            return None
        self._holding_ticks = ticks
        return self.hold_share

    def wanted(self, goal_ticks: int, open_ticks: int) -> float | None:
        """Take a new goal; return the full torque share when it opens the fingers again, else None."""
        if self._holding_ticks is None:
            return None
        towards_open = (goal_ticks - self._holding_ticks) * (1 if open_ticks > self._holding_ticks else -1)
        if towards_open <= 0:
            return None
        self._holding_ticks = self._above_since_s = None
        return self.full_share
