"""What a person sees on stderr while an episode runs, and what a script gets on stdout when it is over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from cascade.contracts.errors import CascadeError
from cascade.events import NoRecord
from cascade.outcome import EpisodeResult
from cascade.statistics import percentiles

SPOKEN = {"plan": "imagined", "readout": "read the hand", "extract": "extracted"}


class Narrator(NoRecord):
    """Tells events as short lines on stderr (a Recorder)."""

    def event(self, kind: str, **values: Any) -> None:
        """Print one line for events a person cares about."""
        line = _line(kind, values)
        if line:
            typer.echo(line, err=True)


def _line(kind: str, values: dict[str, Any]) -> str:
    if kind == "stage" and values["stage"] in SPOKEN:
        return f"  {SPOKEN[values['stage']]:<14}{values['ms']:>8.0f} ms"
    if kind == "chunk":
        return f"  chunk {values['chunk']}: {values['targets']} targets"
    if kind == "gate" and values["verdict"] != "pass":
        why = "; ".join(violation["message"] for violation in values["violations"])
        return f"  gate: {values['verdict']} ({why})"
    if kind == "motion":
        return f"  moved {values['steps']} control steps ({values['end']})"
    return ""


def write_report(result: EpisodeResult) -> Path | None:
    """Write a run's report, whatever its outcome; a report that cannot be made is told, not raised."""
    from cascade.report.page import build_report

    try:
        return build_report(Path(result.run_dir))
    except CascadeError as error:
        typer.echo(f"No report: {error}", err=True)
        return None


def finish(result: EpisodeResult, *, as_json: bool, task: str | None = None, seed: int | None = None) -> None:
    """Print the outcome of a run and leave with its exit code.

    Raises:
        CascadeError: the error that ended the run, after its folder has been named.
        typer.Exit: with the exit code of the outcome.
    """
    if as_json:
        typer.echo(json.dumps(document(result, task=task, seed=seed), indent=2))
    else:
        typer.echo(result.run_dir)
    _summarise(result)
    if result.error is not None:
        raise _with_exit_code(result.error, result.exit_code)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _summarise(result: EpisodeResult) -> None:
    from rich.console import Console

    from cascade.report.summary import print_summary

    try:
        print_summary(Path(result.run_dir), Console(stderr=True))
    except CascadeError:  # the folder is damaged; the verdict is still known
        typer.echo(result.verdict, err=True)


def document(result: EpisodeResult, **more: Any) -> dict[str, Any]:
    """Return the JSON document of a run."""
    return {
        "schema_version": 1,
        "outcome": result.outcome,
        "success": result.success,
        "failure_stage": result.failure_stage,
        "verdict": result.verdict,
        "run": result.run_dir,
        **more,
        "steps": result.steps,
        "plans": result.plans,
        "latency_ms": {stage: percentiles(values) for stage, values in result.stage_ms.items()},
    }


def _with_exit_code(error: CascadeError, code: int) -> CascadeError:
    error.exit_code = code
    return error
