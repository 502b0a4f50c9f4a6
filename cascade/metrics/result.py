"""What a metric answers: a number, a refusal because nothing moves, or what it would need. Never an exception."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cascade.metrics.evidence import Evidence


class Status(StrEnum):
    """How a metric answered."""

    MEASURED = "measured"
    NO_MOTION = "no_motion"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Answer of one metric.

    Attributes:
        status: whether there is a number.
        value: the number, finite; None unless measured.
        why: what is in the way, empty when measured.
        detail: curves, counts and parts behind the number; JSON values.
    """

    status: Status
    value: float | None = None
    why: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether there is a number."""
        return self.status is Status.MEASURED

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"status": self.status.value, "value": self.value, "why": self.why, "detail": dict(self.detail)}


def measured(value: float, **detail: Any) -> Result:
    """Return a number; one that is not finite becomes 'unavailable', so that no NaN is ever ranked."""
    number = float(value)
    if not np.isfinite(number):
        return unavailable("the numbers it rests on are not finite")
    return Result(status=Status.MEASURED, value=number, detail=detail)


def no_motion(why: str) -> Result:
    """Return the refusal to score something that hardly moves."""
    return Result(status=Status.NO_MOTION, why=why)


def unavailable(why: str) -> Result:
    """Return what is missing."""
    return Result(status=Status.UNAVAILABLE, why=why)


class Axis(StrEnum):
    """The three axes on which imagined videos are judged."""

    VISUAL = "visual fidelity"
    PHYSICAL = "physical commonsense"
    ACTION = "action plausibility"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric as the registry knows it.

    Attributes:
        number: its number in the documentation.
        name: key in documents.
        axis: what it judges.
        unit: of its value, '1' for plain numbers.
        range: least and greatest possible value.
        higher_is_better: None where neither end is better.
        caveat: what it does not see.
        needs: fields of `Evidence` without which it is unavailable.
        compute: evidence -> result.
    """

    number: int
    name: str
    axis: Axis
    unit: str
    range: tuple[float, float]
    higher_is_better: bool | None
    caveat: str
    needs: tuple[str, ...]
    compute: Callable[[Evidence], Result]

    def measure(self, evidence: Evidence) -> Result:
        """Return the result, 'needs ...' when the evidence lacks something."""
        lacking = [name for name in self.needs if getattr(evidence, name) is None]
        if lacking:
            return unavailable(evidence.reason(lacking))
        return self.compute(evidence)
