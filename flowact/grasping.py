"""Picking an object up and carrying it along the planned path: hover, descend, close, check, carry, let go.

What the state machine does not do, because published rule sets that do lose the object: close while still descending,
leave without a dwell, go on with an empty fist, keep a closed gripper when trying again, or end without letting go.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from flowact.reading import PlanReading
from flowact.register import shift_between
from flowact.rigid import Floats
from flowact.session import CLOSED, OPEN, Now, Step
from flowact.surroundings import Surroundings, travel
from flowact.targets import Waypoint

UP = np.array([0.0, 0.0, 1.0])
HOVER_M = 0.10  # above the grasp, where the object is looked at once more
DIG_M = 0.012  # the fingers reach a little below the object's middle, so that it does not slip out downwards
LIFT_M = 0.04  # first lift, to see whether the object follows
DWELL_S = 15 / 80  # fifteen control steps at 80 Hz for the fingers to close
FIST = 0.08  # openings below this hold nothing
FOLLOWS_M = 0.05  # a held object has come along to within this
ATTEMPTS = 3
AHEAD = 4  # path frames per chunk while carrying
OVERSHOOT_M = 0.03


class Phase(StrEnum):
    """Where a grasp has got to."""

    HOVER = "hover"
    TAKE = "take"
    CARRY = "carry"
    DONE = "done"


class Grasping:
    """One grasp after a plan's reading. The object's path is `centre + shift`; the hand keeps its measured offset."""

    def __init__(self, reading: PlanReading, around: Surroundings) -> None:
        self.reading, self.around = reading, around
        self.phase = Phase.HOVER
        self.attempts = 0
        self.shift = np.zeros(3)  # of the object since the plan was made, as last observed
        self.at_grasp: tuple[Floats, Floats] | None = None  # hand and object shift when the fingers closed
        self.path = planned_shifts(reading.motion.shift_m)
        self.index = 0

    def advance(self, now: Now) -> Step:
        """Return the waypoints of the next phase."""
        if self.phase is Phase.HOVER:
            return self._hover(now)
        if self.phase is Phase.TAKE:
            return self._take(now)
        if self.phase is Phase.CARRY:
            return self._carry(now)
        return Step(waypoints=(), final=True, note="done")

    def _grasp_point(self) -> Floats:
        return self.reading.view.centre_m + self.shift

    def slipped(self) -> None:
        """Take note that the object is no longer in the hand: the next step checks, and grasps again."""
        self.phase = Phase.CARRY

    def _look(self, now: Now) -> None:
        tracked = now.tracked
        start = tracked.shift_m if tracked is not None and tracked.seen else self.shift
        if now.view is not None:
            self.shift = shift_between(self.reading.view.points_m, now.view.points_m, start_m=start)
        elif tracked is not None and tracked.seen:
            self.shift = tracked.shift_m

    def _hover(self, now: Now) -> Step:
        self._look(now)
        goal = self._grasp_point() + HOVER_M * UP
        corners = travel(now.hand_m, goal, self.around, clearance_m=0.06, radius_m=0.05)
        self.phase = Phase.TAKE
        points = [Waypoint(position_m=c, gripper=OPEN) for c in corners[:-1]]
        points.append(Waypoint(position_m=corners[-1], gripper=OPEN, tolerance_m=0.008))
        return Step(waypoints=points, final=False, note="hover")

    def _take(self, now: Now) -> Step:
        self._look(now)
        point = self._grasp_point() - DIG_M * UP
        self.at_grasp = (point.copy(), self.shift.copy())
        self.attempts += 1
        self.phase = Phase.CARRY
        self.index = 0
        return Step(
            waypoints=(
                Waypoint(position_m=point + HOVER_M * UP, gripper=OPEN, tolerance_m=0.006),
                Waypoint(position_m=point, gripper=OPEN, tolerance_m=0.008),
                Waypoint(position_m=point, gripper=CLOSED, hold_s=DWELL_S, tolerance_m=0.02),
                Waypoint(position_m=point + LIFT_M * UP, gripper=CLOSED, tolerance_m=0.01),
            ),
            final=False,
            note=f"grasp, attempt {self.attempts}",
        )

    def _held(self, now: Now) -> bool:
        """Return whether the object is between the fingers and has come along with the hand."""
        if self.at_grasp is None:
            return False
        hand, shift = self.at_grasp
        expected = shift + now.hand_m - hand
        if now.view is None:
            if now.tracked is None or not now.tracked.seen:
                return now.opening > FIST
            self.shift = now.tracked.shift_m
            return bool(np.linalg.norm(self.shift - expected) < FOLLOWS_M and now.opening > FIST)
        self.shift = shift_between(self.reading.view.points_m, now.view.points_m, start_m=expected)
        return bool(np.linalg.norm(self.shift - expected) < FOLLOWS_M and now.opening > FIST)

    def _carry(self, now: Now) -> Step:
        if not self._held(now) and self.attempts < ATTEMPTS:
            self._look(now)
            self.phase = Phase.HOVER
            up = Waypoint(position_m=now.hand_m + 0.02 * UP, gripper=OPEN, hold_s=DWELL_S)
            return Step(waypoints=(up,), final=False, note="the object did not follow: again")
        offset = now.hand_m - self._object_now(now)
        self.index = min(self.index, len(self.path) - 1)  # asked again after the end, it puts down again
        last = self.index + AHEAD >= len(self.path)
        ahead = self._clear_of_support()[self.index : self.index + AHEAD]
        self.index += AHEAD
        points = [Waypoint(position_m=p + offset, gripper=CLOSED) for p in self.reading.view.centre_m + ahead]
        if not last:
            return Step(waypoints=points, final=False, note="carry")
        self.phase = Phase.DONE
        return Step(waypoints=[*points, *self._ending(points[-1].position_m)], final=True, note="put down")

    def _clear_of_support(self) -> Floats:
        """Return the path's shifts, kept off what the object stood on: lifted until its top, never below its place."""
        rest = float(self.at_grasp[1][2]) if self.at_grasp is not None else 0.0
        top = int(self.path[:, 2].argmax())
        floor = np.where(np.arange(len(self.path)) <= top, rest + LIFT_M, rest)
        return np.concatenate([self.path[:, :2], np.maximum(self.path[:, 2], floor)[:, None]], axis=1)

    def _object_now(self, now: Now) -> Floats:
        """Return the object's centre; where it is hidden or seen out of reach of the hand, as it was grasped."""
        if self.at_grasp is None:
            return self._grasp_point()
        hand, shift = self.at_grasp
        carried = shift + now.hand_m - hand
        slip = np.zeros(3) if now.view is None else np.clip(self.shift - carried, -0.03, 0.03)
        return self.reading.view.centre_m + carried + slip

    def _ending(self, end: Floats) -> list[Waypoint]:
        along = self.path[-1] - self.path[max(0, len(self.path) - 3)]
        way = float(np.linalg.norm(along))
        if self.reading.handled.releases:
            return [
                Waypoint(position_m=end, gripper=CLOSED, tolerance_m=0.008),
                Waypoint(position_m=end, gripper=OPEN, hold_s=DWELL_S),
                Waypoint(position_m=end + 0.08 * UP, gripper=OPEN),
            ]
        if way < 0.01:
            return [Waypoint(position_m=end, gripper=CLOSED, hold_s=DWELL_S, tolerance_m=0.008)]
        beyond = end + along / way * OVERSHOOT_M
        return [Waypoint(position_m=beyond, gripper=CLOSED, hold_s=DWELL_S, tolerance_m=0.008)]


def planned_shifts(shift_m: Floats, *, moved_m: float = 0.02) -> Floats:
    """Return the (n, 3) shifts still to be made, from the first frame in which the object has left its place."""
    away = np.linalg.norm(shift_m, axis=1) > moved_m
    first = int(np.argmax(away)) if away.any() else len(shift_m) - 1
    return shift_m[first:]
