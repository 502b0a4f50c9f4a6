"""The extractor: reads a plan once, then says after every look what the hand should do next."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.contracts import ActionChunk, ActionSpace, CameraImage, DataError, Needs, Observation, VideoPlan, Watched
from flowact.follower import ObjectFollower
from flowact.grasping import FIST, Grasping
from flowact.handled import Mode
from flowact.overlay import track_record
from flowact.pushing import Pushing
from flowact.reading import PlanReading, read_plan
from flowact.rigid import Floats
from flowact.scene import ObjectView, base_pose, object_mask, view_object
from flowact.session import Now
from flowact.settings import FlowConfig
from flowact.surroundings import Surroundings
from flowact.targets import chunk_of
from flowact.verdict import Verdicts

REMEMBERED = 4  # plans whose progress is kept
HOLDS = 0.9  # a gripper opened wider holds nothing
TIP_M = 0.015  # the finger tips reach this far below the tool centre


@dataclass(slots=True)
class _Progress:
    reading: PlanReading
    handling: Grasping | Pushing
    follower: ObjectFollower
    verdicts: Verdicts
    tracks: dict[str, Any] | None  # told with the first chunk, for reports


class FlowExtractor:
    """Object motion by dense flow and depth, then contact, push or grasp (after AVDC, Ko et al. 2023).

    Args:
        config: options; see `FlowConfig`.
    """

    def __init__(self, config: FlowConfig) -> None:
        self.config = config
        self._plans: OrderedDict[str, _Progress] = OrderedDict()

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
            progress = self._begin(plan, image, np.array(observation.arm.position_m))
            self._plans[plan.plan_id] = progress
            while len(self._plans) > REMEMBERED:
                self._plans.popitem(last=False)
        hand_m, opening = np.array(observation.arm.position_m), observation.arm.gripper_opening
        pose = progress.follower.look(image, hand_m, held=_holds(progress.handling, opening))
        progress.verdicts.begin(pose)
        now = Now(hand_m=hand_m, opening=opening, view=self._view(image), tracked=pose)
        step = progress.handling.advance(now)
        reading, tracks, progress.tracks = progress.reading, progress.tracks, None
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
                **({} if tracks is None else {"tracks": tracks}),
            },
        )

    @property
    def watch_hz(self) -> float | None:
        """How often the object is looked at while a chunk is followed [Hz]; None: only between chunks."""
        return self.config.watch_hz

    def watch(self, plan: VideoPlan, observation: Observation) -> Watched:
        """Follow the object in one more image and say whether the chunk is still worth following.

        'again' when a held object has slipped out or a pushed one has left the fist, 'replan' when it does not move
        though the fist goes on, stroke after stroke. A plan that nothing was extracted from yet goes on.
        """
        progress = self._plans.get(plan.plan_id)
        if progress is None:
            return Watched(verdict="on")
        hand_m, opening = np.array(observation.arm.position_m), observation.arm.gripper_opening
        held = _holds(progress.handling, opening)
        pose = progress.follower.look(observation.image(plan.camera), hand_m, held=held)
        return progress.verdicts.judge(progress.handling, pose, hand_m, opening)

    def _begin(self, plan: VideoPlan, image: CameraImage, hand_m: Floats) -> _Progress:
        reading = read_plan(plan, image, hand_m, self.config)
        around = Surroundings(image, reading.robot)
        others = Surroundings(image, reading.robot | reading.mask)
        tracks = track_record(reading, plan.transform.intrinsics(image.K), base_pose(image))
        segment = self.config.segment if self.config.mask == "segment" else None
        grasp = reading.handled.mode is Mode.GRASP
        handling = Grasping(reading, around) if grasp else Pushing(reading, around, others)
        return _Progress(reading, handling, ObjectFollower(reading, image, segment, hand_m), Verdicts(), tracks)

    def _view(self, image: CameraImage) -> ObjectView | None:
        if self.config.mask != "segment":
            return None
        try:
            return view_object(image, object_mask(image, self.config.segment))
        except DataError:
            return None  # hidden for the moment, by the gripper for instance


def _holds(handling: Grasping | Pushing, opening: float) -> bool:
    """Return whether the hand may be closed on the object now."""
    return isinstance(handling, Grasping) and handling.at_grasp is not None and FIST < opening < HOLDS
