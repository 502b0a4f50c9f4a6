"""Diagnosing one failed episode, right after it, on the rig it ran on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.contracts.errors import CascadeError
from cascade.contracts.interfaces import Rig
from cascade.failures.evidence import Attempt, first_attempt
from cascade.failures.expert import Need, need_of
from cascade.failures.verdict import Ended, Failure, decide
from cascade.failures.witness import Account


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Diagnosis:
    """Why an episode failed.

    Attributes:
        failure: its class; `reason`: in words.
        attempt: numbers of the first plan, None when it did not move the hand.
        need: how the expert solves the layout, None when it does not, or nothing is known of it.
        perfect_plan: whether the recipe solves the layout with the expert's own video, None when not tried.
    """

    failure: Failure
    reason: str
    attempt: Attempt | None
    need: Need | None
    perfect_plan: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what a row keeps of it."""
        return {
            "class": self.failure.value,
            "reason": self.reason,
            "attempt": None if self.attempt is None else self.attempt.as_json(),
            "lifts": None if self.need is None else self.need.lifts,
            "expert_succeeds": None if self.need is None else self.need.succeeded,
            "perfect_plan": self.perfect_plan,
        }


def diagnose(
    rig: Rig, account: Account, row: Mapping[str, Any], planner: str, *, perfect_plan: bool | None = None
) -> Diagnosis:
    """Say why an episode failed; the rig is reset for the expert.

    Args:
        rig: simulated, the one of the episode.
        account: of its witness.
        row: of the episode.
        planner: name of the planner.
        perfect_plan: what came of the same recipe with the expert's own video, None when not tried.
    """
    try:
        need = need_of(rig, row["task"], row["seed"])
    except CascadeError:
        need = None
    cut = row["failure_stage"] == "timeout"
    attempt = None if need is None else first_attempt(account, need, horizon_hit=cut)
    ended = Ended(
        outcome=row["outcome"],
        failure_stage=row["failure_stage"],
        verdict=row["verdict"],
        planner=planner,
        lifts=None if need is None else need.lifts,
        perfect_plan=perfect_plan,
    )
    failure, reason = decide(ended, attempt)
    return Diagnosis(failure=failure, reason=reason, attempt=attempt, need=need, perfect_plan=perfect_plan)
