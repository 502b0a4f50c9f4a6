"""From readings of a plan to targets for the hand: when to close, where, and how far to go on at the end.

The rules know no task. They were worth 18 of 55 episodes with perfect plans: what matters is when and where the gripper
closes, not a centimetre of hand position. A planned hand begins to look closed while it still descends, and the frames
of a plan usually miss the bottom of the descent; so the gripper closes at the lowest reading around the event, a
little below it, and waits there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLOSED_AT_START = 0.4  # an opening below this in the first frame counts as a closed gripper
MIN_OPEN_FRAMES = 2  # even at the plan's end
DESCENT_NOISE_M = 0.003  # a rise smaller than this does not end a descent
CLOSE_BY_M = 0.025  # neighbours this near to a grasp show the same grasp
OVERSHOOT_BASE_M = 0.03  # the direction of the end is taken over this much way


@dataclass(frozen=True, slots=True, kw_only=True)
class WaypointRules:
    """Numbers of the rules; lengths in metres, times in seconds.

    Attributes:
        close_ratio: the gripper closes when the opening falls below this share of what it was when open.
        reopen_ratio: it opens again when the opening is back to this share of that, having risen by 0.15 at least.
        confirm, confirm_open: frames in a row in which a closing or an opening must show (fewer only at the plan's
            end). An imagined carried object blurs the fingers, and letting go early loses it, so openings need more.
        look_ahead: frames after a close event in which the descent may still go on.
        dig_m: how far below the lowest neighbour the gripper closes.
        carry_share: share of the dig by which the hand stays lower while it carries: what was grasped lower than shown
            sits that much higher in the hand.
        floor_m: height below which no target lies, base frame; None for no floor.
        dwell_s, release_s, final_s: time at the closing, the opening and the last target.
        overshoot_m: how far the last motion is carried on.
        tolerance_m, grasp_tolerance_m: distance at which a target counts as reached.
        speed_m_s: nominal speed, for the times of the targets.
    """

    close_ratio: float = 0.8
    reopen_ratio: float = 0.9
    confirm: int = 2
    confirm_open: int = 3
    look_ahead: int = 3
    dig_m: float = 0.015
    carry_share: float = 1.0
    floor_m: float | None = 0.0
    dwell_s: float = 15 / 80
    release_s: float = 8 / 80
    final_s: float = 0.2
    overshoot_m: float = 0.05
    tolerance_m: float = 0.02
    grasp_tolerance_m: float = 0.01
    speed_m_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waypoints:
    """H targets in order.

    Attributes:
        position_m: (H, 3) in the base frame.
        gripper: (H,) commanded opening, 0 or 1.
        times_s: (H,) nominal arrival, not decreasing.
        hold_s, tolerance_m: (H,) as in an action chunk.
        frame: (H,) int, the plan frame a target comes from.
    """

    position_m: Floats
    gripper: Floats
    times_s: Floats
    hold_s: Floats
    tolerance_m: Floats
    frame: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of targets H."""
        return len(self.position_m)

    def part(self, start: int, stop: int) -> Waypoints:
        """Return targets start..stop with times counted from the first of them."""
        values = {f.name: getattr(self, f.name)[start:stop] for f in fields(self)}
        begun = self.times_s[start - 1] if 0 < start <= len(self) else 0.0
        return Waypoints(**{**values, "times_s": values["times_s"] - begun})


@dataclass(frozen=True, slots=True)
class GripperEvent:
    """A change of the gripper first seen in plan frame `frame`."""

    frame: int
    closes: bool


def gripper_events(opening: Floats, rules: WaypointRules) -> list[GripperEvent]:
    """Find closings and openings in (T,) observed openings, with hysteresis, relative to the level when open."""
    events: list[GripperEvent] = []
    closed = bool(opening[0] < CLOSED_AT_START)
    high = 1.0 if closed else float(opening[0])
    low = float(opening[0])
    for frame in range(1, len(opening)):
        value = float(opening[frame])
        if closed:
            low = min(low, value)
            stays = opening[frame : frame + rules.confirm_open]
            wide = max(low + 0.15, rules.reopen_ratio * high)
            if len(stays) >= MIN_OPEN_FRAMES and bool((stays >= wide).all()):
                closed, high = False, value
                events.append(GripperEvent(frame, False))
        else:
            high = max(high, value)
            if bool((opening[frame : frame + rules.confirm] < rules.close_ratio * high).all()):
                closed, low = True, value
                events.append(GripperEvent(frame, True))
    return events


def lowest_frame(height_m: Floats, event: int, look_ahead: int) -> int:
    """Return the frame where the descent around a close event ends: from one frame before it to where it rises."""
    last = event
    while last + 1 < len(height_m) and last < event + look_ahead:
        if height_m[last + 1] > height_m[last] + DESCENT_NOISE_M:
            break
        last += 1
    first = max(event - 1, 0)
    return first + int(np.argmin(height_m[first : last + 1]))


def plan_waypoints(position_m: Floats, opening: Floats, rules: WaypointRules) -> Waypoints:
    """Turn (T, 3) read positions and (T,) read openings into targets; frame 0 is where the hand is now.

    Args:
        position_m: read end-effector positions in the base frame.
        opening: read (observed, not commanded) gripper openings, 0..1.
        rules: the numbers.
    """
    closing, opening_again = frames_of_change(position_m, opening, rules)
    gripper = 0.0 if opening[0] < CLOSED_AT_START else 1.0
    rows: list[tuple[Floats, float, float, float, int]] = []
    sunk = np.zeros(3)  # how much lower than shown the gripper closed, and so must carry
    for frame in range(1 if 0 not in closing else 0, len(position_m)):
        target = position_m[frame] + sunk
        hold, tolerance = 0.0, rules.tolerance_m
        if frame in closing:
            target = _dug(position_m, frame, rules.dig_m)
            if rules.floor_m is not None:
                target[2] = max(target[2], rules.floor_m)
            sunk = np.array([0.0, 0.0, rules.carry_share * (target[2] - position_m[frame, 2])])
            tolerance = rules.grasp_tolerance_m
            rows.append((target, gripper, 0.0, tolerance, frame))
            gripper, hold = 0.0, rules.dwell_s
        elif frame in opening_again:
            gripper, hold = 1.0, rules.release_s
            sunk = np.zeros(3)
        rows.append((target, gripper, hold, tolerance, frame))
    beyond = _overshoot(position_m, rules.overshoot_m)
    if beyond is not None:
        rows.append((beyond + sunk, gripper, 0.0, rules.tolerance_m, len(position_m) - 1))
    return _assemble(rows, position_m[0], rules)


def frames_of_change(position_m: Floats, opening: Floats, rules: WaypointRules) -> tuple[set[int], set[int]]:
    """Frames at which the gripper is told to close and to open; a release never comes before its grasp."""
    closing: set[int] = set()
    releasing: set[int] = set()
    held_since = -1
    for event in gripper_events(opening, rules):
        if event.closes:
            held_since = max(lowest_frame(position_m[:, 2], event.frame, rules.look_ahead), held_since + 1)
            closing.add(held_since)
        else:
            frame = min(max(event.frame, held_since + 1), len(position_m) - 1)
            if frame > held_since:
                releasing.add(frame)
                held_since = frame
    return {f for f in closing if f < len(position_m)}, releasing


def _dug(position_m: Floats, frame: int, dig_m: float) -> Floats:
    """Where the gripper closes: a little below the lowest neighbour, at the middle of those that are close by.

    The frames around a grasp show the hand at one place, so their mean is surer than any of them.
    """
    near = position_m[max(frame - 1, 0) : frame + 2]
    close_by = np.linalg.norm(near[:, :2] - position_m[frame, :2], axis=1) < CLOSE_BY_M
    target: Floats = np.append(near[close_by, :2].mean(axis=0), near[:, 2].min() - dig_m)
    return target


def _overshoot(position_m: Floats, distance_m: float) -> Floats | None:
    """A point beyond the end, along the last few centimetres of the way; None when the hand hardly moves."""
    away = position_m[-1] - position_m
    far = np.flatnonzero(np.linalg.norm(away, axis=1) >= OVERSHOOT_BASE_M)
    if distance_m <= 0 or not len(far):
        return None
    direction = away[far[-1]]
    beyond: Floats = position_m[-1] + distance_m * direction / np.linalg.norm(direction)
    return beyond


def _assemble(rows: list[tuple[Floats, float, float, float, int]], start_m: Floats, rules: WaypointRules) -> Waypoints:
    position = np.array([row[0] for row in rows], np.float64).reshape(-1, 3)
    if rules.floor_m is not None:
        position[:, 2] = np.maximum(position[:, 2], rules.floor_m)
    hold = np.array([row[2] for row in rows], np.float64)
    if len(hold):
        hold[-1] = max(hold[-1], rules.final_s)
    way = np.linalg.norm(np.diff(np.vstack([start_m[None], position]), axis=0), axis=1)
    return Waypoints(
        position_m=position,
        gripper=np.array([row[1] for row in rows], np.float64),
        times_s=np.cumsum(way / rules.speed_m_s) + np.concatenate([[0.0], np.cumsum(hold)[:-1]]),
        hold_s=hold,
        tolerance_m=np.array([row[3] for row in rows], np.float64),
        frame=np.array([row[4] for row in rows], np.int64),
    )
