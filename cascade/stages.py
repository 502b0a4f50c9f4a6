"""Single stages of the cascade on a scene: imagining only, reading only. Nothing moves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cascade.compose import compose, with_task
from cascade.config import RunConfig, StageConfig, load_recipe, load_run, override_run, resolved, to_yaml
from cascade.contracts.errors import ConfigError, DataError
from cascade.contracts.interfaces import EpisodeAware, Rig
from cascade.contracts.plan_file import load_plan, save_plan
from cascade.contracts.records import Observation, VideoPlan
from cascade.events import gate_values
from cascade.gate import check_chunk, check_plan
from cascade.imagining import imagine as sample
from cascade.pipeline import build_stages, check_compatible, check_needs, closing
from cascade.plugins import build_plugin
from cascade.recorder import chunk_values
from cascade.tiles import first_view


def imagine(run: RunConfig, folder: Path) -> tuple[VideoPlan, dict[str, Any]]:
    """Plan on the scene of a run, write plan and config.yaml into `folder`; return the plan and the gate's report.

    Raises:
        CascadeError: the planner cannot be built, does not fit the rig, or fails.
        ConfigError: `folder` cannot be written.
    """
    resolved(run)
    rig: Rig = build_plugin("rig", run.rig.plugin, run.rig.options)
    if run.recipe.sampling.samples > 1 or run.recipe.gate.calibration is not None:
        return _judged(run, rig, folder)
    planner = build_plugin("planner", run.recipe.planner.name, run.recipe.planner.options)
    with rig, closing(planner):
        check_needs(f"planner {run.recipe.planner.name!r}", planner.needs, rig)
        run = with_task(run, rig)
        observation = _look(rig, run, planner)
        plan: VideoPlan = planner.plan(observation, run.instruction, seed=run.seed)[0]
        report = gate_values(check_plan(first_view(plan), observation, run.recipe.gate))
    return _kept(plan, run, folder), report


def _judged(run: RunConfig, rig: Rig, folder: Path) -> tuple[VideoPlan, dict[str, Any]]:
    """As `imagine`, of a recipe that reads plans to choose or to judge one; so the extractor has to be built too."""
    stages = build_stages(run.recipe)
    try:
        with rig:
            check_compatible(rig, stages)
            run = with_task(run, rig)
            observation, limits = _look(rig, run, stages.planner), rig.arm.spec.limits
            made = sample(
                stages,
                observation,
                observation,
                run.instruction,
                seed=run.seed,
                limits=limits,
                timed=lambda name, stage: nullcontext(),
                pixels=True,
            )
            plan, reader = first_view(made.plan), stages.hand_reader
            report = gate_values(check_plan(plan, observation, run.recipe.gate, reader=reader, limits=limits))
    finally:
        stages.close()
    return _kept(made.plan, run, folder), report


def _kept(plan: VideoPlan, run: RunConfig, folder: Path) -> VideoPlan:
    """Write a plan and its configuration."""
    try:
        save_plan(plan, folder)
        (folder / "config.yaml").write_text(to_yaml(resolved(run)), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}).", "Choose another folder.") from error
    return plan


def read_motion(run: RunConfig) -> dict[str, Any]:
    """Return the chunk that the run's extractor reads in its plan, with the gate's report, as JSON values."""
    resolved(run)
    rig: Rig = build_plugin("rig", run.rig.plugin, run.rig.options)
    stages = build_stages(run.recipe)
    try:
        with rig:
            check_compatible(rig, stages)
            observation = _look(rig, run, stages.planner)
            plan = stages.planner.plan(observation, run.instruction, seed=run.seed)[0]
            if stages.reader is not None:
                plan.readout = stages.reader.read(plan, observation)
            chunk = stages.extractor.extract(plan, observation)
            report = check_chunk(chunk, observation.arm, rig.arm.spec.limits, run.recipe.gate)
    finally:
        stages.close()
    return {**chunk_values(chunk), "gate": gate_values(report)}


def _look(rig: Rig, run: RunConfig, planner: object) -> Observation:
    rig.reset(task=run.task, seed=run.seed)
    if isinstance(planner, EpisodeAware) and run.task is not None:
        planner.begin(task=run.task, seed=run.seed)
    return rig.observe()


def stored_run(
    plan: Path,
    *,
    instruction: str = "",
    task: str | None = None,
    rig: str = "sim",
    recipe: str | None = None,
    seed: int | None = None,
    number: int = 0,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Return the run that executes a stored plan: the file planner with the scene the plan was made for.

    Args:
        plan: run folder, plan folder, plan file or video.
        instruction: replaces the stored one.
        task: replaces the stored one; needed for videos, which store none.
        rig: for plans that store none.
        recipe: replaces the stored one, except for the planner.
        seed: replaces the stored one.
        number: which plan of a run folder.
        overrides: as `--set`.

    Raises:
        DataError: there is no plan.
        ConfigError: scene and sentence are unknown, or an option is wrong.
    """
    source = locate_plan(plan, number)
    config = _config_beside(source)
    if config is not None:
        run = load_run(config)
        if recipe is not None:
            run = run.model_copy(update={"recipe": load_recipe(recipe)})
    elif task is None:
        raise ConfigError(f"{plan}: a video does not say what scene it belongs to.", "Name it with --task.")
    else:
        run, _ = compose(instruction=instruction, task=task, seed=0, rig=rig, recipe=recipe or "unipi")
    given = {"instruction": instruction or None, "task": task, "seed": seed}
    options: dict[str, Any] = {"path": str(source.resolve())}
    if source.suffix != ".mp4":
        stored = load_plan(source)
        options |= {"camera": stored.camera, "size_px": stored.transform.size_px[0]}
        given["instruction"] = instruction or run.instruction or stored.instruction
    new_recipe = run.recipe.model_copy(update={"planner": StageConfig(name="file", options=options)})
    changes = {key: value for key, value in given.items() if value is not None}
    return override_run(run.model_copy(update={"recipe": new_recipe, **changes}), overrides)


def locate_plan(path: Path, number: int = 0) -> Path:
    """Return the file of a plan: of a run folder its plan `number`, of a plan folder its file, or the file itself.

    Raises:
        DataError: there is none.
    """
    for candidate in (path, path / "plan.safetensors", path / "plans" / f"{number:03d}" / "plan.safetensors"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{path}: expected a plan, a video or a run folder, found none.", "Check the path.")


def _config_beside(source: Path) -> Path | None:
    """The config.yaml of the plan's folder, or of the run folder it lies in."""
    places = (source.parent, source.parent.parent.parent)
    return next((folder / "config.yaml" for folder in places if (folder / "config.yaml").is_file()), None)
