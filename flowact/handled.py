"""Push or grasp? From the gripper's opening in a plan, or from how the object moves with the hand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cascade.contracts import EeReadout
from flowact.rigid import Floats

CLOSED_BY = 0.15  # the opening falls by this much when the gripper closes on something
OPENED_BY = 0.25  # ... and rises by this much when it lets go
NEAR_M = 0.10  # a hand this near the object can close on it
RISE_M = 0.03  # a hand that rises by this much after closing lifts
LIFTED_M = 0.075  # an object that rises by this much is lifted: more than tracks err
TOGETHER_PX = 12.0  # what is held keeps its place beside the hand within this


class Mode(StrEnum):
    """How the object is moved."""

    PUSH = "push"
    GRASP = "grasp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """How a plan handles its object.

    Attributes:
        mode: push or grasp; `why` says by which evidence.
        closes_at: frame in which the gripper closes on the object, or None when that is not known.
        releases: whether the plan ends with the gripper opening.
    """

    mode: Mode
    why: str
    closes_at: int | None = None
    releases: bool = False


def handled_by_gripper(readout: EeReadout, object_m: Floats) -> Handled:
    """Return how the object resting at (3,) is handled, from the opening of the gripper."""
    closes_at = closing_frame(readout, object_m)
    if closes_at is None:
        return Handled(mode=Mode.PUSH, why="the plan's gripper closes on nothing that it lifts")
    opens = float(readout.opening[-1]) - float(readout.opening[closes_at:].min()) > OPENED_BY
    return Handled(mode=Mode.GRASP, why="the plan's gripper closes and rises", closes_at=closes_at, releases=opens)


def handled_by_motion(shift_m: Floats, object_px: Floats, hand_px: Floats | None) -> Handled:
    """Return how an object is handled from its own motion: what is lifted rises and stays beside the hand.

    Args:
        shift_m: (T, 3) of the object.
        object_px: (T, 2) where it is seen.
        hand_px: (T, 2) where the hand is seen, if known.
    """
    rises = float(shift_m[:, 2].max()) > LIFTED_M
    together = True
    if hand_px is not None:
        away = np.linalg.norm(object_px - object_px[0], axis=1) > 4.0
        beside = (hand_px - object_px)[int(np.argmax(away)) :] if away.any() else np.zeros((1, 2))
        together = float(np.linalg.norm(beside - beside[0], axis=1).max()) < TOGETHER_PX
    if rises and together:
        return Handled(mode=Mode.GRASP, why="the object rises beside the hand")
    return Handled(mode=Mode.PUSH, why="the object is not lifted by the hand")


def closing_frame(readout: EeReadout, object_m: Floats) -> int | None:
    """Return the frame in which the gripper closes on the object and from which the hand rises, else None.

    A fist made on the way to a push is made elsewhere, where the hand has not come down, or it does not rise then.

    Args:
        readout: what was read in the plan.
        object_m: (3,) where the object rests.
    """
    opening, z = readout.opening, readout.position_m[:, 2]
    for t in range(1, len(opening)):
        if float(opening[: t + 1].max()) - opening[t] < CLOSED_BY:
            continue
        low = t + int(z[t : t + 4].argmin())  # fingers begin to close while the hand still comes down
        came_down = float(z[: t + 1].max()) - z[low] > RISE_M
        lowest_yet = z[low] <= float(z[: low + 1].min()) + 0.01
        near = float(np.linalg.norm(readout.position_m[low, :2] - object_m[:2])) < NEAR_M
        rises = float(z[low:].max()) - z[low] > RISE_M
        return low if near and came_down and lowest_yet and rises else None
    return None
