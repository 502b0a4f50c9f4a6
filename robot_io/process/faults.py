"""What has latched, each cause once, each with the token that clears it."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from cascade.contracts import DeviceError, Fault
from robot_io.process.channel import MOST_FAULTS
from robot_io.process.watches import Finding


class Faults:
    """Latched faults, oldest first.

    Args:
        log: called with (monotonic ns, 'fault', code, text), once per fault.
    """

    def __init__(self, log: Callable[[int, str, str, str], None]) -> None:
        self._log = log
        self.latched: tuple[Fault, ...] = ()
        self._seen_to: frozenset[str] = frozenset()  # cleared while others are left: causes end with the recovery

    def add(self, finding: Finding, now_ns: int) -> bool:
        """Latch a finding; return False when its code is latched or was cleared just now, or no room is left.

        The device recovers with the last token. Until then a cause that lasts is found in every cycle: were it latched
        anew, two that last could never be cleared.
        """
        known = {fault.code for fault in self.latched} | self._seen_to
        if finding.code in known or len(self.latched) >= MOST_FAULTS:
            return False
        token = secrets.token_hex(3)
        fault = Fault(code=finding.code, message=finding.message, token=token, stamp_s=now_ns * 1e-9)
        self.latched = (*self.latched, fault)
        self._log(now_ns, "fault", finding.code, finding.message)
        return True

    def without(self, token: str) -> tuple[Fault, ...]:
        """Return what would be left after clearing a token; raises DeviceError when no fault carries it."""
        left = tuple(fault for fault in self.latched if fault.token != token)
        if len(left) == len(self.latched):
            known = "; ".join(f"{fault.code} ({fault.token})" for fault in self.latched) or "none"
            raise DeviceError(
                f"arm: expected the token of a latched fault, found {token!r}.",
                f"Read the fault first. Latched: {known}.",
            )
        return left

    def clear(self, token: str, now_ns: int) -> None:
        """Clear the fault that carries a token."""
        left = self.without(token)
        cleared = next(fault for fault in self.latched if fault.token == token)
        self.latched = left
        self._seen_to = self._seen_to | {cleared.code} if left else frozenset()
        self._log(now_ns, "info", "cleared", cleared.code)
