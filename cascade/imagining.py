"""From what is seen to a plan ready to run: imagine one future or several, decode, read, choose.

Nothing here touches the rig or the record, so that it may run in a thread while the arm moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.best_of import Choice, choose
from cascade.contracts.errors import IncompatibleError
from cascade.contracts.records import ActionChunk, Limits, Observation, VideoPlan
from cascade.pipeline import Stages
from cascade.search import search

Timer = Callable[[str, str], AbstractContextManager[None]]  # (name, stage)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imagined:
    """A plan ready to run.

    Attributes:
        plan: the only one, or the best.
        chunk: its first targets where they are known already, or None.
        choice: how it was chosen, None where there was nothing to choose.
        made_ms: what the planner says of its own stages [ms].
    """

    plan: VideoPlan
    chunk: ActionChunk | None
    choice: Choice | None
    made_ms: dict[str, float]


def imagine(
    stages: Stages,
    seen: Observation,
    observation: Observation,
    instruction: str,
    *,
    seed: int,
    limits: Limits,
    timed: Timer,
    pixels: bool,
    failed: Sequence[NDArray[np.float64]] = (),
) -> Imagined:
    """Return a plan ready to run.

    Args:
        stages: of the recipe.
        seen: what the planner plans from.
        observation: what is the case; the same, but for controls that plan from another layout.
        instruction: what to do.
        seed: of the plans.
        limits: of the arm.
        timed: measures each stage.
        pixels: whether somebody will look at the frames.
        failed: ways of plans that failed in this episode.

    Raises:
        CascadeError: a stage failed, or they do not fit together.
    """
    sampling = stages.recipe.sampling
    with timed("plan", "planner"):
        if sampling.search is not None:
            plans = search(stages, seen, instruction, seed=seed, limits=limits)
        else:
            plans = stages.planner.plan(seen, instruction, seed=seed, samples=sampling.samples)
    made_ms = {name: float(ms) for name, ms in dict(plans[0].provenance.get("ms") or {}).items()}
    for plan in plans:
        _check_fits(stages, plan, observation)
    if pixels and not all(plan.decoded for plan in plans):
        with timed("decode", "planner"):
            _ = [plan.frames for plan in plans]
    if stages.reader is not None:
        with timed("readout", "readout"):
            for plan in plans:
                plan.readout = stages.reader.read(plan, observation)
    if len(plans) == 1:
        return Imagined(plan=plans[0], chunk=None, choice=None, made_ms=made_ms)
    with timed("choose", "extract"):
        choice = choose(stages, plans, observation, limits, failed)
    best = choice.best.plan
    best.provenance["choice"] = choice.values()
    return Imagined(plan=best, chunk=choice.first_chunk, choice=choice, made_ms=made_ms)


def _check_fits(stages: Stages, plan: VideoPlan, observation: Observation) -> None:
    observation.image(plan.camera)
    wanted = stages.extractor.needs.latent_space
    found = plan.latents.space if plan.latents is not None else None
    if wanted is not None and wanted != found:
        raise IncompatibleError(
            f"extractor {stages.recipe.extractor.name!r} reads latents of {wanted!r} and planner "
            f"{stages.recipe.planner.name!r} gives {found or 'none'}.",
            "Use the planner that the extractor was trained for.",
        )
