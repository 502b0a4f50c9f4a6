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

FIST_M = 0.02  # half-width of the closed fingers
BEHIND_M = 0.06  # where the push starts, behind the contact
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
        if self.phase is Phase.CHECK:
            self.now_q = self._observed(now)
            short = abs(self.now_q) < ARRIVED * abs(self.goal)
            self.phase = Phase.APPROACH if short and self.attempts < ATTEMPTS else Phase.DONE
        if self.phase is Phase.APPROACH:
            return self._approach(now)
        if self.phase is Phase.PUSH:
            return self._push(now)
        return Step(waypoints=(), final=True, note="done")

    def _observed(self, now: Now) -> float:
        if now.view is None:
            return self.now_q
        margin = 0.3 * abs(self.goal)
        low, high = min(0.0, self.goal) - margin, max(0.0, self.goal) + margin
        return joint_now(self.motion, self.reading.view.points_m, now.view.points_m, low=low, high=high)

    def contact(self) -> tuple[Floats, Floats]:
        """Return where the fist's centre touches the resting object (3,), and the unit direction of the push there."""
        view = self.reading.view
        centre = view.centre_m
        ahead = self.motion.move(centre, self.now_q + 0.02 * np.sign(self.goal) / self.motion.way_per_unit(centre))
        direction = ahead - self.motion.move(centre, self.now_q)
        direction = direction / np.linalg.norm(direction)
        reach = float(np.percentile((view.surface_m - view.points_m) @ direction, 95))
        return centre - direction * min(reach, 0.04), direction

    def _approach(self, now: Now) -> Step:
        contact, direction = self.contact()
        touch = self.motion.move(contact, self.now_q)
        start = touch - direction * BEHIND_M
        corners = travel(now.hand_m, start, self.around, clearance_m=0.04, radius_m=0.03)
        self.phase = Phase.PUSH
        points = [Waypoint(position_m=c, gripper=CLOSED) for c in corners]
        return Step(waypoints=points, final=False, note="behind the object")

    def _push(self, now: Now) -> Step:
        contact, _ = self.contact()
        per_unit = max(self.motion.way_per_unit(contact), 1e-3)
        sign = float(np.sign(self.goal))
        end = self.goal + sign * OVERSHOOT_M / per_unit
        count = max(2, int(np.ceil(abs(end - self.now_q) * per_unit / STRIDE_M)))
        points = [
            Waypoint(position_m=self.motion.move(contact, float(q)), gripper=CLOSED, tolerance_m=0.012)
            for q in np.linspace(self.now_q, end, count + 1)
        ]
        self.attempts += 1
        self.phase = Phase.CHECK
        return Step(waypoints=points, final=False, note=f"push, attempt {self.attempts}")


def final_position(motion: Motion) -> float:
    """Return the joint position the plan ends at: the median of its last three frames, noise taken out."""
    return float(np.median(motion.q[-3:]))
