"""The paths in a plan, read by the installed extractors in the scene the plan was made for. Nothing moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from cascade.config import RunConfig
from cascade.contracts import ActionChunk, ActionExtractor, EeReadout, Observation, PlanReader, VideoPlan
from cascade.contracts.errors import IncompatibleError
from cascade.contracts.interfaces import Rig
from cascade.contracts.records import Limits
from cascade.metrics.arrays import Floats
from cascade.plugins import build_plugin

MAX_CHUNKS = 24
HELD_OPENING = 0.5  # what a closed gripper with something in it is taken to measure


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What the cameras saw when a plan was made, and what the arm may do."""

    observation: Observation
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """All targets read in a plan: (H, 3) positions, (H,) gripper openings, (H,) nominal times."""

    position_m: Floats
    gripper: Floats
    times_s: Floats


def look(run: RunConfig) -> Scene:
    """Rebuild the scene of a run in simulation and look at it.

    Raises:
        IncompatibleError: the rig is a real one, which would move when it is reset, or the task is unknown.
        CascadeError: the rig cannot be built.
    """
    rig: Rig = build_plugin("rig", run.rig.plugin, run.rig.options)
    if rig.monitor is None:
        raise IncompatibleError(
            f"rig {run.rig.name!r}: expected a simulated one, found one whose reset would move an arm.",
            "Scores that need the scene are left out.",
        )
    if run.task is None:
        raise IncompatibleError("run: expected the task of its scene, found none.")
    with rig:
        rig.reset(task=run.task, seed=run.seed)
        return Scene(observation=rig.observe(), limits=rig.arm.spec.limits)


@contextmanager
def extractor(name: str, run: RunConfig | None) -> Iterator[ActionExtractor]:
    """Build an extractor, with the run's options where the run used it, and close it afterwards."""
    options = {}
    if run is not None:
        stages = [run.recipe.extractor, run.recipe.reader]
        options = next((dict(s.options) for s in stages if s is not None and s.name == name), {})
    built: ActionExtractor = build_plugin("extractor", name, options)
    try:
        yield built
    finally:
        close = getattr(built, "close", None)
        if callable(close):
            close()


def read_hand(built: ActionExtractor, plan: VideoPlan, scene: Scene) -> EeReadout:
    """Return what an extractor that is a reader too sees of the hand in a plan's pixels.

    Raises:
        IncompatibleError: it reads no hands, or not through this camera.
    """
    if not isinstance(built, PlanReader):
        raise IncompatibleError("extractor: expected one that reads the hand, found one that does not.")
    return built.read(plan.pixels_only(), scene.observation)


def dry_run(built: ActionExtractor, plan: VideoPlan, scene: Scene) -> Targets:
    """Return all targets of a plan as if every one were reached and the handled object could not be seen meanwhile.

    An extractor that waits to see its object move would start over; what it says from then on is not part of the plan.

    Raises:
        CascadeError: whatever the extractor raises.
    """
    observation = scene.observation
    chunks: list[ActionChunk] = []
    left: list[str] = []
    for _ in range(MAX_CHUNKS):
        chunk = built.extract(plan, observation)
        phase = str(chunk.provenance.get("phase", ""))
        if phase and phase in left[:-1] and phase != left[-1]:
            break
        left.append(phase)
        chunks.append(chunk)
        if chunk.final or not len(chunk):
            break
        observation = _after(observation, chunk, plan.camera)
    start = [0.0, *np.cumsum([float(c.times_s[-1] + np.asarray(c.hold_s)[-1]) for c in chunks if len(c)])]
    filled = [c for c in chunks if len(c)]
    if not filled:
        raise IncompatibleError("extractor: expected targets, found none in this plan.")
    return Targets(
        position_m=np.concatenate([c.values[:, :3] for c in filled]),
        gripper=np.concatenate([c.gripper for c in filled]),
        times_s=np.concatenate([c.times_s + t for c, t in zip(filled, start, strict=False)]),
    )


def _after(observation: Observation, chunk: ActionChunk, camera: str) -> Observation:
    T = np.array(observation.arm.T_base_ee)
    T[:3, 3] = chunk.values[-1, :3]
    opening = float(chunk.gripper[-1]) if chunk.gripper[-1] > HELD_OPENING else HELD_OPENING
    image = replace(observation.image(camera), segment_names={})
    arm = replace(observation.arm, T_base_ee=T, gripper_opening=opening)
    return Observation(images={**observation.images, camera: image}, arm=arm)
