"""`cascade plan` and `cascade extract`: one stage of the cascade at a time, files in between."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

Task = Annotated[str | None, typer.Option(help="Simulated task; else found in the words.")]
Rig = Annotated[str, typer.Option(help="Rig by name, or its YAML file.")]
Recipe = Annotated[str, typer.Option(help="Recipe by name, or its YAML file.")]
Seed = Annotated[int, typer.Option(min=0, help="Layout of the scene, and seed of the plan.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as gate.motion=false.")]
Budget = Annotated[
    str | None, typer.Option(metavar="TIME", help="Most time from picture to targets, such as 500ms; else as wanted.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def plan(
    instruction: Annotated[str, typer.Argument(help='What to do, in words, such as "open the door".')],
    task: Task = None,
    rig: Rig = "sim",
    recipe: Recipe = "unipi",
    planner: Annotated[str | None, typer.Option(help="Planner instead of the recipe's, such as oracle.")] = None,
    seed: Seed = 0,
    settings: Settings = None,
    budget: Budget = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the plan.")] = None,
    runs: Annotated[Path, typer.Option(envvar="CASCADE_RUNS", help="Where plans go without -o.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Imagine the task and write the plan (plan.safetensors, plan.mp4, config.yaml); nothing moves.

    Examples:
        cascade plan "open the door" --seed 3

        cascade plan "open the door" --recipe best-of-n --budget 500ms
    """
    from cascade.cli.budget import fit_budget, keep_budget
    from cascade.compose import compose
    from cascade.contracts.errors import ConfigError
    from cascade.recorder import new_run_folder
    from cascade.stages import imagine

    run, _ = compose(
        instruction=instruction,
        task=task,
        seed=seed,
        rig=rig,
        recipe=recipe,
        planner=planner,
        overrides=settings or [],
    )
    if output is not None and (output / "plan.safetensors").exists():
        raise ConfigError(f"{output}: expected no plan there, found one.", "Choose another folder with -o.")
    run, fit = fit_budget(run, budget)
    folder = output or new_run_folder(runs, f"plan-{task or instruction}", run.recipe.name)
    made, report = imagine(run, folder)
    keep_budget(fit, folder)
    if as_json:
        document = {
            "schema_version": 1,
            "plan": str(folder),
            "plan_id": made.plan_id,
            "frames": len(made),
            "gate": report,
            "budget": fit.values() if fit is not None else None,
            "provenance": made.provenance,
        }
        typer.echo(json.dumps(document, indent=2, default=str))
    else:
        typer.echo(str(folder))
    typer.echo(f"{len(made)} frames, gate: {report['verdict']}. See {folder}/plan.mp4", err=True)
    typer.echo(f"Next: cascade extract {shlex.quote(str(folder))}", err=True)


def extract(
    plan: Annotated[Path, typer.Argument(help="Folder of a plan or run, or a video (needs --task).")],
    instruction: Annotated[str, typer.Option(help="The sentence, when PLAN does not know it.")] = "",
    task: Task = None,
    rig: Rig = "sim",
    recipe: Annotated[str | None, typer.Option(help="Recipe whose extractor reads; else the one stored there.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Layout of the scene; else the one stored there.")] = None,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it here too.")] = None,
) -> None:
    """Read the motion in a plan and print the action chunk with the gate's verdict as JSON; nothing moves.

    Examples:
        cascade extract runs/20261120-120000-door-open-unipi

        cascade extract video.mp4 --task door-open --recipe avdc
    """
    from cascade.contracts.errors import ConfigError
    from cascade.stages import read_motion, stored_run

    run = stored_run(
        plan, instruction=instruction, task=task, rig=rig, recipe=recipe, seed=seed, overrides=settings or []
    )
    document = {"schema_version": 1, "plan": str(plan), **read_motion(run)}
    text = json.dumps(document, indent=2, default=str)
    if output is not None:
        try:
            output.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written ({error.strerror}).", "Choose another file.") from error
    typer.echo(text)
    typer.echo(f"{len(document['values'])} targets, gate: {document['gate']['verdict']}.", err=True)
    command = ["cascade", "run", run.instruction or "...", "--planner", "file", "--plan", str(plan)]
    command += ["--task", run.task, "--seed", str(run.seed)] if run.task else []
    typer.echo(f"Next: {shlex.join(command)}", err=True)
