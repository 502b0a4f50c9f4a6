"""Putting a run together from names and flags, and carrying it out with its run folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade.config import Loaded, RunConfig, find_config, load_yaml, override, resolved, run_key, to_yaml, validated
from cascade.consent import Confirm, Consent, Policy, Proposal, require_terminal
from cascade.contracts.errors import ConfigError
from cascade.contracts.hardware import Hardware, HardwareRig
from cascade.contracts.interfaces import Rig
from cascade.events import Both, Recorder
from cascade.interrupt import StopRequest, stop_on_signals
from cascade.outcome import EpisodeResult
from cascade.pipeline import Stages, build_stages, check_compatible
from cascade.plugins import build_plugin
from cascade.recorder import RunRecorder, new_run_folder
from cascade.runtime import run_episode

Ask = Callable[[Rig, Consent | None], Confirm | None]


def compose(
    *,
    instruction: str,
    task: str | None,
    seed: int,
    rig: str,
    recipe: str,
    planner: str | None = None,
    overrides: Iterable[str] = (),
) -> tuple[RunConfig, dict[str, str]]:
    """Put a run together from names and flags.

    Args:
        instruction: what to do, in words.
        task: simulated task, or None.
        seed: of the layout and of the plans.
        rig: name or path of the rig's configuration.
        recipe: name or path of the recipe.
        planner: planner plug-in that takes the place of the recipe's, with default options.
        overrides: `key=value` texts; keys begin with rig., planner., extractor., reader., execution. or gate.

    Returns:
        The run and where each value that is not a default came from.
    """
    rig_file, recipe_file = load_yaml(find_config("rigs", rig)), load_yaml(find_config("recipes", recipe))
    values = {
        "instruction": instruction,
        "task": task,
        "seed": seed,
        "rig": rig_file.values,
        "recipe": recipe_file.values,
    }
    origin = {"instruction": "command line", "task": "command line", "seed": "command line"}
    origin |= {f"rig.{key}": value for key, value in rig_file.origin.items()}
    origin |= {f"recipe.{key}": value for key, value in recipe_file.origin.items()}
    current = recipe_file.values.get("planner")
    if planner is not None and not (isinstance(current, dict) and current.get("name") == planner):
        values["recipe"] = recipe_file.values | {"planner": {"name": planner}}
        origin = {key: value for key, value in origin.items() if not key.startswith("recipe.planner.")}
        origin["recipe.planner.name"] = "--planner"
    loaded = override(Loaded(values, origin), [run_key(text) for text in overrides])
    return validated(RunConfig, loaded, ""), loaded.origin


def execute(
    run: RunConfig,
    *,
    runs: Path = Path("runs"),
    command: str = "",
    listener: Recorder | None = None,
    move: bool = False,
    policy: Policy = Policy.FIRST,
    ask: Ask | None = None,
) -> EpisodeResult:
    """Carry out one run and return how it ended; SIGINT and SIGTERM end it with the arm holding.

    Args:
        run: from `compose` or `load_run`.
        runs: folder that the run folder is made in.
        command: how the run was asked for, for the record.
        listener: also told what happens, such as a display.
        move: whether a real arm may move, after consent; simulated and loopback rigs always do.
        policy: how often consent is asked.
        ask: who is asked instead of the terminal; of simulated rigs too, unless it returns None.

    Raises:
        CascadeError: something is wrong before anything moves. Errors of stages are in the result.
    """
    resolved(run)  # a wrong option of any plug-in is told before weights are loaded
    with stop_on_signals() as stop:
        rig: Rig = build_plugin("rig", run.rig.plugin, run.rig.options)
        hardware = rig.hardware if isinstance(rig, HardwareRig) else None
        if isinstance(rig, HardwareRig) and (move or hardware is None):
            if hardware is not None and ask is None:
                require_terminal(policy)
            rig.permit_motion()
        stages = build_stages(run.recipe)
        try:
            with rig:
                run = with_task(run, rig)
                check_compatible(rig, stages)
                recorder = _recorder(run, rig, runs, command)
                confirm: Confirm | None = None
                if ask is not None and (move or hardware is None):
                    speed = float(run.rig.options.get("speed", 1.0))
                    confirm = ask(
                        rig, Consent(hardware, rig.arm.spec.limits, policy, speed=speed) if hardware else None
                    )
                elif move and hardware:
                    confirm = _asking(run, rig, hardware, policy, recorder.folder)
                return _recorded(
                    run, rig, stages, recorder, listener, stop, execute=move or hardware is None, confirm=confirm
                )
        finally:
            stages.close()


def _asking(run: RunConfig, rig: Rig, hardware: Hardware, policy: Policy, folder: Path) -> Confirm:
    """Return who is asked for consent, with the imagined clip of this run's folder."""
    speed = float(run.rig.options.get("speed", 1.0))
    consent = Consent(hardware, rig.arm.spec.limits, policy, speed=speed)

    def confirm(proposal: Proposal) -> bool:
        clip = folder / "plans" / f"{proposal.plan:03d}" / "plan.mp4"
        return consent(replace(proposal, clip=clip if proposal.chunk is not None and clip.is_file() else None))

    return confirm


def _recorded(
    run: RunConfig,
    rig: Rig,
    stages: Stages,
    recorder: RunRecorder,
    listener: Recorder | None,
    stop: StopRequest,
    *,
    execute: bool,
    confirm: Confirm | None,
) -> EpisodeResult:
    try:
        result = run_episode(
            rig,
            stages,
            instruction=run.instruction,
            task=run.task,
            seed=run.seed,
            recorder=Both(recorder, listener) if listener is not None else recorder,
            stop=stop,
            execute=execute,
            confirm=confirm,
        )
    except BaseException:
        recorder.close()  # the record itself cannot be written, as on a full disk; the arm holds
        raise
    stop.finishing = True
    recorder.finish(
        outcome=result.outcome,
        verdict=result.verdict,
        failure_stage=result.failure_stage,
        success=result.success,
        steps=result.steps,
        plans=result.plans,
        rig_description=dict(rig.describe()),
    )
    return replace(result, run_dir=str(recorder.folder))


def with_task(run: RunConfig, rig: Rig) -> RunConfig:
    """Return the run with its task filled in: as given, or the one the rig finds in the instruction.

    Raises:
        ConfigError: the rig has tasks and the instruction names none of them.
    """
    find = getattr(rig, "scene_for", None)
    if run.task is not None or not callable(find) or rig.monitor is None:  # nothing judges what a real table shows
        return run
    task = find(run.instruction)
    if task is None:
        raise ConfigError(
            f"instruction {run.instruction!r}: rig {rig.name!r} cannot tell which of its scenes is meant.",
            "Name it with --task, for example --task door-open.",
        )
    return run.model_copy(update={"task": task})


def _recorder(run: RunConfig, rig: Rig, runs: Path, command: str) -> RunRecorder:
    recipe = run.recipe
    folder = new_run_folder(runs, run.task or run.instruction, recipe.name)
    facts: dict[str, Any] = {
        "command": command,
        "replay_command": shlex.join(["cascade", "replay", str(folder)]),
        "instruction": run.instruction,
        "task": run.task,
        "seed": run.seed,
        "rig": run.rig.name,
        "recipe": recipe.name,
        "planner": recipe.planner.name,
        "extractor": recipe.extractor.name,
        "reader": recipe.reader.name if recipe.reader else None,
        "rig_description": dict(rig.describe()),
    }
    return RunRecorder(
        folder,
        facts=facts,
        config=to_yaml(resolved(run)),
        control_hz=rig.arm.spec.control_hz,
        video_every=recipe.execution.video_every,
    )
