"""Closing the loop: where the next plan frames are, read from what the camera sees now.

Two readings of a goal frame. The absolute one looks at that frame alone. The relative one is the pair head's motion
from the current image to it, added to the hand's measured position: goal-conditioned inverse dynamics on successive
plan frames, as in "Learning Universal Policies via Text-Guided Video Generation" (Du et al. 2023, arXiv 2302.00111) and
"Zero-Shot Visual Imitation" (Pathak et al. 2018, arXiv 1804.08606). Their errors have different causes: what the
network mistakes about a place is much the same in both images and cancels in the motion, whereas the motion is learnt
over a short time only. So they are combined by inverse variance, which of all weighted means of two unbiased readings
with independent errors has the least variance. The head tells no spread of its own. It is taken from the way to the
goal and from neighbouring frames: through each of them the goal lies at a place, and these should be the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import EeReadout, Observation, VideoPlan
from idm.reading import Motions, PlanFrameReader
from idm.waypoints import Waypoints

Floats = NDArray[np.float64]

LEAST_STD_M = 0.0045  # of a motion over no distance
STD_PER_M = 0.1  # and what it grows by with the way to the goal; both as the shipped weights read true videos
AT_ONCE_S = 0.04  # seconds to go that tell one frame from the next
STEPS = 3  # targets between two looks, where the options do not say
WATCH_HZ = 5.0
OPENING_STD = 0.15
BEHIND = 1  # frames that the present may lie behind where it was


class GoalReader(Protocol):
    """A reader of frames that can tell the motion from a current image to each frame of a plan."""

    def goals(self, plan: VideoPlan, observation: Observation) -> PlanFrameReader:
        """Return the reader whose weights fit a plan; raises IncompatibleError when there is none."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """How far the plan has got: share 0..1, its standard deviation, and the nearest frame."""

    progress: float
    spread: float
    frame: int


class ClosedLoop:
    """One plan, followed with an eye on it.

    Args:
        reader: whose weights fit the plan.
        plan: the plan.
        readout: its absolute reading.
    """

    def __init__(self, reader: PlanFrameReader, plan: VideoPlan, readout: EeReadout) -> None:
        self._reader, self._plan, self._readout = reader, plan, readout
        self._encoding: Any = reader.encode(plan.frames, plan.camera)
        self._reached = 0

    def look(self, observation: Observation) -> Motions:
        """Read the current image against every frame of the plan."""
        image = self._plan.transform.apply(observation.image(self._plan.camera).rgb)
        arm = observation.arm
        return self._reader.motions(image, self._plan.camera, self._encoding, arm.position_m, arm.gripper_opening)

    def present(self, motions: Motions, observation: Observation) -> Present:
        """Return how far the plan has got, by place, fingers and time to go together.

        Its frames count by how likely each of them is the present; the spread is that of this distribution.
        """
        readout, arm = self._readout, observation.arm
        std = np.maximum(readout.position_std_m, LEAST_STD_M)
        off = np.linalg.norm(readout.position_m - arm.position_m, axis=1) / std
        closer = (readout.opening - arm.gripper_opening) / OPENING_STD
        score = np.minimum(off, 30.0) ** 2 + closer**2 + ((motions.seconds - motions.seconds.min()) / AT_ONCE_S) ** 2
        score[: max(0, self._reached - BEHIND)] = np.inf
        weight = np.exp(-0.5 * (score - score.min()))
        weight /= weight.sum()
        self._reached = frame = max(self._reached, int(weight.argmax()))
        share = readout.progress if readout.progress is not None else np.linspace(0.0, 1.0, len(weight))
        mean = float(weight @ share)
        return Present(mean, float(np.sqrt(weight @ (share - mean) ** 2)), frame)

    def corrected(
        self, targets: Waypoints, observation: Observation, *, held_to: Floats, floor_m: float | None
    ) -> tuple[Waypoints, Present, list[float]]:
        """Return the next targets put right by what is seen now, how far the plan has got, and their spreads [m].

        Args:
            targets: the next ones.
            observation: of now.
            held_to: (T,) share of each frame's target that is bound to a thing which a depth camera has placed; what
                the plan looks like from here says nothing about where that stands.
            floor_m: height below which no target lies, or None.
        """
        motions = self.look(observation)
        hand, readout = observation.arm.position_m, self._readout
        position, spreads = targets.position_m.copy(), []
        for row, frame in enumerate(targets.frame):
            shift, spread = combined(
                readout.position_m, readout.position_std_m, hand + motions.to_goal_m, motions.to_goal_m, int(frame)
            )
            position[row] += (1.0 - held_to[frame]) * shift
            spreads.append(spread)
        if floor_m is not None:
            position[:, 2] = np.maximum(position[:, 2], floor_m)
        return replace(targets, position_m=position), self.present(motions, observation), spreads


def combined(
    absolute_m: Floats, absolute_std_m: Floats, relative_m: Floats, to_goal_m: Floats, frame: int
) -> tuple[Floats, float]:
    """Return the inverse-variance mean of two readings of a frame, less the absolute one (3,), and its spread [m].

    Args:
        absolute_m: (T, 3) read in the frames alone.
        absolute_std_m: (T,) their spreads.
        relative_m: (T, 3) the same places by the motion from now.
        to_goal_m: (T, 3) that motion.
        frame: the goal.
    """
    near = np.arange(max(frame - 1, 0), min(frame + 2, len(absolute_m)))
    through = relative_m[near] - (absolute_m[near] - absolute_m[frame])  # the goal as each neighbour places it
    scatter = float(np.sqrt(through.var(axis=0, ddof=1).mean())) if len(near) > 1 else 0.0
    far = float(np.linalg.norm(to_goal_m[frame]))
    relative_std = float(np.sqrt(scatter**2 + LEAST_STD_M**2 + (STD_PER_M * far) ** 2))
    a, r = 1 / float(absolute_std_m[frame]) ** 2, 1 / relative_std**2
    return r / (a + r) * (relative_m[frame] - absolute_m[frame]), float(1 / np.sqrt(a + r))
