"""The extractor: reads a plan once, then says after every look what the hand should do next."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from cascade.contracts import ActionChunk, ActionSpace, CameraImage, DataError, Needs, Observation, VideoPlan
from flowact.grasping import Grasping
from flowact.handled import Mode
from flowact.pushing import Pushing
from flowact.reading import PlanReading, read_plan
from flowact.scene import ObjectView, object_mask, robot_mask, seen_through, to_plan, view_object
from flowact.session import OPEN, Handling, Now, Step
from flowact.settings import FlowConfig
from flowact.surroundings import Surroundings
from flowact.targets import Waypoint, chunk_of

REMEMBERED = 4  # plans whose progress is kept
SETTLE_S = 0.15  # how long to wait for an object that moves by itself
AGAIN_S = 2.0  # ... and not again for so long
UNTOUCHED_M = 0.12  # a hand farther than this has not touched the object one frame later
CHANGED = 24.0  # colour change (0..255) of a pixel that the object has left
LEAVES = 0.4  # share of its pixels that it leaves
TIP_M = 0.015  # the finger tips reach this far below the tool centre


@dataclass(slots=True)
class _Progress:
    reading: PlanReading
    handling: Handling
    unsettled: bool


class FlowExtractor:
    """Object motion by dense flow and depth, then contact, push or grasp (after AVDC, Ko et al. 2023).

    Args:
        config: options; see `FlowConfig`.
    """

    def __init__(self, config: FlowConfig) -> None:
        self.config = config
        self._plans: OrderedDict[str, _Progress] = OrderedDict()
        self._waited_s: float | None = None

    @property
    def needs(self) -> Needs:
        """Depth and a calibrated camera; segmentation only when the mask comes from it."""
        return Needs(depth=True, segmentation=self.config.mask == "segment", extrinsics=True)

    @property
    def produces(self) -> ActionSpace:
        """Absolute end-effector poses in the base frame."""
        return ActionSpace()

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        """Return the next targets; the first call for a plan reads it, later ones continue it.

        Raises:
            DataError: 'flow lost: ...' when the object cannot be found or followed, or depth is missing.
        """
        image = observation.image(plan.camera)
        progress = self._plans.get(plan.plan_id)
        if progress is None:
            progress = self._begin(plan, image)
            progress.unsettled = self._may_wait(observation) and moves_untouched(plan, progress.reading, observation)
            self._plans[plan.plan_id] = progress
            while len(self._plans) > REMEMBERED:
                self._plans.popitem(last=False)
        elif progress.unsettled:
            # The object had moved by itself before anything was touched: the plan begins from where it is now.
            progress = self._begin(from_now(plan, image), image)
            self._plans[plan.plan_id] = progress
        now = Now(
            hand_m=np.array(observation.arm.position_m),
            opening=observation.arm.gripper_opening,
            view=self._view(image),
        )
        if progress.unsettled:
            self._waited_s = observation.arm.stamp_s
        step = _waiting(now) if progress.unsettled else progress.handling.advance(now)
        reading = progress.reading
        return chunk_of(
            step.waypoints,
            observation,
            floor_m=reading.support_m + TIP_M,
            final=step.final,
            provenance={
                "extractor": "flow",
                "plan_id": plan.plan_id,
                "mode": str(reading.handled.mode),
                "why": reading.handled.why,
                "motion": str(reading.motion.kind),
                "rms_px": round(reading.motion.rms_px, 3),
                "phase": step.note,
            },
        )

    def _may_wait(self, observation: Observation) -> bool:
        """Return whether the last wait is long past: who replans after every chunk shall not wait for ever."""
        return self._waited_s is None or abs(observation.arm.stamp_s - self._waited_s) > AGAIN_S

    def _begin(self, plan: VideoPlan, image: CameraImage) -> _Progress:
        reading = read_plan(plan, image, self.config)
        robot = robot_mask(image)
        around = Surroundings(image, robot)
        others = Surroundings(image, robot | reading.mask)
        if reading.handled.mode is Mode.GRASP:
            return _Progress(reading, Grasping(reading, around), unsettled=False)
        return _Progress(reading, Pushing(reading, around, others), unsettled=False)

    def _view(self, image: CameraImage) -> ObjectView | None:
        if self.config.mask != "segment":
            return None
        try:
            return view_object(image, object_mask(image, self.config.segment))
        except DataError:
            return None  # hidden for the moment, by the gripper for instance


def moves_untouched(plan: VideoPlan, reading: PlanReading, observation: Observation) -> bool:
    """Return whether the object leaves its place in the plan's first step although the hand is nowhere near.

    A thing that falls, rolls or springs when an episode begins is not where the plan's first frame shows it.
    """
    if float(np.linalg.norm(observation.arm.position_m - reading.view.centre_m)) < UNTOUCHED_M:
        return False
    own = to_plan(reading.mask, plan.transform)
    step = np.abs(plan.frames[1].astype(np.float64) - plan.frames[0]).max(axis=-1)
    return bool((step[own] > CHANGED).mean() > LEAVES)


def from_now(plan: VideoPlan, image: CameraImage) -> VideoPlan:
    """Return the plan with what the camera sees now as its first frame."""
    frames = np.concatenate([seen_through(image, plan.transform)[None], plan.frames[1:]])
    return VideoPlan(
        instruction=plan.instruction,
        camera=plan.camera,
        transform=plan.transform,
        frames=frames,
        readout=plan.readout,
        seed=plan.seed,
        plan_id=plan.plan_id,
    )


def _waiting(now: Now) -> Step:
    here = Waypoint(position_m=now.hand_m, gripper=OPEN, hold_s=SETTLE_S)
    return Step(waypoints=(here,), final=False, note="waiting for the object to come to rest")
