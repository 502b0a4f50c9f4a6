"""Whom to follow: both where they agree, else the one with the better evidence, else the one who can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np

from cascade.arbiter.comparison import Comparison
from cascade.arbiter.statements import HandSays, ObjectSays

CONFIDENT_STD_M = 0.02  # spread at which an answer is half trusted


class Branch(StrEnum):
    """How it was decided."""

    AGREE = "agree"
    DISAGREE = "disagree"
    ONLY = "only one can read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who is followed, and why.

    Attributes:
        branch: agreement, disagreement, or only one answer.
        chosen: 'hand' or 'object'.
        why: in words.
        shift_m: level correction where the hand's gripper closes, or None.
        trust: factor on the confidence of the chosen; `sure`: share of its doubt that the other one takes away.
        facts: numbers behind it, JSON values.
    """

    branch: Branch
    chosen: Literal["hand", "object"]
    why: str
    shift_m: tuple[float, float, float] | None = None
    trust: float = 1.0
    sure: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """As JSON values, for the record."""
        moved = {} if self.shift_m is None else {"shift_mm": [round(1000 * v, 1) for v in self.shift_m[:2]]}
        return {"branch": self.branch.value, "chosen": self.chosen, "why": self.why, **moved, **self.facts}


def decide(hand: HandSays, thing: ObjectSays, found: Comparison) -> Decision:
    """Return whom to follow when both have answered."""
    facts = _facts(hand, thing, found)
    by_hand, by_object = trusted(hand.std_m), trusted(thing.std_m)
    shift = _correction(hand, thing, found)
    if found.agrees:
        moved = "" if shift is None else f"; grasp moved {1000 * float(np.hypot(*shift[:2])):.0f} mm onto the object"
        why = f"contacts {_mm(found.contact_m)} mm apart, allowed {_mm(found.contact_limit_m)}{moved}"
        return Decision(branch=Branch.AGREE, chosen="hand", why=why, shift_m=shift, sure=by_object, facts=facts)
    how = _difference(found)
    hand_first = hand.std_m <= thing.std_m
    better, worse = ("hand", "object") if hand_first else ("object", "hand")
    stds = (hand.std_m, thing.std_m) if hand_first else (thing.std_m, hand.std_m)
    mine, other = (by_hand, by_object) if hand_first else (by_object, by_hand)
    why = f"{how}; the {better} is read to {_mm(stds[0])} mm, the {worse} to {_mm(stds[1])} mm"
    return Decision(
        branch=Branch.DISAGREE,
        chosen="hand" if hand_first else "object",
        why=why,
        shift_m=shift if hand_first else None,
        trust=mine / (mine + other),
        facts=facts,
    )


def only(chosen: Literal["hand", "object"], problem: str) -> Decision:
    """Return the decision for the only answer, the other one having failed with `problem`."""
    other = "object" if chosen == "hand" else "hand"
    return Decision(branch=Branch.ONLY, chosen=chosen, why=f"the {other} could not be read: {problem}")


def trusted(std_m: float) -> float:
    """Return 0..1 for a spread, a half at 2 cm."""
    return float(1 / (1 + (std_m / CONFIDENT_STD_M) ** 2))


def _correction(hand: HandSays, thing: ObjectSays, found: Comparison) -> tuple[float, float, float] | None:
    """The contact is measured in the scene and the path in the plan: one may be right where the other is not."""
    if not found.contact_agrees or hand.closes is None or not thing.grasps:
        return None
    x, y, z = (float(v) for v in found.shift_m)
    return x, y, z


def _difference(found: Comparison) -> str:
    if found.same_mode is False:
        return f"the object is grasped and the hand does not close, {_mm(found.contact_m)} mm from it at the nearest"
    if not found.contact_agrees:
        return f"contacts {_mm(found.contact_m)} mm apart, allowed {_mm(found.contact_limit_m)}"
    return f"ways {_mm(found.path_m or 0.0)} mm apart, allowed {_mm(found.path_limit_m or 0.0)}"


def _facts(hand: HandSays, thing: ObjectSays, found: Comparison) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "contact_mm": _mm(found.contact_m),
        "contact_limit_mm": _mm(found.contact_limit_m),
        "hand_std_mm": _mm(hand.std_m),
        "object_std_mm": _mm(thing.std_m),
    }
    if found.path_m is not None and found.path_limit_m is not None:
        facts |= {"path_mm": _mm(found.path_m), "path_limit_mm": _mm(found.path_limit_m)}
    if thing.alive is not None:
        facts["alive"] = round(thing.alive, 2)
    return facts


def _mm(value_m: float) -> float | None:
    return round(1000 * value_m, 1) if np.isfinite(value_m) else None
