"""The extractor: reads a plan once, then says after every look what the hand should do next."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.contracts import ActionChunk, ActionSpace, CameraImage, DataError, Needs, Observation, VideoPlan
from flowact.grasping import Grasping
from flowact.handled import Mode
from flowact.overlay import track_record
from flowact.pushing import Pushing
from flowact.reading import PlanReading, read_plan
from flowact.rigid import Floats
from flowact.scene import ObjectView, base_pose, object_mask, view_object
from flowact.session import Handling, Now
from flowact.settings import FlowConfig
from flowact.surroundings import Surroundings
from flowact.targets import chunk_of

REMEMBERED = 4  # plans whose progress is kept
TIP_M = 0.015  # the finger tips reach this far below the tool centre


@dataclass(slots=True)
class _Progress:
    reading: PlanReading
    handling: Handling
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
        now = Now(
            hand_m=np.array(observation.arm.position_m),
            opening=observation.arm.gripper_opening,
            view=self._view(image),
        )
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

    def _begin(self, plan: VideoPlan, image: CameraImage, hand_m: Floats) -> _Progress:
        reading = read_plan(plan, image, hand_m, self.config)
        around = Surroundings(image, reading.robot)
        others = Surroundings(image, reading.robot | reading.mask)
        tracks = track_record(reading, plan.transform.intrinsics(image.K), base_pose(image))
        if reading.handled.mode is Mode.GRASP:
            return _Progress(reading, Grasping(reading, around), tracks)
        return _Progress(reading, Pushing(reading, around, others), tracks)

    def _view(self, image: CameraImage) -> ObjectView | None:
        if self.config.mask != "segment":
            return None
        try:
            return view_object(image, object_mask(image, self.config.segment))
        except DataError:
            return None  # hidden for the moment, by the gripper for instance
