"""`cascade score`: every metric and consistency measure of a plan or run, as one document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cascade.metrics.agreement import agreement, paired
from cascade.metrics.arrays import Floats
from cascade.metrics.gather import Subject, evidence_of
from cascade.metrics.image_motion import STILL, moves
from cascade.metrics.registry import METRICS
from cascade.metrics.result import Result, no_motion, unavailable
from cascade.metrics.tube import Split, extract_error, path_error, tube_error

SCHEMA_VERSION = 1


def score(subject: Subject, target: Path) -> dict[str, Any]:
    """Return the document of a plan or run: metrics by axis, consistency A and B, and what is missing and why."""
    evidence = evidence_of(subject)
    metrics = [
        {
            "number": known.number,
            "name": known.name,
            "axis": known.axis.value,
            "unit": known.unit,
            "range": [end if np.isfinite(end) else None for end in known.range],
            "higher_is_better": known.higher_is_better,
            "caveat": known.caveat,
            **known.measure(evidence).as_json(),
        }
        for known in METRICS
    ]
    still = not moves(subject.plan.frames)
    return {
        "schema_version": SCHEMA_VERSION,
        "target": str(target),
        "kind": subject.kind,
        "plan": subject.number,
        "instruction": subject.plan.instruction,
        "frames": len(subject.plan),
        "moves": not still,
        "reference": "executed video" if evidence.reference is not None else None,
        "motion": "measured" if subject.run is not None and subject.rows is not None else "targets read in the plan",
        "metrics": metrics,
        "consistency": {
            "agreement": _refused() if still else _agreement(subject),
            "tube": _refused() if still else _tube(subject),
            "swap_effect": unavailable("needs two plans with different goals, each executed twice").as_json(),
        },
        "missing": dict(subject.missing),
    }


def _refused() -> dict[str, Any]:
    return no_motion(STILL).as_json()


def _agreement(subject: Subject) -> dict[str, Any]:
    """A: targets by inverse dynamics against targets by flow."""
    targets = subject.targets
    for name in ("idm", "flow"):
        if name not in targets:
            return unavailable(f"needs the path by {name} ({subject.missing.get(name, 'not read')})").as_json()
    a, b = targets["idm"], targets["flow"]
    if min(len(a.position_m), len(b.position_m)) < 2:
        return unavailable("needs at least two targets by each extractor").as_json()
    pair = paired(a.position_m, b.position_m, a_opening=a.gripper, b_opening=b.gripper)
    result = agreement(
        _array(pair["a_m"]), _array(pair["b_m"]), a_opening=pair["a_opening"], b_opening=pair["b_opening"]
    )
    return {**result.as_json(), "between": ["idm", "flow"]}


def _array(values: Floats | None) -> Floats:
    return np.zeros((0, 3)) if values is None else values


def _tube(subject: Subject) -> dict[str, Any]:
    """B: imagined against measured path, split by stage."""
    record, rows = subject.run, subject.rows
    if record is None or rows is None:
        return unavailable(f"needs an execution ({subject.missing.get('execution', 'none')})").as_json()
    measured_m = record.trajectory.measured_m[rows]
    hand = subject.hand
    commanded = [record.chunks[i].position_m for i in record.chunks_of(subject.number)]
    asked = np.concatenate(commanded) if commanded else np.zeros((0, 3))
    if hand is not None:
        imagined, source = hand.position_m, hand.source
    elif len(asked) >= 2:
        imagined, source = asked, "targets"
    else:
        why = subject.missing.get("idm", "no path was read")
        return unavailable(f"needs the imagined path ({why})").as_json()
    tube = tube_error(imagined, measured_m, dt_s=subject.plan.frame_dt_s)
    return {**tube.as_json(), "imagined_by": source, "split": _split(subject, measured_m, asked).as_json()}


def _split(subject: Subject, measured_m: Floats, asked: Floats) -> Split:
    no_film = subject.missing.get("executed video") or subject.missing.get("idm") or "no reading of the executed video"
    done, hand = subject.executed, subject.readings.get("idm")
    lacking: Result = unavailable(f"needs the executed video read by idm ({no_film})")
    start = measured_m[:1]
    return Split(
        e_extract=lacking if done is None else extract_error(done.position_m, measured_m),
        e_track=path_error(np.concatenate([start, asked]), measured_m)
        if len(asked)
        else unavailable("needs end-effector targets in the run folder"),
        e_imagine=lacking if done is None or hand is None else path_error(hand.position_m, done.position_m),
        e_object=unavailable("needs the object's path in the execution, which run folders do not hold"),
    )
