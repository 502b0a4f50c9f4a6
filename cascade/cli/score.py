"""`cascade score`: judge a plan or a run on three axes, and whether plan and motion agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def score(
    target: Annotated[Path, typer.Argument(metavar="PLAN_OR_RUN", help="Folder of a plan or run, or a video.")],
    number: Annotated[int, typer.Option("--plan", min=0, help="Which plan of a run.")] = 0,
    extract: Annotated[
        bool, typer.Option("--extract/--no-extract", help="Rebuild the scene and let the extractors read the plan.")
    ] = True,
    config: Annotated[Path | None, typer.Option(help="config.yaml of the scene, for plans that have none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Score a plan on 21 metrics and two consistency measures; of a run, the executed video is the reference.

    What hardly moves is refused, never scored perfect. What cannot be computed says what it lacks.

    Examples:
        cascade score runs/20261120-120000-door-open-unipi

        cascade score plan-folder --no-extract --json
    """
    from cascade.metrics.gather import gather
    from cascade.metrics.score import score as score_of

    document = score_of(gather(target, number=number, extract=extract, config=config), target)
    for line in table(document):
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))


def table(document: dict[str, Any]) -> list[str]:
    """Return the document as lines of at most 80 columns where the reasons allow it, grouped by axis."""
    lines: list[str] = []
    axis = ""
    for row in document["metrics"]:
        if row["axis"] != axis:
            axis = row["axis"]
            lines += ["", axis.capitalize()]
        lines.append(_line(row["name"], row["value"], row["unit"], row["higher_is_better"], row["why"], row["status"]))
    lines += ["", "Plan and motion", *_consistency(document["consistency"])]
    if document["missing"]:
        lines += ["", "Missing", *(f"  {what}: {why}" for what, why in document["missing"].items())]
    return lines[1:]


def _line(name: str, value: float | None, unit: str, better: bool | None, why: str, status: str) -> str:
    if value is None:
        return f"  {name:<22}{'-':>9}  {'not moving: ' if status == 'no_motion' else ''}{why}"
    arrow = {True: "higher is better", False: "lower is better", None: ""}[better]
    return f"  {name:<22}{value:>9.3f} {'' if unit == '1' else unit:<12}{arrow}".rstrip()


def _consistency(found: dict[str, Any]) -> list[str]:
    lines = []
    parts = {
        "agreement": (("position", "", 1.0), ("grip", "", 1.0), ("rms_m", "mm", 1000.0)),
        "tube": (("score", "", 1.0), ("distance_m", "mm", 1000.0), ("lag", "of the plan", 1.0)),
        "swap_effect": (),
    }
    for name, keys in parts.items():
        entry = found[name]
        if entry["status"] != "measured":
            lines.append(_line(name, None, "", None, entry.get("why", ""), entry["status"]))
            continue
        for key, unit, scale in keys:
            value = entry.get(key)
            if value is not None:
                lines.append(_line(f"{name} {key.removesuffix('_m')}", value * scale, unit or "1", None, "", ""))
        for stage, result in entry.get("split", {}).items():
            value = None if result["value"] is None else result["value"] * 1000
            lines.append(_line(f"  {stage}", value, "mm", None, result["why"], result["status"]))
    return lines
