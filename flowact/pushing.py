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
FIST_M = 0.015  # half-width of the closed fingers
OVERSHOOT_M = 0.05  # how far beyond the planned end to push
ARRIVED = 0.85  # share of the planned way that counts as there
ATTEMPTS = 3
STRIDE_M = 0.025


class Phase(StrEnum):
    """Where a push has got to."""

    APPROACH = "approach"
    PUSH = "push"
    CHECK = "check"
    DONE = "done"


class Pushing:
    """One push after a plan's reading."""

    def __init__(self, reading: PlanReading, around: Surroundings) -> None:
        self.reading, self.around = reading, around
        self.motion: Motion = reading.motion
        self.goal = final_position(self.motion)
        self.now_q = 0.0
        self.phase = Phase.APPROACH
        self.attempts = 0

    def advance(self, now: Now) -> Step:
        """Return the waypoints of the next phase."""
        self.now_q = self._observed(now)  # it may have moved before it is touched
        if self.phase is Phase.CHECK:
            short = abs(self.goal - self.now_q) > (1 - ARRIVED) * max(abs(self.goal), 1e-6)
            short &= (self.goal - self.now_q) * self.goal > 0
            self.phase = Phase.APPROACH if short and self.attempts < ATTEMPTS else Phase.DONE
        if self.phase is Phase.APPROACH:
            return self._approach(now)
        if self.phase is Phase.PUSH:
            return self._push(now)
        return Step(waypoints=(), final=True, note="done")

    def _observed(self, now: Now) -> float:
        if now.view is None:
            return self.now_q
        margin = max(0.3 * abs(self.goal), 0.1 / max(self.motion.way_per_unit(self.reading.view.centre_m), 0.05))
        low, high = min(0.0, self.goal) - margin, max(0.0, self.goal) + margin
        return joint_now(self.motion, self.reading.view.points_m, now.view.points_m, low=low, high=high)

    @property
    def _sign(self) -> float:
        """Which way the joint has still to go."""
        return 1.0 if self.goal >= self.now_q else -1.0

    def _contact(self) -> Floats:
        """Return the fist's place (3,) against the object at rest: behind its middle, as seen along the push."""
        view = self.reading.view
        direction = self._direction(view.centre_m, 0.0)
        reach = float(np.percentile((view.surface_m - view.points_m) @ direction, 95))
        return np.asarray(view.centre_m - direction * min(max(reach, 0.0), DEEPEST_M), dtype=np.float64)

    def _direction(self, point_m: Floats, q: float) -> Floats:
        """Return the unit direction in which a point (3,) of the resting object goes at joint position q."""
        step = self._sign * 0.005 / max(self.motion.way_per_unit(point_m), 1e-3)
        ahead = self.motion.move(point_m, q + step) - self.motion.move(point_m, q)
        return np.asarray(ahead / np.linalg.norm(ahead), dtype=np.float64)

    def _approach(self, now: Now) -> Step:
        contact = self._contact()
        touch = self.motion.move(contact, self.now_q)
        start = self._room_behind(touch, self._direction(contact, self.now_q))
        corners = travel(now.hand_m, start, self.around, clearance_m=0.04, radius_m=0.03)
        self.phase = Phase.PUSH
        points = [Waypoint(position_m=c, gripper=CLOSED) for c in corners]
        return Step(waypoints=points, final=False, note="behind the object")

    def _room_behind(self, touch_m: Floats, direction: Floats) -> Floats:
        """Return a place (3,) behind the contact to which the fist can come down, as far back as there is room."""
        if abs(direction[2]) > 0.7:  # pressed from above: anywhere on the way is reached from there
            return np.asarray(touch_m - direction * BEHIND_M[0], dtype=np.float64)
        places = [touch_m - direction * back for back in BEHIND_M]
        tops = [self.around.top_along(p, p, FIST_M) for p in places]
        free = [p for p, top in zip(places, tops, strict=True) if top < p[2] - 0.01]
        return free[0] if free else places[int(np.argmin(tops))]

    def _push(self, now: Now) -> Step:
        contact = self._contact()
        per_unit = max(self.motion.way_per_unit(contact), 1e-3)
        end = self.goal + self._sign * OVERSHOOT_M / per_unit
        count = max(2, int(np.ceil(abs(end - self.now_q) * per_unit / STRIDE_M)))
        points = [
            Waypoint(position_m=self.motion.move(contact, float(q)), gripper=CLOSED, tolerance_m=0.012)
            for q in np.linspace(self.now_q, end, count + 1)
        ]
        self.attempts += 1
        self.phase = Phase.CHECK
        return Step(waypoints=points, final=False, note=f"push, attempt {self.attempts}")


def final_position(motion: Motion) -> float:
    """Return the joint position the plan ends at."""
    return float(motion.q[-1])
