"""What a look at the object means for the chunk that is being followed: go on, come again, or plan anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cascade.contracts import Watched
from flowact.follower import REST_M, Pose
from flowact.grasping import Grasping
from flowact.grasping import Phase as Grasp
from flowact.pushing import ARRIVED, Pushing
from flowact.pushing import Phase as Push
from flowact.rigid import Floats

_Verdict = Literal["on", "again", "replan"]
SLIPPED_M = 0.05  # an object this far from where the hand should have it has slipped out
LIFTED_M = 0.03  # ... once the hand has left the place of the grasp by this much
LETS_GO = 0.12  # the gripper opens by this much to let go
PASSED_M = 0.035  # a fist this far beyond the side it pushes has passed the object
CAME_ALONG_M = 0.01  # an object that moved by this much in a stroke was pushed
LOOKS = 4  # so many looks in a row have to agree
STALL_LOOKS = 8  # looks without motion of the object, the fist beyond it, after which the plan is given up ...
STALL_STROKES = 2  # ... from this stroke on; before, the hand comes again


@dataclass(slots=True)
class Verdicts:
    """Judges the looks at one plan. Its counts start afresh whenever a new chunk begins."""

    bad_looks: int = 0
    grip: float = 1.0  # smallest opening since the fingers closed
    start_q: float = 0.0

    def begin(self, pose: Pose) -> None:
        """A new chunk begins with the object at a pose."""
        self.bad_looks, self.grip, self.start_q = 0, 1.0, pose.q

    def judge(self, handling: Grasping | Pushing, pose: Pose, hand_m: Floats, opening: float) -> Watched:
        """Return the verdict on a look."""
        verdict, why = (
            self._carried(handling, pose, hand_m, opening)
            if isinstance(handling, Grasping)
            else self._pushed(handling, pose, hand_m)
        )
        done, spread = along_path(handling, pose)
        x, y, z = handling.reading.view.centre_m + pose.shift_m
        return Watched(verdict=verdict, why=why, progress=done, spread=spread, object_m=(float(x), float(y), float(z)))

    def _carried(self, grasp: Grasping, pose: Pose, hand_m: Floats, opening: float) -> tuple[_Verdict, str]:
        self.grip = min(self.grip, opening)
        if grasp.at_grasp is None or opening > self.grip + LETS_GO:
            return "on", ""
        hand, shift = grasp.at_grasp
        way = hand_m - hand
        held = grasp.phase in (Grasp.CARRY, Grasp.DONE) and float(way[2]) > LIFTED_M and opening < 0.9
        off = float(np.linalg.norm(pose.shift_m - shift - way))
        self.bad_looks = self.bad_looks + 1 if held and pose.seen and off > SLIPPED_M else 0
        if self.bad_looks < LOOKS:
            return "on", ""
        grasp.slipped()
        return "again", f"expected the object in the hand, saw it {100 * off:.0f} cm away: it has slipped out"

    def _pushed(self, push: Pushing, pose: Pose, hand_m: Floats) -> tuple[_Verdict, str]:
        if push.phase is not Push.PUSH or push.before_q is None or not pose.seen:
            return "on", ""
        passed = push.passed_m(hand_m, pose.q)
        arrived = pose.q / push.goal > ARRIVED if abs(push.goal) > 1e-6 else False
        self.bad_looks = self.bad_looks + 1 if passed > PASSED_M and not arrived else 0
        came = abs(pose.q - self.start_q) * max(push.motion.way_per_unit(push.reading.view.centre_m), 1e-3)
        if self.bad_looks >= LOOKS and (came > CAME_ALONG_M or push.attempts < STALL_STROKES):
            return "again", f"expected the object before the fist, saw the fist {100 * passed:.0f} cm beyond it"
        if self.bad_looks >= STALL_LOOKS:
            return "replan", f"the object has not moved for {self.bad_looks} looks while the fist went on"
        return "on", ""


def along_path(handling: Grasping | Pushing, pose: Pose) -> tuple[float, float]:
    """Return how much of the planned way of the object is behind it, 0..1, and the standard deviation of that."""
    error = max(pose.error_m, REST_M) * (1.0 if pose.seen else 3.0)
    if isinstance(handling, Pushing):
        length = abs(handling.goal) * max(handling.motion.way_per_unit(handling.reading.view.centre_m), 1e-3)
        done = pose.q / handling.goal if abs(handling.goal) > 1e-6 else 1.0
        return float(np.clip(done, 0.0, 1.0)) + 0.0, float(min(error / max(length, 1e-3), 0.5))
    path = handling.reading.motion.shift_m
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    total = float(steps.sum())
    if total < 1e-3:
        return 1.0, 0.5
    before = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    way = np.diff(path, axis=0)
    share = np.clip(((pose.shift_m - path[:-1]) * way).sum(axis=1) / np.maximum(steps**2, 1e-9), 0.0, 1.0)
    away = np.linalg.norm(path[:-1] + share[:, None] * way - pose.shift_m, axis=1)
    best = int(away.argmin())
    spread = min((error + 0.5 * float(away[best])) / total, 0.5)
    return float((before[best] + share[best] * steps[best]) / total), float(spread)
