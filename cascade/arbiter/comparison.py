"""Do two readings of a plan say the same? Contact and path, each against what their spreads allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.arbiter.options import ArbiterConfig
from cascade.arbiter.statements import MOVES_PX, HandSays, ObjectSays, hand_px
from cascade.contracts import Observation, VideoPlan

Floats = NDArray[np.float64]

PUSH_SHARE = 0.5  # a point on a lever goes another way than the hand that pushes it, by up to this share of it
GRASP_SHARE = 0.25  # what is held goes as the hand does; scale and view change a little on the way
NEAR_M, FAR_M = 0.06, 0.20  # a correction counts fully within NEAR_M of the closing, level; beyond FAR_M not at all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """How two readings differ.

    Attributes:
        same_mode: whether both push, or both grasp; None where one does not say.
        contact_m, contact_limit_m: distance of the contacts, and what is allowed.
        path_m, path_limit_m: RMS distance of the ways once the object moves; None where it was not followed.
        shift_m: (3,) level correction of the hand where it closes, zero for a push.
    """

    same_mode: bool | None
    contact_m: float
    contact_limit_m: float
    path_m: float | None
    path_limit_m: float | None
    shift_m: Floats

    @property
    def contact_agrees(self) -> bool:
        """Whether they touch the same thing in the same way."""
        return self.same_mode is not False and self.contact_m <= self.contact_limit_m

    @property
    def path_agrees(self) -> bool:
        """Whether they move it the same way; an object that was not followed contradicts nobody."""
        return self.path_m is None or self.path_limit_m is None or self.path_m <= self.path_limit_m

    @property
    def agrees(self) -> bool:
        """Whether they say the same."""
        return self.contact_agrees and self.path_agrees


def compare(
    hand: HandSays, thing: ObjectSays, plan: VideoPlan, observation: Observation, config: ArbiterConfig
) -> Comparison:
    """Compare what is said of the hand and of the object."""
    path, limit = _paths(hand, thing, plan, observation, config)
    of_hand = hand.std_m**2 + config.plan_std_m**2
    if thing.grasps is False or hand.closes_m is None:
        gap = _gap_m(hand.path_m, thing)
        allowed = config.agree_sigmas * np.sqrt(of_hand + config.contact_std_m**2) + config.reach_m
        same = None if thing.grasps is None else not thing.grasps
        return Comparison(
            same_mode=same,
            contact_m=gap,
            contact_limit_m=float(allowed),
            path_m=path,
            path_limit_m=limit,
            shift_m=np.zeros(3),
        )
    off = (thing.contact_m - hand.closes_m)[:2]
    difference = (of_hand + config.contact_std_m**2) * np.eye(2) + thing.along
    sigmas = float(np.sqrt(off @ np.linalg.solve(difference, off)))
    distance = float(np.linalg.norm(off))
    allowed_m = config.agree_sigmas * (distance / sigmas if sigmas > 0 else float(np.sqrt(of_hand)))
    shift = of_hand * np.linalg.solve(difference, off)  # of two Gaussians, the mean weighted by inverse variance
    return Comparison(
        same_mode=None if thing.grasps is None else True,
        contact_m=distance,
        contact_limit_m=allowed_m,
        path_m=path,
        path_limit_m=limit,
        shift_m=np.append(shift, 0.0),
    )


def corrected(values: Floats, place_m: Floats, shift_m: Floats) -> Floats:
    """Return targets (H, 7), those near a closing of the gripper at (3,) shifted, level, less and less farther off."""
    level = np.linalg.norm(values[:, :2] - place_m[:2], axis=1)
    weight = np.clip((FAR_M - level) / (FAR_M - NEAR_M), 0.0, 1.0)
    moved = values.copy()
    moved[:, :3] += weight[:, None] * shift_m
    return moved


def _gap_m(path_m: Floats, thing: ObjectSays) -> float:
    """Return how near the hand's path comes to the object's points, or to where it is touched."""
    goals = thing.points_m if len(thing.points_m) else thing.contact_m[None]
    start, way = path_m[:-1], np.diff(path_m, axis=0)
    length = np.maximum((way**2).sum(axis=1), 1e-12)
    at = np.clip(((goals[:, None] - start) * way).sum(axis=2) / length, 0.0, 1.0)
    nearest = start + at[..., None] * way
    return float(np.linalg.norm(goals[:, None] - nearest, axis=2).min())


def _paths(
    hand: HandSays, thing: ObjectSays, plan: VideoPlan, observation: Observation, config: ArbiterConfig
) -> tuple[float | None, float | None]:
    """Return the RMS distance of the two ways from where the object begins to move, and what is allowed [m]."""
    shift = thing.shift_px
    if shift is None or not hand.frames or len(hand.path_m) != len(shift):
        return None, None
    seen = hand_px(hand.path_m, plan, observation.image(plan.camera))
    followed = np.isfinite(shift).all(axis=1)
    moving = np.flatnonzero(followed & (np.linalg.norm(np.nan_to_num(shift), axis=1) > MOVES_PX))
    if seen is None or not len(moving):
        return None, None
    first = max(int(moving[0]) - 1, 0)
    chosen = followed & (np.arange(len(shift)) > first)
    of_hand, of_object = seen[chosen] - seen[first], shift[chosen] - np.nan_to_num(shift[first])
    apart = float(np.sqrt(np.mean(((of_hand - of_object) ** 2).sum(axis=1)))) * thing.metres_per_px
    way = float(np.linalg.norm(of_hand, axis=1).max()) * thing.metres_per_px
    spread = np.sqrt(2 * (hand.std_m**2 + config.plan_std_m**2 + min(thing.std_m, 1.0) ** 2))
    share = GRASP_SHARE if thing.grasps else PUSH_SHARE
    return apart, float(config.agree_sigmas * spread + share * way)
