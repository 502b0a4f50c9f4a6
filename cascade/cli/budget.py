"""`--budget` of `cascade plan` and `cascade run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cascade.budget import Fit
    from cascade.config import RunConfig


def fit_budget(run: RunConfig, budget: str | None) -> tuple[RunConfig, Fit | None]:
    """Return the run as it fits the budget, after telling what was chosen; as it is without one."""
    if budget is None:
        return run, None
    from cascade.budget import parse_budget
    from cascade.budgeting import within

    allowed_ms = parse_budget(budget)
    typer.echo(f"Timing the stages of {run.recipe.name!r} on this machine ...", err=True)
    run, found = within(run, allowed_ms)
    typer.echo(
        f"Budget {allowed_ms:g} ms: {found.setting.words()}, {found.measured_ms:.0f} ms measured; next plan after "
        f"{found.receding_targets} targets where plans follow each other.",
        err=True,
    )
    return run, found


def keep_budget(found: Fit | None, folder: Path) -> None:
    """Write what was timed and chosen beside the plan or run."""
    if found is not None and folder.is_dir():
        (folder / "budget.json").write_text(json.dumps(found.values(), indent=2) + "\n", encoding="utf-8")
