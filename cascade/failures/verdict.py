"""From the numbers of an attempt to the class of its failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cascade.failures.evidence import Attempt

NEAR_M = 0.03  # a path that comes this near to the expert's place leads there


class Failure(StrEnum):
    """Why an episode failed."""

    PLAN = "plan wrong"
    FLOW = "flow lost"
    FIT = "fit wrong"
    CONTACT = "contact missed"
    SLIPPED = "slipped"
    TIMEOUT = "timeout"
    GATE = "gate refused"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an episode ended, as its row says.

    Attributes:
        outcome, failure_stage, verdict: of the result.
        planner: its name; with the expert's own plan what was read wrong is not the plan's fault.
        lifts: whether the expert carries the object; None when nothing is known of an expert.
        perfect_plan: whether the same recipe solves the layout with the expert's own video, None when not tried.
    """

    outcome: str
    failure_stage: str
    verdict: str
    planner: str
    lifts: bool | None = None
    perfect_plan: bool | None = None


def decide(ended: Ended, attempt: Attempt | None) -> tuple[Failure, str]:
    """Return the class of a failed episode and the reason in words.

    What comes first explains what comes after: a refusal, lost flow, a path that leads elsewhere, a hand that does not
    take hold, an object that does not stay.
    """
    if ended.outcome == "rejected":
        return Failure.GATE, ended.verdict
    if "flow lost" in ended.verdict:
        return Failure.FLOW, ended.verdict
    if ended.outcome == "error":
        return Failure.OTHER, ended.verdict
    if attempt is None or ended.lifts is None:
        return Failure.OTHER, "There is no expert to compare it with, or nothing moved."
    if not attempt.touched:
        return _untouched(ended, attempt)
    if ended.lifts:
        return _unlifted(ended, attempt) if not attempt.carried else _carried(ended, attempt)
    return _pushed(ended, attempt)


def _untouched(ended: Ended, attempt: Attempt) -> tuple[Failure, str]:
    if attempt.contact_error_m > NEAR_M:
        return _astray(ended, attempt, "reaches the object", attempt.contact_error_m, attempt.told_contact_error_m)
    if attempt.cut:
        return Failure.TIMEOUT, "The episode ended before the hand had touched the object."
    return Failure.CONTACT, (
        f"The path leads within {_mm(attempt.contact_error_m)} of where the expert touches the object, "
        f"the hand came within {_mm(attempt.hand_contact_error_m)}, and the object did not move."
    )


def _unlifted(ended: Ended, attempt: Attempt) -> tuple[Failure, str]:
    if attempt.contact_error_m > NEAR_M:
        return _astray(ended, attempt, "takes hold", attempt.contact_error_m, attempt.told_contact_error_m)
    if attempt.cut:
        return Failure.TIMEOUT, "The episode ended before the object was lifted."
    return Failure.CONTACT, (
        f"The hand came within {_mm(attempt.hand_contact_error_m)} of where the expert takes hold and moved the object "
        f"{_mm(attempt.moved_m)}, but never carried it."
    )


def _carried(ended: Ended, attempt: Attempt) -> tuple[Failure, str]:
    if attempt.lost:
        return Failure.SLIPPED, (
            f"The object was carried, {attempt.share:.0%} of its way, and then left the closed hand."
        )
    if attempt.goal_error_m > NEAR_M:
        return _astray(ended, attempt, "ends", attempt.goal_error_m, attempt.told_goal_error_m)
    if attempt.contact_error_m > NEAR_M:  # held elsewhere, a tool is elsewhere when the hand is where it should be
        return _astray(ended, attempt, "takes hold", attempt.contact_error_m, attempt.told_contact_error_m)
    if attempt.cut:
        return Failure.TIMEOUT, f"The object was on {attempt.share:.0%} of its way when the episode ended."
    return Failure.OTHER, "The object was carried to where the expert carries it, which was not enough."


def _pushed(ended: Ended, attempt: Attempt) -> tuple[Failure, str]:
    if attempt.goal_error_m > NEAR_M:
        return _astray(ended, attempt, "ends", attempt.goal_error_m, attempt.told_goal_error_m)
    if attempt.cut:
        return Failure.TIMEOUT, f"The object was on {attempt.share:.0%} of its way when the episode ended."
    return Failure.SLIPPED, (
        f"The hand went where the expert goes, but the object stayed behind on {attempt.share:.0%} of its way."
    )


def _astray(ended: Ended, attempt: Attempt, what: str, off_m: float, told_m: float | None) -> tuple[Failure, str]:
    """Whose fault a path is that leads elsewhere: of the plan, or of what was read in it."""
    said = f"The path passes {_mm(off_m)} from where the expert {what}"
    if ended.planner == "oracle":
        return Failure.FIT, f"{said}, and the plan is the expert's own."
    if told_m is not None and told_m <= NEAR_M:
        return Failure.FIT, f"{said}, and the plan's own readout only {_mm(told_m)}."
    if told_m is not None:
        return Failure.PLAN, f"{said}, and by the plan's own readout {_mm(told_m)} too."
    if ended.perfect_plan is False:
        return Failure.FIT, f"{said}, and with the expert's own video as the plan the episode fails too."
    if ended.perfect_plan:
        return Failure.PLAN, f"{said}; with the expert's own video as the plan the same recipe succeeds."
    return Failure.PLAN, f"{said}, and it was followed as it was read."


def _mm(value_m: float) -> str:
    return f"{value_m * 1000:.0f} mm"
