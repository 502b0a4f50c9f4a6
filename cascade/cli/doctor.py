"""`cascade doctor`: is this machine fit to run?"""

from __future__ import annotations

import dataclasses
import json as json_text
from pathlib import Path
from typing import Annotated

import typer

MARKS = {"ok": ("ok  ", typer.colors.GREEN), "warn": ("warn", typer.colors.YELLOW), "fail": ("fail", typer.colors.RED)}


def doctor(
    rig: Annotated[
        str | None, typer.Argument(metavar="[RIG]", help="Also connect this rig's arm and cameras; nothing moves.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder that runs are written to.")] = Path("runs"),
) -> None:
    """Check this machine: one line per check, with what to do about it. Exit code 3 when something fails.

    Examples:
        cascade doctor

        cascade doctor ur5e-loopback
    """
    from cascade.checks import Status
    from cascade.doctor import examine, worst

    checks = examine(runs, rig)
    status = worst(checks)
    if json:
        document = {
            "schema_version": 1,
            "status": status.value,
            "checks": [dataclasses.asdict(check) for check in checks],
        }
        typer.echo(json_text.dumps(document, indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark, colour = MARKS[check.status.value]
            typer.secho(mark, fg=colour, nl=False)
            typer.echo(f"  {check.name:<{width}}  {check.found}")
            if check.fix:
                typer.echo(f"      {'':<{width}}  fix: {check.fix}")
    if status is Status.FAIL:
        raise typer.Exit(3)
