"""Everything that can be known about a plan before the arm moves, as named numbers: what `p_exec` and the gate rest on.

Only what a rig without depth or object masks has is required; cues that need more are left out where it is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.records import Limits
from cascade.goal import GoalModel, path_points
from cascade.metrics.arrays import Bools, Floats, Frames
from cascade.metrics.hand_flow import View, hand_agreement
from cascade.metrics.image_motion import forward_flow, moves, track
from cascade.metrics.paths import MIN_PATH_M, extent, path_length
from cascade.metrics.physical import BACKGROUND_POINTS, camera_stillness, object_untouched, track_survival
from cascade.metrics.result import Result

if TYPE_CHECKING:
    from cascade.value.model import ValueModel

DEFINITION = 2  # counted up when a cue changes its meaning: numbers of another one are not to be mixed with these

REACH_SHARE = 0.12  # of the image's width: how near the hand must be to change what the object looks like
LEAST_SPREAD_M = 0.03  # what tasks forgive: a goal that is known better does not make the check stricter
TAIL = 4  # last frames of a plan; one that stops early stands still there

REQUIRED = (
    "agreement",
    "hand_jump_m",
    "hand_spread_m",
    "camera_px",
    "change_jump",
    "tail_motion",
    "outside_m",
    "survival",
)
GOAL = ("goal_end", "goal_path")
VALUE = ("value_end",)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """A plan as read, in arrays; what cues are computed from.

    Attributes:
        frames: (T, H, W, 3) uint8.
        seen: (H, W, 3) the camera's image now, as the plan sees it.
        view: where the plan looks from.
        start_m: (3,) measured hand; `start_opening`: measured opening.
        hand_m: (T, 3) hand in every frame by the extractor; `opening`, `spread_m`: (T,).
        limits: of the arm, or None.
        mask: (H, W) the object in frame 0, or None.
        instruction: what was asked for.
    """

    frames: Frames
    seen: Frames
    view: View
    start_m: Floats
    hand_m: Floats
    opening: Floats
    spread_m: Floats
    instruction: str
    limits: Limits | None = None
    mask: Bools | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cues:
    """Cues of one plan.

    Attributes:
        moves: whether enough happens for the rest to mean anything.
        values: name -> number; what could not be computed is missing.
        missing: name -> why.
    """

    moves: bool
    values: Mapping[str, float]
    missing: Mapping[str, str]


def cues_of(
    reading: Reading,
    goals: GoalModel | None = None,
    value: ValueModel | None = None,
    *,
    flow: NDArray[np.float32] | None = None,
) -> Cues:
    """Return the cues of a plan.

    agreement: A, distance of both readings over the path's length.
    hand_jump_m: the hand's longest step over the median of its steps that move.
    hand_spread_m: mean standard deviation the extractor gives its own reading.
    camera_px: displacement of the background.
    change_jump: greatest change between two frames over the median one.
    tail_motion: share of the path in the last quarter of the frames; 0 when the plan has stopped.
    outside_m: farthest that the hand is imagined outside the workspace.
    goal_end, goal_path: distance to where the hand should end, and pass, over the error to expect of that [1].
    permanence: least share of the object that is still to be seen before the hand gets to it.
    survival: share of the background's tracks that live.
    value_end: share of the task that is done in the last frame, by a network that learnt demonstrations [0..1].
    """
    frames = reading.frames
    missing: dict[str, str] = {}
    if not moves(frames) or extent(reading.hand_m) < MIN_PATH_M:
        return Cues(moves=False, values={}, missing={})
    found: dict[str, float] = {}
    flow = forward_flow(frames) if flow is None else flow
    result = hand_agreement(reading.hand_m, flow, reading.view, reading.start_m)
    if result.position is None:
        return Cues(moves=False, values={}, missing={})
    found["agreement"] = result.position
    steps = np.linalg.norm(np.diff(reading.hand_m, axis=0), axis=1)
    found["hand_jump_m"] = float(steps.max())
    found["hand_spread_m"] = float(reading.spread_m.mean())
    found["path_m"] = path_length(reading.hand_m)
    changes = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    found["change_jump"] = float(changes.max() / max(float(np.median(changes)), 0.1))
    tail = max(2, len(frames) // TAIL)
    found["tail_motion"] = float(changes[-tail:].mean() / max(float(changes.mean()), 1e-6))
    found["outside_m"] = _outside(reading.hand_m, reading.limits)
    tracks = track(frames, max_points=BACKGROUND_POINTS)
    _note("camera_px", camera_stillness(frames, tracks=tracks), found, missing)
    _note("survival", track_survival(frames, tracks=tracks), found, missing)
    if reading.mask is None:
        missing["permanence"] = "the rig does not tell the object's pixels"
    else:
        hand_px = reading.view.pixels(reading.hand_m)
        reach = REACH_SHARE * frames.shape[2]
        _note("permanence", object_untouched(frames, reading.mask, hand_px, reach_px=reach), found, missing)
    _goal(reading, goals, found, missing)
    _value(reading, value, found, missing)
    return Cues(moves=True, values=found, missing=missing)


def _note(name: str, result: Result, found: dict[str, float], missing: dict[str, str]) -> None:
    if result.value is None:
        missing[name] = result.why
    else:
        found[name] = result.value


def _outside(hand_m: Floats, limits: Limits | None) -> float:
    if limits is None:
        return 0.0
    inside = np.clip(hand_m, limits.workspace_m[0], limits.workspace_m[1])
    return float(np.linalg.norm(hand_m - inside, axis=1).max())


def _goal(reading: Reading, goals: GoalModel | None, found: dict[str, float], missing: dict[str, str]) -> None:
    expected = None if goals is None else goals.expect(reading.instruction, reading.seen)
    if expected is None:
        why = "no goal model" if goals is None else "the sentence is not known to the goal model"
        missing |= dict.fromkeys(GOAL, why)
        return
    apart = np.linalg.norm(path_points(reading.hand_m, reading.opening) - expected.points_m, axis=1)
    ratio = apart / np.maximum(expected.spread_m, LEAST_SPREAD_M)
    found["goal_end"], found["goal_path"] = float(ratio[-1]), float(ratio.mean())
    found["goal_end_m"], found["goal_path_m"] = float(apart[-1]), float(apart.mean())


def _value(reading: Reading, value: ValueModel | None, found: dict[str, float], missing: dict[str, str]) -> None:
    """The last frame alone: a plan may take any way to its end."""
    if value is None:
        missing |= dict.fromkeys(VALUE, "no learned value for this camera")
        return
    done = value.progress(reading.instruction, reading.frames[[0, -1]])
    if done is None:
        missing |= dict.fromkeys(VALUE, "the sentence is not known to the learned value")
    else:
        found["value_end"] = float(done[-1])
