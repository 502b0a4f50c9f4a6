"""From trials to a calibration: cues of every trial, limits no working plan broke, and `p_exec`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.calibration_gate.calibration import Bound, GateCalibration
from cascade.calibration_gate.trials import read_rows
from cascade.calibration_gate.tube import farthest_m
from cascade.contracts.errors import DataError
from cascade.contracts.records import ImageTransform, Limits
from cascade.executability import CUE_SETS, Logistic, fit, out_of_fold
from cascade.gate import psnr_db
from cascade.goal import GoalModel
from cascade.metrics.cues import DEFINITION, Cues, Reading, cues_of
from cascade.metrics.hand_flow import View
from cascade.value.model import ValueModel

Row = Mapping[str, Any]
SLACK = 1.2  # limits lie this much beyond the farthest that a working plan went
PAIRS = 60  # of layouts per task whose images are compared

# check, cue, unit, whether it is a least value, what a refusal says
CHECKS = (
    ("arm continuity", "hand_jump_m", "m", False, "The hand jumps in the plan."),
    ("picture continuity", "change_jump", "1", False, "The picture jumps in the plan."),
    ("motion at the end", "tail_motion", "1", True, "Nothing moves in the last quarter of the plan: it stops early."),
    ("camera stillness", "camera_px", "px", False, "The camera drifts in the plan."),
    ("object permanence", "permanence", "1", True, "The object vanishes in the plan."),
    ("agreement", "agreement", "1", False, "Two ways of reading the hand in the plan disagree."),
    ("goal", "goal_end", "1", False, "The plan ends elsewhere than the instruction asks for."),
)


def cues_of_trials(
    folder: Path,
    rows: Sequence[Row],
    goals: GoalModel,
    value: ValueModel | None,
    limits: Limits,
    *,
    on_row: Callable[[], None] = lambda: None,
) -> list[Cues]:
    """Return the cues of every trial; those computed before are read from `cues.jsonl` in the folder of the trials.

    Cues computed with another goal model, another learned value or by another definition are computed anew.

    Args:
        folder: of `run_trials`.
        rows: of trials without errors.
        goals: the goal check.
        value: the learned value, or None.
        limits: of the arm.
        on_row: called after each.
    """
    path = folder / "cues.jsonl"
    by = f"{DEFINITION} {goals.digest()} {'-' if value is None else value.digest()}"
    known: dict[str, Any] = {values["key"]: values for values in read_rows(path) if values.get("by") == by}
    path.write_text("".join(json.dumps(values) + "\n" for values in known.values()), encoding="utf-8")
    found = []
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            values = known.get(row["key"])
            if values is None:
                with np.load(folder / f"{row['key']}.npz") as evidence:
                    cues = cues_of(reading_of_trial(row, evidence, limits), goals, value)
                values = {"key": row["key"], "by": by, "moves": cues.moves, "values": cues.values}
                values["missing"] = cues.missing
                file.write(json.dumps(values) + "\n")
                file.flush()
            found.append(Cues(moves=values["moves"], values=values["values"], missing=values["missing"]))
            on_row()
    return found


def reading_of_trial(row: Row, evidence: Mapping[str, NDArray[Any]], limits: Limits) -> Reading:
    """Return a trial's plan as cues are computed from it.

    Raises:
        DataError: the recipe's extractor does not read the hand.
    """
    if "hand_m" not in evidence or "T_base_cam" not in evidence:
        raise DataError(
            f"trial {row['key']}: expected the hand read in the plan and the camera's pose, found neither or one.",
            "Use a recipe whose extractor reads the hand, such as unipi.",
        )
    frames, camera = evidence["frames"], evidence["camera"]
    size = (frames.shape[2], frames.shape[1])
    crop: Any = tuple(float(value) for value in evidence["crop_px"])
    transform = ImageTransform(crop_px=crop, size_px=size)
    return Reading(
        frames=frames,
        seen=frames[0] if camera.shape != frames[0].shape else camera,
        view=View(transform.intrinsics(evidence["K"]), evidence["T_base_cam"]),
        start_m=evidence["T_base_ee"][:3, 3],
        hand_m=evidence["hand_m"],
        opening=evidence["hand_opening"],
        spread_m=evidence["hand_std_m"],
        instruction=row["instruction"],
        limits=limits,
        mask=evidence.get("mask"),
    )


def calibrate(
    folder: Path,
    rows: Sequence[Row],
    cues: Sequence[Cues],
    goals: GoalModel,
    value: ValueModel | None = None,
    *,
    camera: str,
    target: float,
) -> GateCalibration:
    """Return limits and `p_exec` as the trials have them.

    Args:
        folder: of the trials.
        rows: of trials without errors.
        cues: of each.
        goals: the goal check.
        value: the learned value, or None.
        camera: the view of the plans.
        target: success rate among the plans that the gate lets through that is aimed at.

    Raises:
        DataError: too few trials, or of several sets of weights.
    """
    weights = dict(rows[0]["weights"])
    if any(row["weights"] != weights for row in rows):
        raise DataError("trials: expected one set of weights, found several.", "Begin in a new folder.")
    success = np.array([bool(row["success"]) for row in rows], dtype=np.bool_)
    scenes = [f"{row['task']}-{row['seed']}" for row in rows]
    models = [fit(name, names, cues, success, scenes) for name, names in _available(cues).items()]
    p = _best_probabilities(models, cues, success, scenes)
    working = [(row, cue) for row, cue in zip(rows, cues, strict=True) if row["kind"] == "none" and row["success"]]
    if not working:
        raise DataError("trials: expected at least one plan that was not spoiled and worked, found none.")
    return GateCalibration(
        weights=weights,
        camera=camera,
        bounds=tuple(_bounds([cue for _, cue in working])),
        min_p_exec=round(_threshold(p, target), 4),
        first_frame_db=round(_first_frame_db(folder, [row for row, _ in working]), 2),
        tube_m=round(SLACK * _tube_m(folder, [row for row, _ in working]), 4),
        models=tuple(models),
        goals=goals,
        value=value,
        fitted_on={
            "trials": len(rows),
            "successes": int(success.sum()),
            "tasks": sorted({row["task"] for row in rows}),
            "seeds": sorted({int(row["seed"]) for row in rows}),
            "target": target,
            "value": "none" if value is None else f"camera {value.camera}, {value.digest()}",
        },
    )


def _available(cues: Sequence[Cues]) -> dict[str, tuple[str, ...]]:
    """The sets of cues that most of the trials have, richest first."""
    moving = [c for c in cues if c.moves]
    found = {}
    for name, names in CUE_SETS.items():
        usable = tuple(n for n in names if sum(n in c.values for c in moving) > 0.8 * len(moving))
        if usable == names:
            found[name] = names
    return found


def _best_probabilities(
    models: Sequence[Logistic], cues: Sequence[Cues], success: NDArray[np.bool_], scenes: Sequence[str]
) -> NDArray[np.float64]:
    """p_exec of every trial by the richest model that answers, fitted without the trial's scene."""
    result = np.full(len(cues), np.nan)
    for model in models:
        p = out_of_fold(model, cues, success, scenes)
        result = np.where(np.isnan(result), p, result)
    return result


def _threshold(p: NDArray[np.float64], target: float) -> float:
    """Return the lowest p_exec from which on the accepted plans are expected to succeed at the rate aimed at.

    Expected, as the calibrated probabilities have it: counts of few trials would jump with every single one.
    """
    values = np.sort(p[~np.isnan(p)])
    above = np.cumsum(values[::-1])[::-1] / np.arange(len(values), 0, -1)
    enough = np.flatnonzero(above >= target)
    return float(values[enough[0]] if len(enough) else values[-1])


def _bounds(cues: Sequence[Cues]) -> list[Bound]:
    found = []
    for check, cue, unit, at_least, message in CHECKS:
        values = [c.values[cue] for c in cues if cue in c.values]
        if not values:
            continue
        limit = min(values) / SLACK if at_least else max(values) * SLACK
        found.append(Bound(check=check, cue=cue, limit=round(limit, 4), unit=unit, at_least=at_least, message=message))
    return found


def _first_frame_db(folder: Path, rows: Sequence[Row]) -> float:
    """Return a likeness halfway between frame 0 of working plans and images of other layouts of the same task."""
    own, others = [], []
    by_task: dict[str, list[NDArray[np.uint8]]] = {}
    for row in rows:
        with np.load(folder / f"{row['key']}.npz") as evidence:
            frames, camera = evidence["frames"], evidence["camera"]
        if camera.shape == frames[0].shape:
            own.append(psnr_db(camera, frames[0]))
        by_task.setdefault(row["task"], []).append(frames[0])
    for images in by_task.values():
        others += [psnr_db(a, b) for a, b in islice(combinations(images, 2), PAIRS)]
    low = min(own) if own else 0.0
    if not others:
        return low / SLACK
    high = float(np.quantile(others, 0.95))
    return (low + high) / 2 if high < low else low / SLACK


def _tube_m(folder: Path, rows: Sequence[Row]) -> float:
    worst = 0.0
    for row in rows:
        with np.load(folder / f"{row['key']}.npz") as evidence:
            if "measured_m" in evidence and "targets_m" in evidence:
                start = evidence["T_base_ee"][:3, 3]
                worst = max(worst, farthest_m(evidence["measured_m"], start, evidence["targets_m"]))
    return worst
