"""Numbers that tell why an attempt failed: its path, hand and object beside those of the expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.records import ActionChunk, VideoPlan
from cascade.failures.expert import Need
from cascade.failures.witness import Account, Moment

Floats = NDArray[np.float64]
TOUCHED_SHARE = 0.1  # of the way it has to go: an object moved this far has been touched
TOUCHED_M = 0.01  # and at least this far
TOW_STEPS = 8  # control steps over which object and hand are compared
TOW_M = 0.01  # way of the object in them that counts as moving
SLACK_M = 0.005  # change of its place in the hand that still counts as held
CARRIED_M = 0.015  # height from which on an object is in the air
LOST_M = 0.04  # change of its place in the hand from which on it is lost
SAME_M = 0.01  # two accounts of a path that never differ by more are one
CLOSED = 0.5  # commanded openings below this close


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One plan from the start of an episode, in numbers. Distances in metres.

    Attributes:
        steps: control steps; `cut`: whether the episode ended before the plan did.
        contact_error_m: from the expert's first touch to the nearest point of the path that was read.
        goal_error_m: from where the expert's hand ends to the nearest point of that path after the touch.
        told_contact_error_m, told_goal_error_m: the same of the plan's own readout, None where that was followed.
        hand_contact_error_m: from the expert's first touch to the nearest place the hand was at.
        moved_m: how far the object got from where it stood; `share`: of the way it has to go, 0..1.
        touched: whether that is more than nothing.
        carried: whether the object was in the air with the hand; `lost`: whether it left the closed hand.
        source: where the path that was followed was read, in the extractor's words.
    """

    steps: int
    cut: bool
    contact_error_m: float
    goal_error_m: float
    hand_contact_error_m: float
    moved_m: float
    share: float
    touched: bool
    carried: bool
    lost: bool
    told_contact_error_m: float | None = None
    told_goal_error_m: float | None = None
    source: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, rounded to tenths of a millimetre."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def first_attempt(account: Account, need: Need, *, horizon_hit: bool) -> Attempt | None:
    """Return what the first plan came to, None when it did not move the hand.

    The first only: it begins where the expert begins, later ones in a scene that has been disturbed.
    """
    moments = [moment for moment in account.moments if moment.plan == 0 and not moment.back]
    if not moments or need.which >= len(account.objects_m):
        return None
    chunks = account.chunks.get(0, [])
    hand = np.array([account.start_m, *(moment.hand_m for moment in moments)])
    object_m = np.array([account.objects_m[need.which], *(moment.objects_m[need.which] for moment in moments)])
    read = targets_of(chunks, account.start_m)
    told = told_path(account.plans.get(0), read)
    away = np.linalg.norm(object_m - object_m[0], axis=1)
    travel = need.travel_m
    length = float(np.linalg.norm(travel))
    held = in_tow(hand, object_m)
    carried = held & (object_m[:, 2] - object_m[0, 2] > CARRIED_M)
    return Attempt(
        steps=len(moments),
        cut=horizon_hit and moments[-1] is account.moments[-1],
        contact_error_m=nearest(read, need.contact_m)[0],
        goal_error_m=after(read, need),
        told_contact_error_m=None if told is None else nearest(told, need.contact_m)[0],
        told_goal_error_m=None if told is None else after(told, need),
        hand_contact_error_m=nearest(hand, need.contact_m)[0],
        moved_m=float(away.max()),
        share=float(np.clip((object_m - object_m[0]) @ travel / max(length, 1e-9) ** 2, 0.0, 1.0).max()),
        touched=bool(away.max() > max(TOUCHED_M, TOUCHED_SHARE * length)),
        carried=bool(carried.any()),
        lost=bool(carried.any()) and lost(hand, object_m, moments, int(np.flatnonzero(carried)[0])),
        source=str(chunks[0].provenance.get("readout") or chunks[0].provenance.get("extractor") or "")
        if chunks
        else "",
    )


def targets_of(chunks: Sequence[ActionChunk], start_m: Floats) -> Floats:
    """Return the way through all targets of some chunks as (N, 3) corners, from where the hand was."""
    return np.vstack([start_m[None], *(chunk.values[:, :3] for chunk in chunks if len(chunk))])


def told_path(plan: VideoPlan | None, read_m: Floats) -> Floats | None:
    """Return (T, 3) where a plan's own readout says the hand goes, unless that is what was followed."""
    if plan is None or plan.readout is None:
        return None
    told = np.asarray(plan.readout.position_m, dtype=np.float64)
    return told if max(nearest(read_m, point)[0] for point in told) > SAME_M else None


def nearest(path_m: Floats, point_m: Floats) -> tuple[float, int]:
    """Return how near a way along (N, 3) corners comes to a point, and the corner before that place."""
    if len(path_m) == 1:
        return float(np.linalg.norm(path_m[0] - point_m)), 0
    a, along = path_m[:-1], np.diff(path_m, axis=0)
    square = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip(((point_m - a) * along).sum(axis=1) / square, 0.0, 1.0)
    off = np.linalg.norm(a + share[:, None] * along - point_m, axis=1)
    return float(off.min()), int(off.argmin())


def after(path_m: Floats, need: Need) -> float:
    """Return how near a way comes to where the expert's hand ends, once it has been where the expert touches."""
    return nearest(path_m[nearest(path_m, need.contact_m)[1] :], need.goal_m)[0]


def in_tow(hand_m: Floats, object_m: Floats) -> NDArray[np.bool_]:
    """Return (N,) whether an object has just moved as the hand did."""
    found = np.zeros(len(hand_m), dtype=np.bool_)
    if len(hand_m) <= TOW_STEPS:
        return found
    apart = object_m - hand_m
    slack = np.linalg.norm(apart[TOW_STEPS:] - apart[:-TOW_STEPS], axis=1)
    way = np.linalg.norm(object_m[TOW_STEPS:] - object_m[:-TOW_STEPS], axis=1)
    found[TOW_STEPS:] = (slack < SLACK_M) & (way > TOW_M)
    return found


def lost(hand_m: Floats, object_m: Floats, moments: Sequence[Moment], since: int) -> bool:
    """Whether an object that was carried from row `since` on left the hand while that was told to stay closed."""
    apart = object_m - hand_m
    gone = np.linalg.norm(apart[since:] - apart[since], axis=1) > LOST_M
    if not gone.any():
        return False
    step = since + int(np.flatnonzero(gone)[0]) - 1  # row 0 is before the first control step
    return moments[max(0, step)].opening < CLOSED
