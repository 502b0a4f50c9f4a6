"""`cascade study`: several arms over the same scenes, compared no further than the numbers allow."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.progress import episodes_bar


class Launcher(StrEnum):
    """Where episodes run."""

    POOL = "pool"
    RAY = "ray"
    SLURM = "slurm"


def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study's YAML file, or the name of a packaged one.")],
    launcher: Annotated[Launcher, typer.Option(help="Processes of this machine, Ray, or Slurm.")] = Launcher.POOL,
    launcher_settings: Annotated[
        list[str] | None, typer.Option("--launcher-set", metavar="KEY=VALUE", help="Such as address=auto for Ray.")
    ] = None,
    layouts: Annotated[
        list[str] | None, typer.Option("--layouts", metavar="CLOCK=N", help="Layouts per task instead of the study's.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Workers; use 1 where real time is measured.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study in --output.")] = False,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Run nothing; evaluate what --output holds.")] = False,
    runs: Annotated[Path, typer.Option(envvar="CASCADE_RUNS", help="Where results go without -o.")] = Path("runs"),
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Write SVG plots beside the result.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Compare arms on shared scenes: planners crossed with extractors, and policies beside them.

    Every episode is a line of episodes.jsonl; an interrupted study goes on with --resume, --evaluate tells what there
    is. The word "better" appears where an exact paired test, adjusted for the number of comparisons, and a bootstrap
    interval both allow it.

    Examples:
        cascade study imagination --jobs 2 -o runs/imagination

        cascade study imagination --layouts frozen=1 -o runs/imagination

        cascade study my-study.yaml --launcher ray --jobs 2 -o runs/mine --resume
    """
    from rich.console import Console

    from cascade.config import Loaded, override
    from cascade.contracts.errors import ConfigError
    from cascade.recorder import new_run_folder
    from cascade.study.config import load_study
    from cascade.study.plots import write_plots
    from cascade.study.session import run_study
    from cascade.study.table import markdown, show

    chosen = load_study(study, override(Loaded({}), layouts or []).values)
    if (resume or evaluate) and output is None:
        option = "--evaluate" if evaluate else "--resume"
        raise ConfigError(f"{option}: expected --output DIR with a study, found none.", "Add -o DIR.")
    options = override(Loaded({}), launcher_settings or []).values
    folder = output or new_run_folder(runs, "study", chosen.name)
    try:
        with episodes_bar(f"study {chosen.name}", len(chosen.jobs()), _tell) as on_row:
            result = run_study(
                chosen,
                folder,
                launcher=launcher.value,
                options=options,
                jobs=jobs,
                resume=resume or evaluate,
                only_evaluate=evaluate,
                on_row=on_row,
            )
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. Go on with the same command and: --resume -o {shlex.quote(str(folder))}", err=True)
        raise typer.Exit(130) from None
    (folder / "result.md").write_text(markdown(result), encoding="utf-8")
    show(result, Console(stderr=True))
    drawn = write_plots(result, folder / "plots") if plots else []
    typer.echo(json.dumps(result, indent=2) if as_json else str(folder))
    named = ", ".join(["episodes.jsonl", "result.json", "result.md", *(f"plots/{path.name}" for path in drawn)])
    typer.echo(f"In {folder}: {named}", err=True)


def _tell(row: Mapping[str, Any]) -> tuple[str, str]:
    return "", f"{row['arm']} {row['task']} {row['seed']}"
