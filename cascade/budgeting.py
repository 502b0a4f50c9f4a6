"""Timing the stages of a run on its own scene, to fit them into a latency budget; nothing moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from cascade.budget import FRAME_STEP, REPEATS, Fit, Setting, Timing, applied, clocked, fit, wanted_setting
from cascade.compose import with_task
from cascade.config import RunConfig, resolved
from cascade.contracts.errors import ConfigError
from cascade.contracts.interfaces import EpisodeAware, Rig
from cascade.contracts.records import ActionChunk, Observation
from cascade.imagining import imagine
from cascade.pipeline import build_stages, check_compatible, closing
from cascade.plugins import build_plugin


def within(run: RunConfig, budget_ms: float) -> tuple[RunConfig, Fit]:
    """Return the run with steps, frames, samples and chunk length that fit into a budget, and how they were found.

    Raises:
        ConfigError: it cannot be done, or the recipe searches a tree, whose time has no such model.
        CascadeError: a stage fails, or does not fit the rig.
    """
    if run.recipe.sampling.search is not None:
        raise ConfigError(
            f"--budget: expected a recipe of plain samples, found the search of {run.recipe.name!r}.",
            "Lower sampling.samples or sampling.search.beam by hand.",
        )
    rig: Rig = build_plugin("rig", run.rig.plugin, run.rig.options)
    with rig:
        run = with_task(run, rig)
        rig.reset(task=run.task, seed=run.seed)
        observation = rig.observe()
        options = changeable(run)
        known = _known(run, options, observation)
        wanted = wanted_setting(run, options, known)
        found = fit(
            budget_ms,
            wanted,
            lambda setting: _timing(run, rig, observation, setting),
            least_targets=run.recipe.execution.receding_targets,
            frame_step=int(known.get("frame_step") or FRAME_STEP),
        )
    return applied(run, found), found


def changeable(run: RunConfig) -> dict[str, Any]:
    """Resolved options of the planner; without steps and frames where latents are read, which change with both."""
    options: dict[str, Any] = dict(resolved(run)["recipe"]["planner"]["options"])
    extractor = build_plugin("extractor", run.recipe.extractor.name, run.recipe.extractor.options)
    with closing(extractor):
        if extractor.needs.latent_space is not None:
            options.pop("steps", None)
            options.pop("num_frames", None)
    return options


def _known(run: RunConfig, options: dict[str, Any], observation: Observation) -> dict[str, Any]:
    """What a plan says of its steps and frames, where the recipe leaves them open or legal counts have a form."""
    open_steps = options.get("steps", 0) is None
    if not open_steps and "num_frames" not in options:
        return {}
    planner = build_plugin("planner", run.recipe.planner.name, run.recipe.planner.options)
    with closing(planner):
        if isinstance(planner, EpisodeAware) and run.task is not None:
            planner.begin(task=run.task, seed=run.seed)
        return dict(planner.plan(observation, run.instruction, seed=run.seed)[0].provenance)


def _timing(run: RunConfig, rig: Rig, observation: Observation, setting: Setting) -> Timing:
    """Time one setting: the middle of some calls after one that warms up."""
    trial = applied(run, Fit(budget_ms=0, setting=setting, predicted_ms=0, measured_ms=0, receding_targets=1))
    stages = build_stages(trial.recipe)
    try:
        check_compatible(rig, stages)
        if isinstance(stages.planner, EpisodeAware) and run.task is not None:
            stages.planner.begin(task=run.task, seed=run.seed)
        plans, reads = [], []
        chunk: ActionChunk | None = None
        for _ in range(1 + REPEATS):
            ms: dict[str, float] = {}

            @contextmanager
            def timed(name: str, stage: str, ms: dict[str, float] = ms) -> Iterator[None]:
                with clocked(ms, "plan" if name == "plan" else "read"):
                    yield

            imagined = imagine(
                stages,
                observation,
                observation,
                run.instruction,
                seed=run.seed,
                limits=rig.arm.spec.limits,
                timed=timed,
                pixels=run.recipe.gate.first_frame or run.recipe.gate.motion,
            )
            with clocked(ms, "read"):
                chunk = imagined.chunk or stages.extractor.extract(imagined.plan, observation)
            plans.append(ms["plan"])
            reads.append(ms["read"])
    finally:
        stages.close()
    return Timing(plan_ms=median(plans[1:]), read_ms=median(reads[1:]), chunk=chunk)
