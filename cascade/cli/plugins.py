"""`cascade plugins`: what is installed, and whether it can be imported."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def plugins(
    group: Annotated[str | None, typer.Argument(help="Only one kind: planner, extractor, rig, ...")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List planners, extractors, rigs and the rest, ours and third-party alike; broken ones with their cause.

    Examples:
        cascade plugins

        cascade plugins planner --json
    """
    from cascade.plugins import inspect_plugins

    statuses = inspect_plugins(group)
    if as_json:
        rows = [{**asdict(s.info), "summary": s.summary, "broken": s.problem or None} for s in statuses]
        typer.echo(json.dumps({"schema_version": 1, "plugins": rows}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for name in ("kind", "name", "package", "what it is"):
        table.add_column(name, overflow="fold")
    for status in statuses:
        info = status.info
        what = Text(status.summary) if not status.problem else Text(f"broken: {status.problem}", style="red")
        table.add_row(info.group, info.name, f"{info.package} {info.version}", what)
    Console().print(table)
    typer.echo('Next: name one in a recipe, or: cascade run "open the door" --planner NAME', err=True)
