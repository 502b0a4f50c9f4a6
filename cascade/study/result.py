"""From rows to figures: rates with intervals, paired comparisons, and how small a difference could have been seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cascade.statistics import (
    clopper_pearson,
    cluster_bootstrap,
    detectable_gap,
    holm,
    mcnemar_exact,
    percentiles,
    wilson,
)
from cascade.study.config import StudyConfig

SCHEMA_VERSION = 1
ALPHA = 0.05
DECIDING = ("plan", "decode", "readout", "extract", "gate_plan", "gate_chunk")
BETTER, WORSE, OPEN = "better", "worse", "open"

Rows = Sequence[Mapping[str, Any]]
Scene = tuple[str, int]


def summarise(study: StudyConfig, rows: Rows) -> dict[str, Any]:
    """Return the result document of finished episodes."""
    clocks = tuple(study.layouts)
    arms = {
        clock: {arm: _arm(study, _of(rows, arm, clock)) for arm in study.arm_names if _of(rows, arm, clock)}
        for clock in clocks
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study.name,
        "suite": study.suite,
        "tasks": list(study.task_names),
        "episodes": len(rows),
        "planned": len(study.jobs()),
        "arms": arms,
        "comparisons": {clock: compare(rows, study.comparisons, clock) for clock in clocks},
        "price_of_compute": _clocks(study, rows) if len(clocks) == 2 else [],
        "errors": sorted({str(row["error"]) for row in rows if row["error"]}),
        "weights": {arm: _weights(_of(rows, arm)) for arm in study.arm_names},
        "load": percentiles([float(row["load"]) for row in rows if "load" in row]),
    }


def compare(rows: Rows, pairs: Sequence[tuple[str, str]], clock: str) -> list[dict[str, Any]]:
    """Return one entry per pair of arms, on the scenes that both have, p-values adjusted for their number (Holm)."""
    sides = [(f"{a}", f"{b}", _by_scene(_of(rows, a, clock)), _by_scene(_of(rows, b, clock))) for a, b in pairs]
    return _compared([side for side in sides if set(side[2]) & set(side[3])])


def verdict(p_adjusted: float, interval: tuple[float, float]) -> str:
    """Return what may be said: a difference only where the adjusted test and the interval both show it."""
    if p_adjusted < ALPHA and interval[0] > 0:
        return BETTER
    if p_adjusted < ALPHA and interval[1] < 0:
        return WORSE
    return OPEN


def _compared(sides: Sequence[tuple[str, str, Mapping[Scene, bool], Mapping[Scene, bool]]]) -> list[dict[str, Any]]:
    """Compare the successes of paired scenes; all entries are one family of tests."""
    entries: list[dict[str, Any]] = []
    for first, second, a, b in sides:
        scenes = sorted(set(a) & set(b))
        gaps = [float(a[scene]) - float(b[scene]) for scene in scenes]
        only_first, only_second = gaps.count(1.0), gaps.count(-1.0)
        n = len(scenes)
        entries.append(
            {
                "first": first,
                "second": second,
                "n": n,
                "gap": round(float(np.mean(gaps)), 4),
                "ci95": [round(v, 4) for v in cluster_bootstrap(gaps, scenes)],
                "ci95_tasks": _finite(cluster_bootstrap(gaps, [task for task, _ in scenes])),
                "only_first": only_first,
                "only_second": only_second,
                "p": mcnemar_exact(only_first, only_second),
                "detectable_gap": _finite(
                    [detectable_gap(n, (only_first + only_second) / n, alpha=ALPHA / len(sides))]
                )[0],
            }
        )
    for entry, adjusted in zip(entries, holm([entry["p"] for entry in entries]), strict=True):
        entry["p_holm"] = adjusted
        entry["verdict"] = verdict(adjusted, (entry["ci95"][0], entry["ci95"][1]))
    return entries


def _arm(study: StudyConfig, rows: Rows) -> dict[str, Any]:
    """Return the figures of one arm under one clock."""
    scenes = [(row["task"], row["seed"]) for row in rows]
    decisions = [ms for row in rows for ms in decision_ms(row)]
    return {
        "success": rate(rows),
        "tasks": {task: rate([row for row in rows if row["task"] == task]) for task in study.task_names},
        "steps": _mean([float(row["steps"]) for row in rows], scenes),
        "plans": _mean([float(row["plans"]) for row in rows], scenes),
        "decision_ms": percentiles(decisions),
        "compute_ms": _mean([sum(decision_ms(row)) for row in rows], scenes),
        "failures": dict(Counter(row["failure_stage"] for row in rows if not row["success"])),
        "errors": sum(row["error"] is not None for row in rows),
    }


def rate(rows: Rows) -> dict[str, Any]:
    """Return successes, their share, and its Wilson and Clopper-Pearson intervals."""
    n, hits = len(rows), sum(bool(row["success"]) for row in rows)
    return {
        "rate": round(hits / n, 4) if n else 0.0,
        "hits": hits,
        "n": n,
        "ci95": [round(v, 4) for v in wilson(hits, n)],
        "exact95": [round(v, 4) for v in clopper_pearson(hits, n)],
    }


def decision_ms(row: Mapping[str, Any]) -> list[float]:
    """Return, per plan of an episode, the milliseconds from the look to the chunk that may run."""
    stages = row["stage_ms"]
    count = int(row["plans"])
    found = [0.0] * count
    for name in DECIDING:
        for index, ms in enumerate(stages.get(name, [])[:count]):
            found[index] += float(ms)
    return found


def _clocks(study: StudyConfig, rows: Rows) -> list[dict[str, Any]]:
    """Compare every arm under the frozen clock with itself in real time."""
    sides = []
    for arm in study.arm_names:
        frozen, realtime = (_by_scene(_of(rows, arm, clock)) for clock in ("frozen", "realtime"))
        if set(frozen) & set(realtime):
            sides.append((f"{arm}, frozen", f"{arm}, realtime", frozen, realtime))
    return _compared(sides)


def _of(rows: Rows, arm: str, clock: str | None = None) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["arm"] == arm and clock in (None, row["clock"])]


def _by_scene(rows: Rows) -> dict[Scene, bool]:
    return {(row["task"], row["seed"]): bool(row["success"]) for row in rows}


def _mean(values: Sequence[float], scenes: Sequence[Scene]) -> dict[str, Any]:
    return {"mean": round(float(np.mean(values)), 3), "ci95": _finite(cluster_bootstrap(values, scenes))}


def _finite(values: Sequence[float]) -> list[float | None]:
    """Round for JSON, which has no infinity."""
    return [round(value, 4) if math.isfinite(value) else None for value in values]


def _weights(rows: Rows) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in rows:
        found.update(row.get("weights") or {})
    return found
