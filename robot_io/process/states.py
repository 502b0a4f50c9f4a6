"""The modes of an arm as a table: which event leads from which mode to which, and what latches.

Nothing leads out of FAULT but clearing it, out of ESTOP but letting go of the device, and into ARMED but arming.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from cascade.contracts import ArmMode


class Trigger(StrEnum):
    """What changes a mode."""

    CONNECTED = "connected"
    ARM = "arm"  # a person made the arm ready
    TARGET = "target"  # a target was accepted
    HOLD = "hold"  # targets ended, or were ended: brake and stand
    DISARM = "disarm"
    FAULT = "fault"
    ESTOP = "estop"
    CLEARED = "cleared"  # a person cleared the last fault
    CLOSED = "closed"


_M, _T = ArmMode, Trigger
_ANY_CONNECTED = (_M.IDLE, _M.ARMED, _M.MOVING, _M.HOLD, _M.FAULT, _M.ESTOP)

TABLE: Mapping[tuple[ArmMode, Trigger], ArmMode] = {
    (_M.DISCONNECTED, _T.CONNECTED): _M.IDLE,
    (_M.DISCONNECTED, _T.FAULT): _M.FAULT,  # it died while connecting
    (_M.IDLE, _T.ARM): _M.ARMED,
    (_M.ARMED, _T.TARGET): _M.MOVING,
    (_M.HOLD, _T.TARGET): _M.MOVING,
    (_M.ARMED, _T.HOLD): _M.HOLD,
    (_M.MOVING, _T.HOLD): _M.HOLD,
    (_M.ARMED, _T.DISARM): _M.IDLE,
    (_M.MOVING, _T.DISARM): _M.IDLE,
    (_M.HOLD, _T.DISARM): _M.IDLE,
    (_M.FAULT, _T.CLEARED): _M.IDLE,
    **{(mode, _T.FAULT): _M.FAULT for mode in (_M.IDLE, _M.ARMED, _M.MOVING, _M.HOLD)},
    **{(mode, _T.ESTOP): _M.ESTOP for mode in (_M.IDLE, _M.ARMED, _M.MOVING, _M.HOLD, _M.FAULT)},
    **{(mode, _T.CLOSED): _M.DISCONNECTED for mode in _ANY_CONNECTED},
}
"""(mode, trigger) -> next mode; a pair that is not here changes nothing."""

READY = frozenset({ArmMode.ARMED, ArmMode.MOVING, ArmMode.HOLD})
"""Modes in which targets are taken."""

LATCHED = frozenset({ArmMode.FAULT, ArmMode.ESTOP})
"""Modes that only a person leaves."""


def after(mode: ArmMode, trigger: Trigger) -> ArmMode:
    """Return the mode that follows, the same one when the table has nothing for the pair."""
    return TABLE.get((mode, trigger), mode)


class Modes:
    """The current mode; every change is logged.

    Args:
        log: called with (monotonic ns, 'transition', code, text).
    """

    def __init__(self, log: Callable[[int, str, str, str], None], mode: ArmMode = ArmMode.DISCONNECTED) -> None:
        self._log = log
        self.mode = mode
        self.since_ns = 0

    def apply(self, trigger: Trigger, code: str, now_ns: int) -> bool:
        """Take a trigger; return whether the mode changed."""
        following = after(self.mode, trigger)
        if following is self.mode:
            return False
        self._log(now_ns, "transition", code, f"{self.mode.value} -> {following.value}")
        self.mode, self.since_ns = following, now_ns
        return True

    @property
    def ready(self) -> bool:
        """Whether targets are taken."""
        return self.mode in READY

    @property
    def latched(self) -> bool:
        """Whether only a person leaves this mode."""
        return self.mode in LATCHED
