"""`cascade eval`: success rates with intervals, their control, latencies, failures by stage."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.progress import episodes_bar


class Control(StrEnum):
    """Conditions to compare with."""

    WRONG_LAYOUT = "wrong-layout"


def evaluate(
    suite: Annotated[str, typer.Argument(help="Suite of tasks, such as metaworld-11.")],
    recipe: Annotated[str, typer.Option(help="Recipe by name, or its YAML file.")] = "unipi",
    planner: Annotated[str | None, typer.Option(help="Planner instead of the recipe's, such as oracle.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks of the suite, separated by commas.")] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="Layouts per task instead of the suite's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="First layout instead of the suite's.")] = None,
    cameras: Annotated[
        str | None, typer.Option(help="Views to plan through instead of the suite's; each gets all layouts.")
    ] = None,
    control: Annotated[Control | None, typer.Option(help="Plan from the first frame of another layout.")] = None,
    rig: Annotated[str, typer.Option(help="Rig by name, or its YAML file.")] = "sim",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as execution.replans=0.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; use 1 when latencies matter.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the evaluation in --output; it may get more --episodes.")
    ] = False,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Say why episodes failed, in failures.html with pictures (simulation).")
    ] = False,
    runs: Annotated[Path, typer.Option(envvar="CASCADE_RUNS", help="Where results go without -o.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Measure a recipe on a suite of tasks, over layouts that nothing was trained on.

    A suite says how many layouts, from which on, through which cameras and how the rig is set up; options change it.
    A rate says little without its control: run the same command with --control wrong-layout and compare.

    Examples:
        cascade eval metaworld-11 --recipe unipi --planner oracle --jobs 2

        cascade eval metaworld-11 --recipe unipi --control wrong-layout --jobs 2 --json

        cascade eval metaworld-11-avdc --recipe unipi --episodes 2 --seed 100 --jobs 2 --diagnose
    """
    from cascade.compose import compose
    from cascade.config import resolved
    from cascade.contracts.errors import ConfigError
    from cascade.evaluate import Evaluation, run_evaluation
    from cascade.recorder import new_run_folder
    from cascade.suites import find_suite, suite_settings, suite_tasks

    protocol = find_suite(suite)
    names = suite_tasks(suite, tasks)
    seed = protocol.seed if seed is None else seed
    overrides = [*suite_settings(protocol), *(settings or [])]
    run, _ = compose(instruction="", task=None, seed=seed, rig=rig, recipe=recipe, planner=planner, overrides=overrides)
    resolved(run)  # a wrong option is told before processes start
    if resume and output is None:
        raise ConfigError("--resume: expected --output DIR to go on with, found none.", "Add -o DIR.")
    evaluation = Evaluation(
        suite=suite,
        tasks=names,
        rig=run.rig,
        recipe=run.recipe,
        episodes=protocol.episodes if episodes is None else episodes,
        seed=seed,
        cameras=protocol.cameras if cameras is None else _names(cameras),
        control=control.value if control else None,
        diagnose=diagnose,
    )
    folder = output or new_run_folder(runs, f"eval-{suite}", run.recipe.name)
    try:
        with episodes_bar(f"eval {evaluation.recipe.name}", len(evaluation.jobs()), _counting()) as on_row:
            result = run_evaluation(evaluation, folder, jobs=jobs, resume=resume, on_row=on_row)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. Go on with the same command and: --resume -o {shlex.quote(str(folder))}", err=True)
        raise typer.Exit(130) from None
    _table(result)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        typer.echo(str(folder))
    typer.echo(f"Episodes: {folder}/episodes.jsonl", err=True)
    if diagnose:
        typer.echo(f"Why they failed: {folder}/failures.html", err=True)
    if control is None:
        typer.echo("Next: the same command with --control wrong-layout says what seeing the scene was worth.", err=True)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _counting() -> Callable[[Mapping[str, Any]], tuple[str, str]]:
    hits = 0

    def tell(row: Mapping[str, Any]) -> tuple[str, str]:
        nonlocal hits
        hits += bool(row["success"])
        return f"{hits} succeeded", f"{row['task']} {row['seed']}"

    return tell


def _camera_table(result: Mapping[str, Any]) -> Any:
    from rich.table import Table

    cameras = result["by_camera"]
    table = Table(title="success by camera")
    for name in ("task", *cameras):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task in result["tasks"]:
        table.add_row(task, *(_hits(of["tasks"][task]) for of in cameras.values()))
    table.add_row("all", *(_hits(of["success"]) for of in cameras.values()))
    return table


def _hits(rate: Mapping[str, Any]) -> str:
    return f"{round(rate['rate'] * rate['n'])}/{rate['n']}"


def _table(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{result['suite']}: {result['recipe']} with planner {result['planner']}"
    table = Table(title=title + (f", control {result['control']}" if result["control"] else ""))
    for name in ("task", "success", "95 % interval", "episodes"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for name, row in [*result["tasks"].items(), ("all", result["success"])]:
        low, high = row["ci95"]
        table.add_row(name, f"{row['rate']:.0%}", f"{low:.0%} .. {high:.0%}", str(row["n"]))
    console = Console(stderr=True)
    console.print(table)
    if len(result["by_camera"]) > 1:
        console.print(_camera_table(result))
    times = Table(title="milliseconds per call")
    for name in ("stage", "p50", "p99"):
        times.add_column(name, justify="left" if name == "stage" else "right")
    for stage, values in result["latency_ms"].items():
        times.add_row(stage, f"{values['p50']:.1f}", f"{values['p99']:.1f}")
    console.print(times)
    if result["failures"]:
        console.print("failures by stage: " + ", ".join(f"{k} {v}" for k, v in result["failures"].items()))
    if result["diagnoses"]:
        console.print("why: " + ", ".join(f"{k} {v}" for k, v in result["diagnoses"].items()))
    for error in result["errors"][:3]:
        console.print(f"error: {error}", markup=False)
