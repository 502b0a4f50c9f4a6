"""`cascade blame`: which stage of a run is at fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cascade.blame import Blame

WIDTH = 80


def blame(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, such as runs/2026-…")],
    number: Annotated[
        int | None, typer.Option("--plan", min=0, help="Which plan of the run; the first that moved.")
    ] = None,
    second: Annotated[
        bool, typer.Option("--second/--no-second", help="Let another extractor read the plan too.")
    ] = True,
    limits: Annotated[Path | None, typer.Option(help="What clean runs measure; the shipped limits otherwise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Name the stage of a run that is at fault, with the evidence; writes RUN/blame.json, which the report shows.

    The executed video goes through the extractor, the recorded plan through another one, the recorded commands through
    the tracker, and the calibration through reprojection. What cannot be measured says what it lacks. Nothing moves.

    Example:
        cascade blame runs/20261120-120000-door-open-unipi
    """
    from rich.console import Console

    from cascade.blame import blame as find
    from cascade.blame.limits import load_limits

    console = Console(stderr=True)
    with console.status("Putting every stage on trial"):
        found = find(run, number=number, limits=None if limits is None else load_limits(limits), second=second)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, allow_nan=False))
    else:
        typer.echo(found.stage.value)
    console.print(shown(found, min(WIDTH, console.width)), highlight=False)


def shown(found: Blame, width: int) -> RenderableType:
    """Return the verdict and its evidence as a panel."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from cascade.blame.verdict import quantity

    good = found.stage.value == "none"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", width=1)
    table.add_column("stage", no_wrap=True)
    table.add_column("what was measured", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True)
    for check in found.checks:
        known = check.value is not None
        mark = "✕" if check.failed else "✓" if known and check.limit is not None else "·"
        name = check.name if known else f"{check.name}: {check.why}"
        table.add_row(
            Text(mark, style="red" if check.failed else "green" if mark == "✓" else "dim"),
            check.stage.value,
            Text(name, style="" if known else "dim"),
            quantity(check.value, check.unit) if check.value is not None else "–",
            quantity(check.limit, check.unit) if check.limit is not None and known else "",
        )
    head = Text(found.verdict, style=f"bold {'green' if good else 'red'}")
    also = [Text(f"Also above its limit: {', '.join(found.suspects)}.", style="dim")] if found.suspects else []
    lacking = [Text(f"Not looked at: {what}: {why}", style="dim") for what, why in found.missing.items()]
    title = "No fault" if good else f"At fault: {found.stage.value}"
    body = Group(head, *also, Text(""), table, *lacking)
    return Panel(body, title=title, title_align="left", border_style="green" if good else "red", width=width)
