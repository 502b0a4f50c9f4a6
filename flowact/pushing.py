"""Pushing an object along its joint with a closed fist: come down behind it, follow the joint, look, try again."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from flowact.articulation import Motion
from flowact.reading import PlanReading
from flowact.register import joint_now
from flowact.rigid import Floats
from flowact.session import CLOSED, Now, Step
from flowact.surroundings import Surroundings, travel
from flowact.targets import Waypoint

DEEPEST_M = 0.04  # the fist goes at most this far behind the object's middle
BEHIND_M = (0.06, 0.05, 0.04, 0.03, 0.02, 0.01)  # where the push starts, behind the contact: the first with room
FIST_M = 0.03  # half-width of the closed fingers
OVERSHOOT_M = 0.05  # how far beyond the planned end to push
ARRIVED = 0.85  # share of the planned way that counts as there
FOLLOWS = 0.35  # share of a stroke that the object has to come along
ATTEMPTS = 4
STROKE_M = 0.12
LOOSE_M = 0.03
STRIDE_M = 0.04


class Phase(StrEnum):
    """Where a push has got to."""

    APPROACH = "approach"
    PUSH = "push"
    DONE = "done"


class Pushing:
    """One push after a plan's reading: stroke by stroke, looking in between.

    Args:
        reading: what was read from the plan.
        around: everything in the scene but the robot, to travel over.
        others: the same without the object, to find room behind it.
    """

    def __init__(self, reading: PlanReading, around: Surroundings, others: Surroundings) -> None:
        self.reading, self.around, self.others = reading, around, others
        self.motion: Motion = reading.motion
        self.goal = final_position(self.motion)
        self.now_q = 0.0
        self.before_q: float | None = None  # the joint before the last stroke
        self.stroke_m = 0.0
        self._direction_sign = 1.0 if self.goal >= 0 else -1.0  # which way the joint is pushed
        self.phase = Phase.APPROACH
        self.attempts = 0

    def advance(self, now: Now) -> Step:
        """Return the waypoints of the next phase."""
        self.now_q = self._observed(now)  # it may have moved before it is touched
        if self.phase is Phase.PUSH and self.before_q is not None:
            self.phase = self._judged(now)
        if self.phase is Phase.APPROACH:
            return self._approach(now)
        if self.phase is Phase.PUSH:
            return self._push(now)
        return Step(waypoints=(), final=True, note="done")

    def _judged(self, now: Now) -> Phase:
        """Return what to do after a stroke: go on, come again from behind, or be done."""
        per_unit = max(self.motion.way_per_unit(self.reading.view.centre_m), 1e-3)
        moved = (self.now_q - (self.before_q or 0.0)) * self._direction_sign * per_unit
        beyond = (self._hand_q(now) - self.goal) * self._direction_sign * per_unit
        if beyond > 0.7 * OVERSHOOT_M:
            short = (self.goal - self.now_q) * self._direction_sign > (1 - ARRIVED) * abs(self.goal)
            return Phase.APPROACH if short and self.attempts < ATTEMPTS else Phase.DONE
        if moved < FOLLOWS * self.stroke_m and self.attempts < ATTEMPTS:
            return Phase.APPROACH
        return Phase.PUSH

    def passed_m(self, hand_m: Floats, q: float) -> float:
        """Return how far [m] the hand (3,) is beyond the side it pushes, the object being at joint position q."""
        contact = self._contact()
        per_unit = max(self.motion.way_per_unit(contact), 1e-3)
        return (self.motion.joint_position(contact, hand_m) - q) * self._direction_sign * per_unit

    def _hand_q(self, now: Now) -> float:
        return self.motion.joint_position(self._contact(), now.hand_m)

    def _observed(self, now: Now) -> float:
        if now.view is None:
            return now.tracked.q if now.tracked is not None and now.tracked.seen else self.now_q
        margin = max(0.3 * abs(self.goal), 0.1 / max(self.motion.way_per_unit(self.reading.view.centre_m), 0.05))
        low, high = min(0.0, self.goal) - margin, max(0.0, self.goal) + margin
        return joint_now(self.motion, self.reading.view.points_m, now.view.points_m, low=low, high=high)

    def _contact(self) -> Floats:
        """Return the fist's place (3,) against the object at rest: behind its middle, as seen along the push."""
        view = self.reading.view
        direction = self._direction(view.centre_m, 0.0)
        reach = float(np.percentile((view.surface_m - view.points_m) @ direction, 95))
        return np.asarray(view.centre_m - direction * min(max(reach, 0.0), DEEPEST_M), dtype=np.float64)

    def _direction(self, point_m: Floats, q: float) -> Floats:
        """Return the unit direction in which a point (3,) of the resting object goes at joint position q."""
        step = self._direction_sign * 0.005 / max(self.motion.way_per_unit(point_m), 1e-3)
        ahead = self.motion.move(point_m, q + step) - self.motion.move(point_m, q)
        return np.asarray(ahead / np.linalg.norm(ahead), dtype=np.float64)

    def _approach(self, now: Now) -> Step:
        self._direction_sign = 1.0 if self.goal >= self.now_q else -1.0
        contact = self._contact()
        touch = self.motion.move(contact, self.now_q)
        start = self._room_behind(touch, self._direction(contact, self.now_q))
        corners = travel(now.hand_m, start, self.around, clearance_m=0.04, radius_m=0.03)
        self.phase, self.before_q = Phase.PUSH, None
        self.attempts += 1
        points = [Waypoint(position_m=c, gripper=CLOSED) for c in corners]
        return Step(waypoints=points, final=False, note="behind the object")

    def _room_behind(self, touch_m: Floats, direction: Floats) -> Floats:
        """Return a place (3,) behind the contact to which the fist can come down, as far back as there is room."""
        if abs(direction[2]) > 0.7:  # pressed from above: anywhere on the way is reached from there
            return np.asarray(touch_m - direction * BEHIND_M[0], dtype=np.float64)
        places = [touch_m - direction * back for back in BEHIND_M]
        tops = [self.others.top_along(touch_m, p, FIST_M) for p in places]
        free = [p for p, top in zip(places, tops, strict=True) if top < p[2] - 0.01]
        return free[0] if free else places[int(np.argmin(tops))]

    def _push(self, now: Now) -> Step:
        contact = self._contact()
        per_unit = max(self.motion.way_per_unit(contact), 1e-3)
        sign = self._direction_sign
        first = self.before_q is None
        start = self.now_q if first else self._hand_q(now) + sign * STRIDE_M / per_unit
        last = self.goal + sign * OVERSHOOT_M / per_unit
        end = start + sign * min(abs(last - start), STROKE_M / per_unit) if (last - start) * sign > 0 else last
        count = max(1, int(np.ceil(abs(end - start) * per_unit / STRIDE_M)))
        self.before_q, self.stroke_m = self.now_q, abs(end - start) * per_unit
        # Loose on the way: a target well ahead pushes harder than one that is nearly reached.
        tolerance = [LOOSE_M] * count + [0.015]
        points = [
            Waypoint(position_m=self.motion.move(contact, float(q)), gripper=CLOSED, tolerance_m=near)
            for q, near in zip(np.linspace(start, end, count + 1), tolerance, strict=True)
        ]
        return Step(waypoints=points, final=False, note=f"push, attempt {self.attempts}")


def final_position(motion: Motion) -> float:
    """Return the joint position the plan ends at."""
    return float(motion.q[-1])
