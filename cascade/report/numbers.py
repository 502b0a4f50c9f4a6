"""Numbers of a run that both the report and the terminal summary show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.report.run_folder import Row

STAGES = ("reset", "begin", "observe", "plan", "decode", "readout", "extract", "gate", "motion")
OUTCOME_WORDS = {
    "success": "The task succeeded",
    "planned": "The task was planned; nothing was to move",
    "failed": "The task was not reached",
    "rejected": "The gate refused the plan; nothing moved",
    "error": "The run stopped on an error",
    "interrupted": "The run was interrupted; the arm holds",
}


@dataclass(frozen=True, slots=True)
class StageTime:
    """Wall-clock time of one stage [ms]."""

    stage: str
    count: int
    total_ms: float
    p50_ms: float
    p99_ms: float

    def as_json(self) -> dict[str, float | int]:
        """Return plain values for `--json`."""
        return {
            "count": self.count,
            "total_ms": round(self.total_ms, 3),
            "p50_ms": round(self.p50_ms, 3),
            "p99_ms": round(self.p99_ms, 3),
        }


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One measured value of a gate against its limit.

    Attributes:
        margin: distance to the limit, positive when the check held, same unit as `value`.
        upper: whether the limit is a most (else a least).
    """

    check: str
    value: float
    limit: float
    unit: str
    step: int | None
    message: str
    held: bool
    upper: bool

    @property
    def margin(self) -> float:
        """Distance to the limit, negative when the check failed."""
        return (1.0 if self.held else -1.0) * abs(self.limit - self.value)

    @property
    def used(self) -> float:
        """How near the value is to its limit: 0 far away, 1 at it, above 1 when the check failed."""
        near, far = (self.value, self.limit) if self.upper else (self.limit, self.value)
        share = near / far if far > 0 else float("inf")
        used = share if near > 0 else 0.0
        return used if self.held else max(used, 1.0 + 1e-9)


@dataclass(frozen=True, slots=True)
class GateTable:
    """What the gate found in one plan or chunk."""

    subject: str
    index: int
    verdict: str
    checks: tuple[GateCheck, ...]

    @property
    def tightest(self) -> GateCheck | None:
        """The check nearest to its limit, or None when nothing was measured."""
        return max(self.checks, key=lambda check: check.used, default=None)


def stage_times(events: Iterable[Row]) -> list[StageTime]:
    """Return time per stage in pipeline order; stages that never ran are left out."""
    samples: dict[str, list[float]] = {}
    for row in events:
        if row.get("kind") == "stage" and isinstance(row.get("ms"), int | float):
            samples.setdefault(_stage_name(row), []).append(float(row["ms"]))
    order = [*STAGES, *sorted(set(samples) - set(STAGES))]
    return [_stage_time(name, samples[name]) for name in order if name in samples]


def stage_samples(events: Iterable[Row]) -> list[tuple[str, int, float]]:
    """Return (stage, plan index, milliseconds) of every timed call, in order; the plan index is -1 when unknown."""
    rows: list[tuple[str, int, float]] = []
    plan_of_chunk: dict[Any, int] = {}
    for row in events:
        if row.get("kind") == "chunk":
            plan_of_chunk[row.get("chunk")] = _whole(row.get("plan"))
        if row.get("kind") == "stage" and isinstance(row.get("ms"), int | float):
            plan = _whole(row.get("plan"))
            plan = plan if plan >= 0 else plan_of_chunk.get(row.get("chunk"), -1)
            rows.append((_stage_name(row), plan, float(row["ms"])))
    return rows


def gate_tables(events: Iterable[Row]) -> list[GateTable]:
    """Return what the gate found, in the order in which it looked."""
    return [_gate_table(row) for row in events if row.get("kind") == "gate"]


def count(events: Iterable[Row], kind: str) -> int:
    """Return the number of events of a kind."""
    return sum(row.get("kind") == kind for row in events)


def verdict_words(facts: Mapping[str, Any]) -> str:
    """Return the verdict as one sentence, whatever state the run is in."""
    if facts.get("status") != "done":
        return "The run did not finish: it is still going, or it was killed"
    said = str(facts.get("verdict") or "").strip()
    return said or OUTCOME_WORDS.get(str(facts.get("outcome")), "The run ended without a verdict")


def outcome_of(facts: Mapping[str, Any]) -> str:
    """Return success, planned, failed, rejected, error, interrupted, or unfinished."""
    if facts.get("status") != "done":
        return "unfinished"
    outcome = str(facts.get("outcome") or "unknown")
    return outcome if outcome in OUTCOME_WORDS else "unknown"


def failure_stage(facts: Mapping[str, Any]) -> str:
    """Return the stage at fault, or nothing when none is."""
    stage = str(facts.get("failure_stage") or "")
    return "" if stage == "none" else stage


def _stage_name(row: Row) -> str:
    name = str(row.get("stage", "other"))
    return "gate" if name.startswith("gate") else name  # the gate looks at plans and at chunks


def _stage_time(name: str, values: list[float]) -> StageTime:
    p50, p99 = (float(v) for v in np.percentile(values, [50, 99]))
    return StageTime(name, len(values), float(sum(values)), p50, p99)


def _gate_table(row: Row) -> GateTable:
    violations = [v for v in row.get("violations") or [] if isinstance(v, dict)]
    failed = {(v.get("check"), v.get("step"), v.get("value")) for v in violations}
    failed_names = {v.get("check") for v in violations}
    words = {v.get("check"): v.get("message") for v in violations}
    measured = [v for v in row.get("measured") or [] if isinstance(v, dict)]
    listed = {v.get("check") for v in measured}
    rows = [*measured, *(v for v in violations if v.get("check") not in listed)]
    checks = []
    for value in rows:
        key = (value.get("check"), value.get("step"), value.get("value"))
        single = sum(v.get("check") == value.get("check") for v in rows) == 1
        held = key not in failed and not (single and value.get("check") in failed_names)
        message = str(value.get("message") or "") or ("" if held else str(words.get(value.get("check")) or ""))
        checks.append(_check(value, held=held, message=message))
    return GateTable(
        str(row.get("subject", "chunk")), _whole(row.get("index"), 0), str(row.get("verdict", "unknown")), tuple(checks)
    )


def _check(row: Row, *, held: bool, message: str) -> GateCheck:
    value, limit = _float(row.get("value")), _float(row.get("limit"))
    return GateCheck(
        check=str(row.get("check", "?")),
        value=value,
        limit=limit,
        unit=str(row.get("unit") or ""),
        step=_whole(row.get("step")) if row.get("step") is not None else None,
        message=message,
        held=held,
        # A gate's record does not say which side of a limit is allowed; a check that held lies on the allowed side.
        upper=(value <= limit) == held,
    )


def _whole(value: Any, default: int = -1) -> int:
    return int(value) if isinstance(value, int | float) and np.isfinite(value) else default


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
