"""`cascade inspect`: make the report of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/2026-…")],
    output: Annotated[Path | None, typer.Option(help="Write the report here instead of RUN/report.html.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the path.")] = False,
) -> None:
    """Make RUN/report.html: what was imagined beside what happened, and why."""
    from cascade.report.numbers import outcome_of, stage_times, verdict_words
    from cascade.report.page import build_report
    from cascade.report.run_folder import read_facts, read_rows

    report = build_report(run, output).resolve()
    if json_:
        facts = read_facts(run)
        stages = stage_times(read_rows(run / "events.jsonl", []))
        typer.echo(
            json.dumps(
                {
                    "schema_version": 1,
                    "report": str(report),
                    "outcome": outcome_of(facts),
                    "verdict": verdict_words(facts),
                    "failure_stage": facts.get("failure_stage"),
                    "stages": {stage.stage: stage.as_json() for stage in stages},
                },
                indent=2,
            )
        )
    else:
        typer.echo(str(report))
    if open_:
        typer.launch(report.as_uri())
