"""`cascade train gate`: limits of the gate and `p_exec`, from plans good and spoiled, followed in simulation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer


def gate(
    suite: Annotated[str, typer.Argument(help="Suite of tasks, such as metaworld-11.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of trials and calibration.")],
    recipe: Annotated[str, typer.Option(help="Recipe by name, or its YAML file.")] = "unipi",
    rig: Annotated[str, typer.Option(help="Simulated rig by name, or its YAML file.")] = "sim",
    tasks: Annotated[str | None, typer.Option(help="Only these tasks of the suite, separated by commas.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Layouts per task; each has one good plan.")] = 10,
    spoils: Annotated[int, typer.Option(min=1, max=8, help="Spoiled plans per layout.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="First layout.")] = 100,
    demonstrations: Annotated[int, typer.Option(min=8, help="Layouts per task that the expert shows.")] = 40,
    target: Annotated[float, typer.Option(min=0.0, max=1.0, help="Success rate aimed at among accepted plans.")] = 0.9,
    value: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Weights of `cascade train value`; default: those shipped.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as planner.options.steps=4.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the session in --output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Fit the gate: the expert shows where hands go, plans are spoiled and followed, and what tells them is kept.

    Nothing real moves. The result holds for this planner, extractor and camera only.

    Example:
        cascade train gate metaworld-11 -o train/gate --episodes 10
        cascade run "close the door" --set gate.calibration=train/gate
    """
    from cascade.calibration_gate.session import Session, train_gate
    from cascade.compose import compose
    from cascade.config import resolved
    from cascade.contracts.errors import ConfigError, did_you_mean
    from cascade.suites import expand_tasks, find_suite, suite_settings

    protocol = find_suite(suite)
    names = protocol.tasks if tasks is None else tuple(expand_tasks(tasks))
    unknown = [name for name in names if name not in protocol.tasks]
    if unknown:
        raise ConfigError(f"task {unknown[0]!r}: not in suite {suite!r}.", did_you_mean(unknown[0], protocol.tasks))
    overrides = [*suite_settings(protocol), *(settings or [])]
    run, _ = compose(instruction="", task=None, seed=seed, rig=rig, recipe=recipe, overrides=overrides)
    resolved(run)
    cameras = list(run.rig.options.get("cameras", ["corner"]))
    session = Session(
        rig=run.rig,
        recipe=run.recipe,
        tasks=names,
        seeds=tuple(range(seed, seed + episodes)),
        spoils=spoils,
        demonstrations=demonstrations,
        camera=cameras[0],
        target=target,
        **({} if value is None else {"value": value}),
    )
    with _bars() as progress:
        calibration = train_gate(session, output, resume=resume, progress=progress)
    document = _document(calibration, output)
    for line in _lines(document):
        typer.echo(line, err=True)
    typer.echo(json.dumps(document, indent=2) if as_json else str(output))
    typer.echo(f"Next: cascade run ... --set gate.calibration={output}", err=True)


def _document(calibration: Any, output: Path) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "output": str(output),
        "weights": dict(calibration.weights),
        "fitted_on": dict(calibration.fitted_on),
        "min_p_exec": calibration.min_p_exec,
        "first_frame_db": calibration.first_frame_db,
        "tube_m": calibration.tube_m,
        "bounds": {bound.check: {"limit": bound.limit, "unit": bound.unit} for bound in calibration.bounds},
        "models": {model.name: dict(model.scores) for model in calibration.models},
    }


def _lines(document: dict[str, Any]) -> list[str]:
    fitted = document["fitted_on"]
    lines = [f"  {fitted['trials']} trials, {fitted['successes']} of them successes"]
    value = "not a cue: none is known for this camera" if fitted["value"] == "none" else fitted["value"]
    lines.append(f"  learned value: {value}")
    lines += [
        f"  p_exec, {name}: AUROC {scores['auroc']:.3f}, calibration error {scores['calibration_error']:.3f}"
        for name, scores in document["models"].items()
    ]
    lines.append(f"  plans run from p_exec {document['min_p_exec']:.2f} on")
    lines += [f"  {check}: limit {bound['limit']:g} {bound['unit']}" for check, bound in document["bounds"].items()]
    return lines


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar per part on stderr when it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:

        def progress(part: str, done: int, total: int) -> None:
            if part not in bars:
                bars[part] = shown.add_task(part, total=total)
            shown.update(bars[part], completed=done)

        yield progress
