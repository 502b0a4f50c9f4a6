"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Outcome of one check."""

    OK = "ok"
    WARN = "warn"  # something works less well
    FAIL = "fail"  # runs will not work


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report.

    Attributes:
        name: what was looked at.
        status: the outcome.
        found: what was found, in words.
        fix: what to do about it, empty when all is well.
    """

    name: str
    status: Status
    found: str
    fix: str = ""
