"""`cascade replay`: an earlier run once more, from its stored plan or from the beginning."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class From(StrEnum):
    """Which stage is the first to work again."""

    PLAN = "plan"
    EXTRACT = "extract"


def replay(
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of a plan.")],
    from_: Annotated[From, typer.Option("--from", help="extract: keep the plan; plan: imagine again.")] = From.EXTRACT,
    number: Annotated[int, typer.Option("--plan", min=0, help="Which plan of the run, when it made several.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Another layout than the stored one.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Read the plan with another recipe.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as extractor.options.dig_m=0.02.")
    ] = None,
    runs: Annotated[Path, typer.Option(envvar="CASCADE_RUNS", help="Folder for run folders.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Run the stored plan of an earlier run on the same scene; leaves a run folder of its own.

    Example:
        cascade replay runs/20261120-120000-door-open-unipi --recipe avdc
    """
    from cascade.cli.display import Narrator, finish
    from cascade.compose import execute
    from cascade.config import load_run, override_run
    from cascade.contracts.errors import ConfigError
    from cascade.stages import stored_run

    overrides = settings or []
    if from_ is From.PLAN:
        if recipe is not None or number:
            raise ConfigError("--from plan: expected no --recipe and no --plan.", "Use cascade run for another recipe.")
        chosen = override_run(load_run(run / "config.yaml"), overrides)
        chosen = chosen if seed is None else chosen.model_copy(update={"seed": seed})
    else:
        chosen = stored_run(run, recipe=recipe, seed=seed, number=number, overrides=overrides)
    result = execute(chosen, runs=runs, command=shlex.join(["cascade", *sys.argv[1:]]), listener=Narrator())
    finish(result, as_json=as_json, task=chosen.task, seed=chosen.seed)
