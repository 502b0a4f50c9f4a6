"""What `cascade run` says at its end: verdict, time per stage, where the report is, what to type next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.report.numbers import count, failure_stage, gate_tables, outcome_of, stage_times, verdict_words
from cascade.report.run_folder import read_facts, read_rows

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MARKS = {
    "success": ("✓", "green"),
    "planned": ("◇", "cyan"),
    "interrupted": ("■", "yellow"),
    "unfinished": ("…", "yellow"),
}
WIDTH = 80


def print_summary(run_dir: Path, console: Console) -> None:
    """Print a compact panel about a run, no wider than 80 columns.

    Args:
        run_dir: a run folder; its report need not exist yet.
        console: where to print.

    Raises:
        DataError: `run_dir` is no run folder.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    facts = read_facts(run_dir)
    events = read_rows(run_dir / "events.jsonl", [])
    mark, colour = MARKS.get(outcome_of(facts), ("✕", "red"))
    verdict = Text(f"{mark} {verdict_words(facts)}", style=f"bold {colour}")
    lines: list[RenderableType] = [verdict]
    said = facts.get("instruction")
    if said:
        lines.append(Text(f"“{said}”", style="italic"))
    lines += [Text(_about(facts, events), style="dim"), Text("")]
    if stage_times(events):
        lines += [_stages(events), Text("")]
    lines.append(_where(run_dir))
    console.print(
        Panel(Group(*lines), border_style=colour, padding=(0, 1), width=min(WIDTH, console.width)), highlight=False
    )


def _about(facts: Mapping[str, Any], events: list[Mapping[str, Any]]) -> str:
    parts = [f"{name} {facts[name]}" for name in ("task", "seed", "recipe", "planner") if facts.get(name) is not None]
    tables = gate_tables(events)
    refused = sum(table.verdict == "reject" for table in tables)
    parts += [f"{n} {kind}{'' if n == 1 else 's'}" for kind in ("plan", "chunk") for n in (count(events, kind),)]
    if tables:
        parts.append(f"gate refused {refused} of {len(tables)}" if refused else f"gate passed {len(tables)}")
    if failure_stage(facts):
        parts.append(f"stage at fault: {failure_stage(facts)}")
    return " · ".join(parts)


def _stages(events: list[Mapping[str, Any]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("stage")
    for name in ("calls", "median", "p99", "total"):
        table.add_column(name, justify="right")
    for row in stage_times(events):
        times = (
            f"{ms:,.1f} ms" if ms < 10_000 else f"{ms / 1000:,.1f} s" for ms in (row.p50_ms, row.p99_ms, row.total_ms)
        )
        table.add_row(row.stage, str(row.count), *times)
    return table


def _where(run_dir: Path) -> RenderableType:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    report = run_dir / "report.html"
    here = _from_here(run_dir)
    if report.is_file():
        table.add_row("report", _from_here(report))
        table.add_row("open it", f"cascade inspect {shlex.quote(here)} --open")
    else:
        table.add_row("run", here)
        table.add_row("next", f"cascade inspect {shlex.quote(here)}")
    return table


def _from_here(path: Path) -> str:
    """Return the shorter of the path as absolute and as seen from the working directory."""
    absolute = str(path.resolve())
    try:
        relative = os.path.relpath(absolute)
    except ValueError:  # another drive
        return absolute
    return min(relative, absolute, key=len)
