"""What an arm answers: acknowledgements, its log, and how punctual it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class AckKind(StrEnum):
    """What became of a command."""

    ACCEPTED = "accepted"
    CLAMPED = "clamped"  # taken, but changed to keep a limit
    REJECTED = "rejected"  # the motion goes on as before


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CommandAck:
    """Answer to one command.

    Attributes:
        kind: accepted, clamped or rejected.
        code: stable name of the reason, such as 'jump' or 'not_armed'; empty when accepted.
        message: the reason in words.
        target: (7,) as it will be followed, (H, 7) of a schedule; None when rejected.
    """

    kind: AckKind
    code: str = ""
    message: str = ""
    target: NDArray[np.float64] | None = None

    @property
    def taken(self) -> bool:
        """Whether the command takes effect."""
        return self.kind is not AckKind.REJECTED

    def __str__(self) -> str:
        return f"{self.kind.value} ({self.code}: {self.message})" if self.code else self.kind.value


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmEvent:
    """One line of an arm's log.

    Attributes:
        stamp_s: monotonic time [s].
        kind: 'transition', 'fault', 'warning', 'rejected' or 'info'.
        code: stable name.
        message: in words.
    """

    stamp_s: float
    kind: str
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """How late control cycles began, over the last window and since connecting.

    Attributes:
        rate_hz: cycles per second that are kept; scheduling: 'fifo', 'nice', 'plain' or 'lockstep'.
        cycles: since connecting.
        p50_ms, p99_ms, max_ms: of the last window of a second.
        worst_ms: since connecting.
        overruns: cycles since connecting that began more than 20 ms late.
    """

    rate_hz: float
    scheduling: str
    cycles: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    worst_ms: float
    overruns: int
