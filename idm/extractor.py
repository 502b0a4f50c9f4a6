"""Plan in, end-effector targets out: reads the plan's frames and applies the waypoint rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ActionChunk, ActionSpace, EeReadout, Needs, Observation, VideoPlan
from cascade.contracts.watching import Watched
from idm.anchoring import Source, anchored
from idm.closed_loop import STEPS, WATCH_HZ, ClosedLoop, GoalReader
from idm.reading import SOURCE, Fuse, fuse
from idm.regrasp import Grasps, Retry
from idm.waypoints import WaypointRules, Waypoints, plan_waypoints

Floats = NDArray[np.float64]
LOOK_FORWARD = 3  # targets that may be skipped when the hand is already past them
GRASP_HZ = 10.0  # two looks at least while the fingers close
CONFIDENT_STD_M = 0.02  # spread at which a target is half trusted


class FrameReader(Protocol):
    """Reads a plan, in its pixels or its latents; `weights` is the digest of those it last read with."""

    weights: str | None

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return one reading per frame."""
        ...


@dataclass(slots=True)
class _Progress:
    plan_id: str
    waypoints: Waypoints
    trust: Floats  # (T,) of the plan's frames
    source: str
    grasps: Grasps
    retry: Retry | None = None
    loop: ClosedLoop | None = None
    next: int = 0


class InverseDynamicsExtractor:
    """Follows the hand that the plan shows. Stateful per plan: a new plan_id starts anew.

    Args:
        reader: reads pixels or latents; None where only the planner's own reading counts.
        rules: when to close, where, and how far to go on.
        how: which reading counts when the planner brought one of its own.
        steps: targets per chunk, or None for the whole plan in one.
        cameras: the views the weights know, or None when the planner's own reading is all that counts.
        latent_space: name of the latents that the reader wants of the plan, or None.
        anchor: by what the closing of the gripper is moved onto the thing there; None: not at all.
        segment: name of the thing's mask, for the anchor 'segment'.
        regrasp: how often a grasp that took nothing is tried again within a plan; 0: it is not looked after.
        goals: reads the present image against the frames of a plan, for the closed loop; None: the loop is open.
    """

    def __init__(
        self,
        reader: FrameReader | None,
        *,
        rules: WaypointRules,
        how: Fuse = "variance",
        steps: int | None = None,
        cameras: tuple[str, ...] | None = None,
        latent_space: str | None = None,
        anchor: Source | None = None,
        segment: str = "object",
        regrasp: int = 0,
        goals: GoalReader | None = None,
    ) -> None:
        self._reader = reader
        self._rules = rules
        self._how: Fuse = how
        self._steps = STEPS if steps is None and goals is not None else steps
        self._goals = goals
        self._anchor: Source | None = anchor
        self._segment = segment
        self._regrasp = regrasp
        self._needs = Needs(
            cameras=cameras,
            latent_space=latent_space,
            depth=anchor is not None,
            extrinsics=anchor is not None,
            segmentation=anchor == "segment",
        )
        self._progress: _Progress | None = None

    @property
    def needs(self) -> Needs:
        """The camera views and the latents its weights know."""
        return self._needs

    @property
    def produces(self) -> ActionSpace:
        """Absolute end-effector poses in the base frame."""
        return ActionSpace()

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return one reading per frame, combined with the planner's own if the plan has one.

        Raises:
            IncompatibleError: the plan looks through a camera that the weights do not know.
        """
        own = plan.readout
        if own is not None and SOURCE in own.source:
            return own
        pixels = self._reader.read(plan, observation) if self._reader is not None else None
        return fuse(pixels, own, self._how)

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        """Return the plan's targets, all at once or the next `steps` of them; none when the plan is exhausted.

        Raises:
            IncompatibleError: as `read`.
        """
        progress = self._progress
        if progress is None or progress.plan_id != plan.plan_id:
            self._progress = progress = self._begin(plan, observation)
        elif progress.retry is not None and (way := progress.retry.way(observation, plan.camera)) is not None:
            progress.waypoints, progress.next = way, 0
        elif progress.next < len(progress.waypoints):
            progress.next = _ahead(progress.waypoints, progress.next, observation.arm.position_m)
        start, total = progress.next, len(progress.waypoints)
        clears = progress.retry is not None and progress.retry.clears
        progress.next = total if self._steps is None or clears else min(start + self._steps, total)
        return self._chunk(progress, start, progress.next, plan, observation)

    @property
    def watch_hz(self) -> float | None:
        """How often it wants to look [Hz]: while a grasp is looked after or the loop is closed, else not at all."""
        progress = self._progress
        if progress is not None and progress.retry is not None and progress.retry.watches:
            return GRASP_HZ
        return WATCH_HZ if progress is not None and progress.loop is not None else None

    def watch(self, plan: VideoPlan, observation: Observation) -> Watched:
        """Say whether the grasp under way took something, and in a closed loop how far the plan has got.

        After 'again' the next chunk opens the fingers, and the one after it closes them once more.
        """
        progress = self._progress
        if progress is None or progress.plan_id != plan.plan_id:
            return Watched(verdict="on")
        word = Watched(verdict="on") if progress.retry is None else progress.retry.watch(observation, plan.camera)
        if progress.loop is None:
            return word
        present = progress.loop.present(progress.loop.look(observation), observation)
        return replace(word, progress=round(present.progress, 4), spread=round(present.spread, 4))

    def _begin(self, plan: VideoPlan, observation: Observation) -> _Progress:
        readout = self.read(plan, observation)
        trust = 1 / (1 + (readout.position_std_m / CONFIDENT_STD_M) ** 2)
        image = None if self._anchor is None else observation.image(plan.camera)
        anchors = (
            anchored(readout.position_m, readout.opening, image, self._rules, self._anchor, self._segment)[1]
            if image is not None and self._anchor is not None
            else []
        )
        grasps = Grasps(readout.position_m, readout.opening, tuple(anchors), self._anchor, self._segment)
        waypoints = plan_waypoints(grasps.path(), readout.opening, self._rules)
        retry = Retry(self._regrasp, self._rules, grasps, waypoints, image) if self._regrasp else None
        loop = None
        if self._goals is not None:
            loop = ClosedLoop(self._goals.goals(plan, observation), plan, readout)
        return _Progress(plan.plan_id, waypoints, trust, readout.source, grasps, retry, loop)

    def _chunk(
        self, progress: _Progress, start: int, stop: int, plan: VideoPlan, observation: Observation
    ) -> ActionChunk:
        part = progress.waypoints.part(start, stop)
        part, closed = self._seen_from_here(progress, part, observation)
        weights = self._reader.weights if self._reader is not None else None
        orientation = quaternion_wxyz(observation.arm.T_base_ee[:3, :3])
        return ActionChunk(
            values=np.hstack([part.position_m, np.tile(orientation, (len(part), 1))]),
            gripper=part.gripper,
            times_s=part.times_s,
            hold_s=part.hold_s,
            tolerance_m=part.tolerance_m,
            confidence=progress.trust[part.frame],
            space=self.produces,
            final=stop >= len(progress.waypoints) and not (progress.retry is not None and progress.retry.clears),
            provenance={
                "extractor": "idm",
                "plan_id": plan.plan_id,
                "readout": progress.source,
                "targets": [start, stop, len(progress.waypoints)],
                "frames": [int(f) for f in part.frame],
                **({} if weights is None else {"weights": weights}),
                **({} if progress.retry is None else {"tries_again": progress.retry.tries}),
                **closed,
            },
        )

    def _seen_from_here(
        self, progress: _Progress, part: Waypoints, observation: Observation
    ) -> tuple[Waypoints, dict[str, Any]]:
        """In a closed loop: the next targets put right by what is seen now, and what to note about it."""
        clears = progress.retry is not None and progress.retry.clears
        if progress.loop is None or clears or not len(part):
            return part, {}
        grasps = progress.grasps if progress.retry is None else progress.retry.grasps
        part, present, spreads = progress.loop.corrected(
            part, observation, held_to=grasps.held_to(), floor_m=self._rules.floor_m
        )
        return part, {
            "progress": round(present.progress, 4),
            "progress_spread": round(present.spread, 4),
            "present_frame": present.frame,
            "target_std_m": [round(spread, 4) for spread in spreads],
        }


def _ahead(waypoints: Waypoints, cursor: int, hand_m: Floats) -> int:
    """Skip targets the hand has passed, but never one at which the gripper changes or waits."""
    stop = cursor
    while stop < min(cursor + LOOK_FORWARD, len(waypoints) - 1):
        changes = waypoints.gripper[stop] != waypoints.gripper[stop + 1]
        if changes or waypoints.hold_s[stop] > 0:
            break
        stop += 1
    if stop <= cursor:
        return cursor
    distance = np.linalg.norm(waypoints.position_m[cursor : stop + 1] - hand_m, axis=1)
    return cursor + int(np.argmin(distance))


def quaternion_wxyz(R: Floats) -> Floats:
    """Return the unit quaternion (w, x, y, z), w not negative, of a rotation matrix."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(R).as_quat()
    result: Floats = np.array([w, x, y, z], np.float64)
    return -result if w < 0 else result
