"""`cascade inspect`: make the report of a run, or of two side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/2026-…")],
    other: Annotated[Path | None, typer.Argument(help="Another run: the two side by side.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the report here instead of RUN/report.html.")] = None,
    trial: Annotated[
        bool, typer.Option("--blame/--no-blame", help="Put every stage on trial first, where nobody has yet.")
    ] = True,
    rerun: Annotated[bool, typer.Option("--rerun", help="Also write RUN/run.rrd, for the Rerun viewer.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")] = False,
) -> None:
    """Make RUN/report.html: what was imagined beside what happened, which stage is at fault, and why.

    Examples:
        cascade inspect runs/20261120-120000-door-open-unipi --open

        cascade inspect runs/20261120-120000-door-open-unipi runs/20261120-130000-door-open-avdc
    """
    from cascade.report.compare import build_comparison
    from cascade.report.page import build_report

    for folder in (run, other) if other is not None else (run,):
        if trial and folder is not None:
            put_on_trial(folder)
    report = (build_report(run, output) if other is None else build_comparison(run, other, output)).resolve()
    recording = _recording(run) if rerun else None
    if json_:
        typer.echo(json.dumps(_document(run, report, recording), indent=2))
    else:
        typer.echo(str(report))
        if recording is not None:
            typer.echo(str(recording))
    if recording is not None:
        typer.echo(f"  Look at it: rerun --bind 127.0.0.1 {recording}", err=True)
    if open_:
        typer.launch(report.as_uri())


def put_on_trial(run: Path) -> None:
    """Write RUN/blame.json where there is none; a run that cannot be judged is told, and shown all the same."""
    from cascade.blame import blame, stored_blame
    from cascade.contracts import CascadeError
    from cascade.report.run_folder import read_facts

    if read_facts(run).get("status") != "done" or stored_blame(run) is not None:
        return
    from rich.console import Console

    try:
        with Console(stderr=True).status("Putting every stage on trial"):
            blame(run)
    except CascadeError as error:
        typer.echo(f"  No stage was put on trial: {error.problem}", err=True)
    except Exception as error:  # a plug-in may raise anything; the report is made without
        typer.echo(f"  No stage was put on trial: {type(error).__name__}: {error}", err=True)


def _recording(run: Path) -> Path:
    from cascade.report.rerun_recording import write_recording

    return write_recording(run, run / "run.rrd").resolve()


def _document(run: Path, report: Path, recording: Path | None) -> dict[str, object]:
    from cascade.blame import stored_blame
    from cascade.report.numbers import outcome_of, stage_times, verdict_words
    from cascade.report.run_folder import read_facts, read_rows

    facts = read_facts(run)
    stages = stage_times(read_rows(run / "events.jsonl", []))
    return {
        "schema_version": 1,
        "report": str(report),
        "recording": None if recording is None else str(recording),
        "outcome": outcome_of(facts),
        "verdict": verdict_words(facts),
        "failure_stage": facts.get("failure_stage"),
        "blame": stored_blame(run),
        "stages": {stage.stage: stage.as_json() for stage in stages},
    }
