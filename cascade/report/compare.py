"""Two runs side by side: one HTML file, made like the report of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.report import charts, sections, trial
from cascade.report.charts import Line
from cascade.report.numbers import gate_tables, outcome_of, stage_times, verdict_words
from cascade.report.page import MARKS, MOST_BYTES, asset, document, frames_of, write_page
from cascade.report.run_folder import RunRecord, read_run
from cascade.report.story import Story, tell

NAMES = ("A", "B")
FACTS = ("instruction", "task", "seed", "recipe", "planner", "extractor", "reader", "rig")
SAID = ("recipe.name", "recipe.summary")  # with the recipe, among the facts
MOST_LINES = 80


def build_comparison(first: Path, second: Path, output: Path | None = None) -> Path:
    """Write the comparison of two runs and return its path.

    Args:
        first: a run folder, shown as A.
        second: another, shown as B.
        output: where to write; `compare-<second>.html` inside the first folder by default.

    Raises:
        DataError: one is no run folder, or `output` cannot be written.
    """
    stories = [tell(read_run(folder)) for folder in (first, second)]
    target = output or first / f"compare-{second.resolve().name}.html"
    return write_page(_page(stories), target, str(first), MOST_BYTES)


def _page(stories: list[Story]) -> str:
    pieces = {
        "title": escape(" and ".join(story.run.folder.resolve().name for story in stories)),
        "style": asset("compare.css") + asset("report.css"),
        "heads": "".join(_head(name, story) for name, story in zip(NAMES, stories, strict=True)),
        "views": "".join(_views(name) for name in NAMES),
        "numbers": _numbers(stories),
        "paths": _paths(stories),
        "differences": _differences(stories),
        "data": _data(stories),
    }
    return document("compare", pieces)


def _head(name: str, story: Story) -> str:
    run = story.run
    outcome = outcome_of(run.facts)
    return (
        f'<div class="run outcome-{outcome}"><p class="eyebrow"><b class="name-{name}">{name}</b> '
        f"{sections.eyebrow(run.facts)}</p>"
        f'<h2 class="verdict"><span class="mark" aria-hidden="true">{MARKS.get(outcome, "?")}</span>'
        f"<span>{escape(verdict_words(run.facts))}</span></h2>"
        f"{trial.sentence(story.trial).replace(' id=' + chr(34) + 'blame' + chr(34), '').split(' <a')[0]}"
        f"{sections.problems(run).replace(' id=' + chr(34) + 'problems' + chr(34), '')}</div>"
    )


def _views(name: str) -> str:
    return "".join(
        f'<figure><figcaption><b class="{kind}">{name}: {word}</b> <span id="{word}-{name}-note"></span></figcaption>'
        f'<canvas id="{word}-{name}" role="img" aria-label="{word} frame of run {name}"></canvas></figure>'
        for word, kind in (("imagined", "imagined"), ("executed", "measured"))
    )


def _numbers(stories: list[Story]) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("Outcome", [outcome_of(story.run.facts) for story in stories]),
        ("Control steps", [str(len(story.run.trajectory)) for story in stories]),
        ("Plans, chunks", [f"{len(story.run.plans)}, {len(story.run.chunks)}" for story in stories]),
        ("From the imagined path, median", [_median_mm(story.distance_m) for story in stories]),
        ("Gate checks that failed", [_gates(story.run) for story in stories]),
    ]
    times = [{stage.stage: stage for stage in stage_times(story.run.events)} for story in stories]
    for stage in dict.fromkeys(name for each in times for name in each):
        found = [sections.milliseconds(each[stage].p50_ms) if stage in each else "–" for each in times]
        rows.append((f"{stage}, median", found))
    for key in dict.fromkeys(key for story in stories for key in _checks(story)):
        rows.append((key, [_checks(story).get(key, "–") for story in stories]))
    return _table(rows)


def _checks(story: Story) -> dict[str, str]:
    from cascade.blame.verdict import quantity

    checks = (story.trial or {}).get("checks") or []
    return {
        f"{check['stage']}: {check['name']}": quantity(float(check["value"]), str(check.get("unit") or ""))
        for check in checks
        if isinstance(check, Mapping) and check.get("value") is not None
    }


def _median_mm(distance_m: NDArray[np.float64]) -> str:
    known = distance_m[np.isfinite(distance_m)]
    return f"{np.median(known) * 1000:.0f} mm" if len(known) else "–"


def _gates(run: RunRecord) -> str:
    checks = [check for table in gate_tables(run.events) for check in table.checks]
    broken = [check.check for check in checks if not check.held]
    return f"{len(broken)} of {len(checks)}" + (f" ({', '.join(dict.fromkeys(broken))})" if broken else "")


def _table(rows: Iterable[tuple[str, list[str]]]) -> str:
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{escape(value)}</td>" for value in values)
        + f"<td>{'' if values[0] == values[1] else '≠'}</td></tr>"
        for name, values in rows
    )
    head = '<tr><th></th><th><b class="name-A">A</b></th><th><b class="name-B">B</b></th><th></th></tr>'
    return f'<div class="scroll"><table class="wrap"><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _paths(stories: list[Story]) -> str:
    lines = [
        Line(f"run-{name}", story.run.trajectory.measured_m)
        for name, story in zip(NAMES, stories, strict=True)
        if len(story.run.trajectory)
    ]
    if not lines:
        return '<p class="quiet">Neither arm moved.</p>'
    drawn = charts.projections(lines, next((s.workspace_m for s in stories if s.workspace_m is not None), None))
    return "".join(f"<div><h3>{escape(title)}</h3>{svg}</div>" for title, svg in drawn)


def _differences(stories: list[Story]) -> str:
    """What the two runs were made with, where it differs."""
    known = [_flat(story.run) for story in stories]
    every = [key for key in dict.fromkeys([*known[0], *known[1]]) if key not in SAID]
    keys = [key for key in every if known[0].get(key) != known[1].get(key)]
    if not keys:
        return '<p class="quiet">Nothing: facts, configuration, versions and weights are the same.</p>'
    rows = [(key, [each.get(key, "–") for each in known]) for key in keys[:MOST_LINES]]
    more = len(keys) - MOST_LINES
    return _table(rows) + (f'<p class="quiet small">{more} more are not shown.</p>' if more > 0 else "")


def _flat(run: RunRecord) -> dict[str, str]:
    import yaml

    found = {name: str(run.facts[name]) for name in FACTS if run.facts.get(name) is not None}
    for name in ("versions", "weights"):
        found |= _leaves(run.facts.get(name), name)
    try:
        found |= _leaves(yaml.safe_load(run.config), "")
    except yaml.YAMLError:
        found["configuration"] = "cannot be read"
    return found


def _leaves(value: Any, prefix: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {prefix: str(value)} if prefix and value is not None else {}
    found: dict[str, str] = {}
    for name, item in value.items():
        found |= _leaves(item, f"{prefix}.{name}" if prefix else str(name))
    return found


def _data(stories: list[Story]) -> str:
    value = {}
    for name, story in zip(NAMES, stories, strict=True):
        plans, executed = frames_of(story, share=2)
        timeline = story.timeline
        value[name] = {
            "t_s": [round(float(t), 3) for t in timeline.t_s],
            "step": timeline.step.tolist(),
            "row": timeline.row.tolist(),
            "plan": timeline.plan.tolist(),
            "frame": timeline.frame.tolist(),
            "executed": np.where(timeline.executed >= 0, np.cumsum(timeline.executed >= 0) - 1, -1).tolist(),
            "plans": {str(index): sheets.as_json() for index, sheets in plans.items()},
            "film": None if executed is None else executed.as_json(),
            "measured": [[round(float(v), 4) for v in point] for point in story.run.trajectory.measured_m],
        }
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
