"""Carrying a study out: what is missing is run, row by row, and the result written beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from cascade.episodes import LINES, Row, open_log
from cascade.recorder import versions
from cascade.study.config import StudyConfig
from cascade.study.launchers import launch
from cascade.study.result import summarise


def run_study(
    study: StudyConfig,
    output: Path,
    *,
    launcher: str = "pool",
    options: Mapping[str, Any] | None = None,
    jobs: int = 1,
    resume: bool = False,
    only_evaluate: bool = False,
    on_row: Callable[[Row], None] = lambda row: None,
) -> dict[str, Any]:
    """Run what is missing, write `episodes.jsonl` and `result.json` into `output`, and return the result document.

    Args:
        study: what is compared.
        output: folder; its `study.json` says what it holds.
        launcher: pool, ray or slurm.
        options: of the launcher.
        jobs: workers. Under the clock realtime they compete for the machine: use 1 there.
        resume: continue what an interrupted study left in `output`.
        only_evaluate: run nothing; the result is that of the episodes which are there.
        on_row: called with every finished episode, those of earlier runs first.

    Raises:
        ConfigError: the folder holds something else, or the study names what does not exist.
        CascadeError: an arm cannot be built; errors within episodes are counted instead.
    """
    arms = study.build_arms()
    # Layouts may be added to a study that has run; all else of it stays.
    values = study.model_dump(mode="json", exclude={"layouts"}) | {
        "resolved": {
            name: {"recipe": a.recipe.model_dump(mode="json"), "control": a.control} for name, a in arms.items()
        }
    }
    rows = open_log(values, output, kind="study", resume=resume)
    for row in rows:
        on_row(row)
    done, planned = {key_of(row) for row in rows}, {job.key for job in study.jobs()}
    work = [(arms[job.arm], job) for job in study.jobs() if job.key not in done and not only_evaluate]
    results = launch(launcher, work, workers=jobs, options=options or {}, folder=output)
    with (output / LINES).open("a", encoding="utf-8") as file, closing(results):  # type: ignore[type-var]
        for row in results:
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            on_row(row)
    counted = [row for row in rows if key_of(row) in planned]
    result = summarise(study, counted) | {"versions": versions(), "output": str(output)}
    (output / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def key_of(row: Mapping[str, Any]) -> tuple[str, str, str, int]:
    """Return what tells a row from the others of its study."""
    return str(row["arm"]), str(row["clock"]), str(row["task"]), int(row["seed"])
