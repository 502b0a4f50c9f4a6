"""Outcomes of gates: a refusal is a value, not an exception."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cascade.contracts.action import ActionChunk

P_EXEC = "p_exec"  # name of the check of a calibrated gate, see `GateReport.measured`


class Verdict(StrEnum):
    """Outcome of a gate."""

    PASS = "pass"  # noqa: S105
    CLIP = "clip"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One check that did not hold (or, in a gate's `measured` list, what it measured)."""

    check: str
    value: float
    limit: float
    unit: str
    step: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GateReport:
    """Outcome of a gate: a rejection is a value, not an exception.

    Attributes:
        chunk: what may run (possibly clipped), None on REJECT or when the gate looked at a plan.
        violations: checks that failed; `measured`: every check with its value and limit, for the report.
    """

    verdict: Verdict
    chunk: ActionChunk | None = None
    violations: tuple[Violation, ...] = ()
    measured: tuple[Violation, ...] = ()
