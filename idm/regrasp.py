"""Whether the fingers have taken the thing, and how to try again.

Two witnesses, neither of whom knows the task. The fingers: a plan shows how wide they stay around the thing, and a fist
is narrower. How wide a fist reads differs between grippers, so it is compared with the plan and not with a number. The
depth camera: once the hand is up, the thing must not stand where it stood, nor beside it. What stood there before the
closing is known from the image by which the closing was placed, so nothing else on the table is taken for the thing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmState, CameraImage, Observation
from cascade.contracts.watching import Watched
from idm.anchoring import (
    FEW,
    STANDS_OUT_M,
    TALL_M,
    Anchor,
    Source,
    grasp_spans,
    nearness,
    shift_onto,
    shifted,
    standing_out,
    table_m,
)
from idm.waypoints import Floats, WaypointRules, Waypoints, plan_waypoints

Bools = NDArray[np.bool_]

NARROWER = 0.12  # of the opening, than the plan shows them around the thing: the fingers hold nothing
CLOSING = 0.9  # of the opening when open: below it the fingers have begun to close
AT_PLACE_M = 0.06  # as near as this to where they are to close
LIFTED_M = 0.03  # the fingers are judged from here on
HIGH_M = 0.05  # and the table from here on
BELOW_HAND_M = 0.02  # what is this far below the hand at most may hang in it
ASIDE_M = 0.12  # a thing that was missed may have been pushed this far
STAYED = 0.5  # share of the pixels seen before that show it to stand there still
OVER_M = 0.15  # height above the place at which is looked again
PIECE_M = 0.05  # between targets on the way there
TRIES_APART_S = 0.2  # for the fingers to open
ROLLS_M_S, FASTEST_M_S = 0.04, 0.3  # a thing this fast between two looks rolls, and is met where it will be; faster: no
FINGERS_S = 0.1  # from the command to close until the fingers touch


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What stood at a place before the fingers closed there.

    Attributes:
        mask: (H, W) pixels of the thing, perhaps none.
        above_m: (H, W) height of every pixel above what the thing stands on.
        T_base_cam: (4, 4) pose of the camera.
    """

    mask: Bools
    above_m: Floats
    T_base_cam: Floats


def standing_at(image: CameraImage, place_m: Floats) -> Standing | None:
    """Return what stands at a place; None without depth or a pose of the camera."""
    if image.depth_m is None or image.T_base_cam is None:
        return None
    points = image.points_m()
    return Standing(standing_out(points, place_m), points[..., 2] - table_m(points, place_m), image.T_base_cam)


@dataclass(slots=True, eq=False)
class GraspCheck:
    """One closing of the gripper that is looked after until it opens again.

    Attributes:
        frame: plan frame of the closing.
        place_m: (3,) where the fingers close.
        width: opening that the plan shows while the thing is carried, or None when it shows too little of that.
        release_m: (3,) where they open again or the plan ends.
        standing: what stood there before, or None where nothing could be seen.
        closed, over: whether the fingers have begun to close there; whether the thing has arrived.
    """

    frame: int
    place_m: Floats
    width: float | None
    release_m: Floats
    standing: Standing | None
    closed: bool = False
    over: bool = False

    def missed(self, arm: ArmState, image: CameraImage | None) -> str:
        """Return why nothing is held, in words, or '' where something is, or that cannot be told yet."""
        hand = arm.position_m
        if not self.closed:
            self.closed = arm.gripper_opening < CLOSING and bool(np.linalg.norm(hand - self.place_m) < AT_PLACE_M)
            return ""
        if self.over or hand[2] < self.place_m[2] + LIFTED_M:
            return ""
        if np.linalg.norm(hand - self.release_m) < AT_PLACE_M:
            self.over = True
            return ""
        if self.width is not None and arm.gripper_opening < self.width - NARROWER:
            return f"the fingers are {arm.gripper_opening:.2f} open, {self.width:.2f} were expected around the thing"
        share = self._still_there(float(hand[2] - self.place_m[2]), image)
        return f"{share:.0%} of the thing stands there still" if share >= STAYED else ""

    def _still_there(self, lifted_m: float, image: CameraImage | None) -> float:
        """Return how much of what stood there stands there or beside it now, 0 where that cannot be seen."""
        before = self.standing
        if before is None or image is None or image.depth_m is None or image.T_base_cam is None or lifted_m < HIGH_M:
            return 0.0
        if image.depth_m.shape != before.mask.shape or not np.allclose(image.T_base_cam, before.T_base_cam):
            return 0.0
        points = image.points_m()
        above = points[..., 2] - table_m(points, self.place_m)
        low, high = STANDS_OUT_M, min(TALL_M, lifted_m - BELOW_HAND_M)
        was = before.mask & (before.above_m > low) & (before.above_m < high)
        if was.sum() < FEW:
            return 0.0
        aside = np.linalg.norm(points[..., :2] - self.place_m[:2], axis=-1) < ASIDE_M
        vacant = before.mask | (before.above_m < low)  # where something else stood, something else stands
        now = vacant & aside & (above > low) & (above < high)
        return float(now.sum() / was.sum())


def check_of(
    waypoints: Waypoints, opening: Floats, frame: int, until: int, standing: Standing | None
) -> GraspCheck | None:
    """Return the check of a closing, or None where the targets have no such closing.

    Args:
        waypoints: targets as they will be followed.
        opening: (T,) read gripper openings.
        frame: plan frame of the closing.
        until: plan frame where the thing is let go.
        standing: see `GraspCheck`.
    """
    at = closing_row(waypoints, frame)
    if at is None:
        return None
    carried = opening[frame + 2 : until]  # the fingers are still on their way in the frame after the closing
    width = float(np.median(carried)) if len(carried) >= 2 else None
    last = int(np.flatnonzero(waypoints.frame <= until)[-1])
    return GraspCheck(frame, waypoints.position_m[at], width, waypoints.position_m[last], standing)


def closing_row(waypoints: Waypoints, frame: int) -> int | None:
    """Return the row of the target at which the gripper closes in plan frame `frame`, or None."""
    rows = np.flatnonzero((waypoints.frame == frame) & (waypoints.gripper < 0.5) & (waypoints.hold_s > 0))
    return int(rows[0]) if len(rows) else None


def clearing(hand_m: Floats, place_m: Floats, frame: int, rules: WaypointRules) -> Waypoints:
    """Return the way from a fist to above the place, fingers open, from where the place can be looked at again."""
    high = max(float(hand_m[2]), float(place_m[2]) + OVER_M)
    corners = [hand_m, np.append(hand_m[:2], high), np.append(place_m[:2], high)]
    points = [hand_m]
    for a, b in pairwise(corners):
        pieces = int(np.ceil(np.linalg.norm(b - a) / PIECE_M))
        points += [a + (b - a) * k / pieces for k in range(1, pieces + 1)]
    way = np.array(points)
    hold = np.zeros(len(way))
    hold[0] = TRIES_APART_S
    steps = np.concatenate([[0.0], np.linalg.norm(np.diff(way, axis=0), axis=1)])
    return Waypoints(
        position_m=way,
        gripper=np.ones(len(way)),
        times_s=np.cumsum(steps / rules.speed_m_s) + TRIES_APART_S * (np.arange(len(way)) > 0),
        hold_s=hold,
        tolerance_m=np.full(len(way), rules.tolerance_m),
        frame=np.full(len(way), frame, np.int64),
    )


def once_more(waypoints: Waypoints, frame: int, hand_m: Floats, rules: WaypointRules) -> Waypoints:
    """Return the way from above the place down to a closing, and on as planned from there.

    Args:
        waypoints: the whole plan's, the closing where the thing is now.
        frame: plan frame of the closing.
        hand_m: (3,) where the hand is, above the place.
        rules: speed and tolerance.
    """
    at = closing_row(waypoints, frame)
    if at is None:
        raise ValueError(f"no closing in plan frame {frame}")
    rest = waypoints.part(at, len(waypoints))
    place = rest.position_m[0]
    over = np.append(place[:2], max(float(hand_m[2]), float(place[2]) + PIECE_M))
    pieces = max(1, int(np.ceil((over[2] - place[2]) / PIECE_M)))
    down = over + (place - over) * (np.arange(pieces + 1) / pieces)[:, None]
    way = np.linalg.norm(np.diff(np.vstack([hand_m, down]), axis=0), axis=1)
    times = np.cumsum(way / rules.speed_m_s)
    n = len(down)
    tolerance = np.full(n, rules.tolerance_m)
    tolerance[-1] = rules.grasp_tolerance_m
    return replace(
        rest,
        position_m=np.vstack([down, rest.position_m]),
        gripper=np.concatenate([np.ones(n), rest.gripper]),
        times_s=np.concatenate([times, times[-1] + rest.times_s]),
        hold_s=np.concatenate([np.zeros(n), rest.hold_s]),
        tolerance_m=np.concatenate([tolerance, rest.tolerance_m]),
        frame=np.concatenate([np.full(n, frame, np.int64), rest.frame]),
    )


class Retry:
    """Looks after the grasps of one plan, and makes the way of another try.

    Args:
        attempts: how often a grasp may be tried again, over the whole plan.
        rules: of the waypoints.
        grasps: the path as read, its openings, and by what its closings were placed.
        waypoints: as they will be followed.
        image: what was seen before the arm moved, or None without depth.
    """

    def __init__(
        self,
        attempts: int,
        rules: WaypointRules,
        grasps: Grasps,
        waypoints: Waypoints,
        image: CameraImage | None,
    ) -> None:
        self._attempts, self._rules, self._grasps = attempts, rules, grasps
        self._tries = 0
        self._seen: tuple[Floats | None, float] = (None, 0.0)  # where the thing was, and when [s]
        self._stage: Literal["follow", "clear", "close"] = "follow"
        self._checks = [
            check
            for frame, until in grasps.spans(rules)
            if (check := self._check(waypoints, frame, until, image)) is not None
        ]

    @property
    def watches(self) -> bool:
        """Whether there is a grasp left to look after, and a try left for it."""
        return self._tries < self._attempts and self._active is not None

    @property
    def grasps(self) -> Grasps:
        """The path and its shifts, as they are now."""
        return self._grasps

    @property
    def tries(self) -> int:
        """Tries made again so far."""
        return self._tries

    @property
    def clears(self) -> bool:
        """Whether the present way only clears the view."""
        return self._stage == "close"

    @property
    def _active(self) -> GraspCheck | None:
        return next((check for check in self._checks if not check.over), None)

    def watch(self, observation: Observation, camera: str) -> Watched:
        """Say whether the grasp under way has to be tried again."""
        check = self._active
        if self._tries >= self._attempts or check is None or self._stage != "follow":
            return Watched(verdict="on")
        why = check.missed(observation.arm, observation.images.get(camera))
        if not why:
            return Watched(verdict="on")
        self._tries += 1
        self._stage = "clear"
        return Watched(verdict="again", why=f"Nothing is held: {why}.")

    def way(self, observation: Observation, camera: str) -> Waypoints | None:
        """Return what to follow instead of what was left: up and over the place first, then down onto it; or None."""
        check = self._active
        if self._stage == "follow" or check is None:
            return None
        hand = observation.arm.position_m
        image = observation.images.get(camera)
        if self._stage == "clear":
            self._stage = "close"
            self._seen = self._where(check, image), observation.arm.stamp_s
            return clearing(hand, check.place_m, check.frame, self._rules)
        self._stage = "follow"
        self._grasps = self._grasps.placed_again(check.frame, check.place_m, image)
        waypoints = plan_waypoints(self._grasps.path(), self._grasps.opening, self._rules)
        until = dict(self._grasps.spans(self._rules))[check.frame]
        again = self._check(waypoints, check.frame, until, image)
        self._checks = [again if c is check and again is not None else c for c in self._checks]
        down = once_more(waypoints, check.frame, hand, self._rules)
        rolls = self._rolls_m_s(self._where(check, image), observation.arm.stamp_s)
        if rolls is None:
            return down
        near = down.frame == check.frame
        arrives_s = float(down.times_s[near & (down.gripper < 0.5)][0]) + FINGERS_S
        return replace(down, position_m=down.position_m + near[:, None] * rolls * arrives_s)

    def _where(self, check: GraspCheck, image: CameraImage | None) -> Floats | None:
        """Return where the thing near a closing stands (3,), or None where it does not show."""
        if self._grasps.source is None or image is None or image.depth_m is None:
            return None
        again = self._grasps.placed_again(check.frame, check.place_m, image)
        if again is self._grasps:
            return None
        shift = next(anchor.shift_m for anchor in again.anchors if anchor.frame == check.frame)
        return np.asarray(self._grasps.position_m[check.frame] + shift, np.float64)

    def _rolls_m_s(self, now_m: Floats | None, now_s: float) -> Floats | None:
        """Return the level speed (3,) of a thing seen before and now [m/s], None of one that lies still or leapt."""
        before_m, before_s = self._seen
        if now_m is None or before_m is None or now_s <= before_s:
            return None
        speed: Floats = (now_m - before_m) / (now_s - before_s)
        speed[2] = 0.0
        return speed if ROLLS_M_S < float(np.linalg.norm(speed)) < FASTEST_M_S else None

    def _check(self, waypoints: Waypoints, frame: int, until: int, image: CameraImage | None) -> GraspCheck | None:
        at = closing_row(waypoints, frame)
        sees = image is not None and self._grasps.source is not None and at is not None
        standing = standing_at(image, waypoints.position_m[at]) if sees and image is not None else None
        return check_of(waypoints, self._grasps.opening, frame, until, standing)


@dataclass(frozen=True, slots=True, eq=False)
class Grasps:
    """A path as read, its openings, and the shifts that bring its closings onto things.

    Attributes:
        position_m: (T, 3) as read; opening: (T,) as read.
        anchors: shifts of closings.
        source, segment: by what they were found; source None: not at all.
    """

    position_m: Floats
    opening: Floats
    anchors: tuple[Anchor, ...]
    source: Source | None
    segment: str

    def path(self) -> Floats:
        """Return the (T, 3) positions with the shifts."""
        return shifted(self.position_m, self.anchors)

    def held_to(self) -> Floats:
        """Return how much of each frame (T,) is bound to a thing that has been placed, 0..1."""
        shares = [nearness(self.position_m, anchor.frame) for anchor in self.anchors]
        most: Floats = np.max([np.zeros(len(self.position_m)), *shares], axis=0)
        return most

    def spans(self, rules: WaypointRules) -> list[tuple[int, int]]:
        """Return plan frames (closing, opening or end) of every grasp that takes something along, in order."""
        return grasp_spans(self.position_m, self.opening, rules)

    def placed_again(self, frame: int, near_m: Floats, image: CameraImage | None) -> Grasps:
        """Return them with the closing of a frame where the thing near a place is now; as before where none shows.

        And no higher than its middle: fingers that close above it squeeze it out below.
        """
        if self.source is None or image is None or image.depth_m is None:
            return self
        points = image.points_m()
        mask = image.mask(self.segment) if self.source == "segment" else standing_out(points, near_m)
        shift = shift_onto(points, mask, self.position_m[frame], image)
        if shift is None:
            return self
        others = tuple(anchor for anchor in self.anchors if anchor.frame != frame)
        sunk = sum(anchor.shift_m[2] for anchor in self.anchors if anchor.frame == frame)
        table = table_m(points, near_m)
        middle = table + 0.5 * float(np.percentile(points[mask][:, 2] - table, 95))
        lower = min(0.0, middle - (float(near_m[2]) - float(sunk)))
        shift = np.array([shift[0], shift[1], lower])
        return replace(self, anchors=(*others, Anchor(frame, shift)))
