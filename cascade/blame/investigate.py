"""Investigating a run: every stage is put on trial with what the run left behind.

The executed video goes through the extractor (an oracle plan: whatever is misread there is not the planner's fault),
the recorded plan through another extractor, the recorded commands through the tracker, the calibration through
reprojection. The questions in order: does the camera stand where it should, does the arm do what it is told, is what
is there read rightly; what is left is the imagination.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.blame.limits import Limits, shipped_limits
from cascade.blame.reading import Film, Readings, film_of, frame_error_m, read_all, scale_error
from cascade.blame.rebuild import Rebuilt, rebuild
from cascade.blame.reprojection import Reprojection, reproject
from cascade.blame.tracking import delay_s, gripper_share
from cascade.blame.verdict import SCHEMA_VERSION, Blame, Check, Stage, decide, weighed, without_single_frames
from cascade.config import RunConfig, load_run
from cascade.contracts import CascadeError, DataError
from cascade.contracts.keyframes import keyframe_indices
from cascade.gate import psnr_db
from cascade.metrics.agreement import agreement, paired
from cascade.metrics.reading import Scene
from cascade.metrics.tube import path_error, tube_error
from cascade.report.run_folder import RunRecord, read_run

Floats = NDArray[np.float64]
FILE = "blame.json"
DEFAULT_HZ = 80.0


def blame(
    folder: Path,
    *,
    number: int | None = None,
    limits: Limits | None = None,
    second: bool = True,
    keep: bool = True,
) -> Blame:
    """Find the stage at fault in a run; writes blame.json into its folder.

    Args:
        folder: a run folder, also of a run that was killed.
        number: which plan is put on trial; the first one that was executed by default.
        limits: what clean runs measure at most; the shipped ones by default.
        second: whether another extractor reads the plan too, which takes seconds.
        keep: whether to write blame.json.

    Raises:
        DataError: `folder` is no run folder, or has no plan of that number.
    """
    record = read_run(folder)
    verdict = investigate(record, number, limits or shipped_limits(), second=second)
    if keep:
        with suppress(OSError):  # a folder that cannot be written to can still be judged
            (folder / FILE).write_text(json.dumps(verdict.as_json(), indent=1) + "\n", encoding="utf-8")
    return verdict


def stored_blame(folder: Path) -> dict[str, Any] | None:
    """Return the document that `blame` left in a run folder, None when there is none of this version."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema_version") == SCHEMA_VERSION else None


def investigate(record: RunRecord, number: int | None, limits: Limits, *, second: bool = True) -> Blame:
    """Return the verdict on a run that has been read."""
    chosen = _chosen(record, number)
    missing: dict[str, str] = {f"run folder {i + 1}": problem for i, problem in enumerate(record.problems)}
    run, rebuilt = _rebuilt(record, missing)
    scene = None if rebuilt is None else rebuilt.scene
    checks: list[Check] = []
    checks += _calibration(record, chosen, scene, limits, missing)
    checks += _motion(record, rebuilt, limits, missing)
    readings: Readings | None = None
    film = film_of(record, chosen) if chosen is not None else None
    if run is not None and scene is not None and chosen is not None:
        readings = read_all(record, run, scene, chosen, film, second=second)
        missing |= readings.missing
        checks += _extraction(record, chosen, readings, film, limits)
        checks += _opinions(record, chosen, readings)
    checks += _imagination(record, chosen, readings)
    checks = without_single_frames(checks)
    stage, sentence, suspects = decide(record.facts, checks, limits)
    paths = {} if readings is None else {name: _rounded(path) for name, path in readings.paths.items()}
    spread_m = None if readings is None else readings.spread_m
    return Blame(
        stage=stage,
        verdict=sentence,
        checks=tuple(checks),
        suspects=suspects,
        plan=-1 if chosen is None else chosen,
        paths=paths,
        spread_m=() if spread_m is None else tuple(round(float(s), 5) for s in spread_m),
        missing=missing,
    )


def _chosen(record: RunRecord, number: int | None) -> int | None:
    if number is not None:
        if number not in record.plans:
            known = ", ".join(map(str, record.plans)) or "none"
            raise DataError(f"{record.folder}: expected plan {number}, found {known}.", "Choose another with --plan.")
        return number
    moved = [index for index in sorted(record.plans) if record.rows_of(index).any()]
    return moved[0] if moved else min(record.plans, default=None)


def _rebuilt(record: RunRecord, missing: dict[str, str]) -> tuple[RunConfig | None, Rebuilt | None]:
    run: RunConfig | None = None
    try:
        run = load_run(record.folder / "config.yaml")
        return run, rebuild(record, run)
    except CascadeError as error:
        missing["scene"] = error.problem
        return run, None


def _calibration(
    record: RunRecord, chosen: int | None, scene: Scene | None, limits: Limits, missing: Mapping[str, str]
) -> list[Check]:
    camera = record.plans[chosen].camera if chosen is not None else None
    found, why = _reprojected(record, camera, scene, missing)
    if found is not None and found.moved_m is not None:
        why = f"by PnP the camera is {found.moved_m * 100:.1f} cm away"
    detail = {} if found is None else {**asdict(found), "camera": camera}
    shift_px = detail.pop("shift_px", None)
    return [weighed("reprojection_px", "scene points lie off by", shift_px, limits, why, **detail)]


def _reprojected(
    record: RunRecord, camera: str | None, scene: Scene | None, missing: Mapping[str, str]
) -> tuple[Reprojection | None, str]:
    """Return what is found of the calibrated scene in the first executed picture, or None and why not."""
    if scene is None:
        return None, f"the scene cannot be rebuilt: {missing.get('scene', 'no configuration')}"
    if camera is None or camera not in scene.observation.images:
        return None, "no plan says through which camera it looked"
    if not len(record.executed):
        return None, "nothing was filmed"
    image, seen = scene.observation.image(camera), record.executed[0]
    if seen.shape != image.rgb.shape:
        size = f"{image.rgb.shape[1]}x{image.rgb.shape[0]}"
        return None, f"the film has {seen.shape[1]}x{seen.shape[0]} px, the camera {size}"
    found = reproject(image, seen)
    return found, "" if found is not None else "too few points are found again"


def _motion(record: RunRecord, rebuilt: Rebuilt | None, limits: Limits, missing: dict[str, str]) -> list[Check]:
    replayed = None if rebuilt is None else rebuilt.replayed
    if not len(record.trajectory):
        missing["motion"] = "the arm did not move"
    elif replayed is None:
        missing["replay of the commands"] = missing.get("scene", "") if rebuilt is None else rebuilt.no_replay
    track = record.trajectory
    hertz = float(record.facts.get("control_hz") or DEFAULT_HZ)
    share = gripper_share(track.opening, track.gripper_target, None if replayed is None else replayed.opening)
    delay = delay_s(record, hertz)
    off = None if replayed is None else float(np.linalg.norm(replayed.position_m - track.measured_m, axis=1).mean())
    idle = missing.get("motion", "")
    no_replay = idle or missing.get("replay of the commands", "")
    no_share = idle or ("" if share is not None else "it was hardly told to open or close")
    no_delay = idle or ("" if delay is not None else "the hand hardly moves")
    return [
        weighed("gripper", "the gripper leaves out of its way", share, limits, no_share),
        weighed("tracking_m", "the same commands replayed end elsewhere by", off, limits, no_replay),
        weighed("delay_s", "the hand answers after", delay, limits, no_delay),
    ]


def _extraction(record: RunRecord, chosen: int, found: Readings, film: Film | None, limits: Limits) -> list[Check]:
    said = found.missing.get(found.name, "")
    no_film = said or ("" if film is not None else "the execution was not filmed")
    who = found.name
    if found.film_targets is not None and film is not None:
        off = path_error(found.film_targets, film.measured_m)
        return [weighed("extraction_path_m", f"{who} reads the executed video wrong by", off.value, limits, off.why)]
    error = scale = None
    detail = {}
    if found.read_film is not None and film is not None:
        error, scale = frame_error_m(found.read_film, film.measured_m), scale_error(found.read_film, film.measured_m)
        detail = {"bias_m": _bias(found.read_film, film.measured_m)}
    no_scale = no_film or ("" if scale is not None else "the hand hardly moves")
    checks = [
        weighed(
            "extraction_m", f"{who} reads the hand in the executed video wrong by", error, limits, no_film, **detail
        ),
        weighed("extraction_share", f"{who} reads its way too long or short by", scale, limits, no_scale),
    ]
    if found.read_plan is not None and len(record.trajectory) and chosen == min(record.plans):
        start = float(np.linalg.norm(found.read_plan[0] - record.trajectory.measured_m[0]))
        checks.append(weighed("start_m", f"{who} reads the plan's first frame wrong by", start, limits))
    return checks


def _bias(read_m: Floats, measured_m: Floats) -> list[float]:
    return [round(float(v), 4) for v in np.median(read_m - measured_m, axis=0)]


def _opinions(record: RunRecord, chosen: int, found: Readings) -> list[Check]:
    """The recorded plan through the other extractor, and the recorded chunk against what is read now."""
    checks = []
    asked = [record.chunks[i].position_m for i in record.chunks_of(chosen) if len(record.chunks[i].position_m)]
    targets = np.concatenate(asked) if asked else np.zeros((0, 3))
    other = found.paths.get(found.other)
    name = f"what {found.other} reads in the same plan lies off by"
    value, why = None, found.missing.get(found.other, "")
    if other is not None and len(other) > 1 and len(targets) > 1:
        pair = paired(targets, other)
        a, b = pair["a_m"], pair["b_m"]
        if a is not None and b is not None:
            value = agreement(a, b).rms_m
            why = "" if value is not None else "the hand hardly moves in one of them"
    elif not why:
        why = "there are too few targets to compare"
    checks.append(Check(stage=Stage.EXTRACTION, name=name, value=value, limit=None, unit="m", why=why))
    return checks


def _imagination(record: RunRecord, chosen: int | None, found: Readings | None) -> list[Check]:
    """How well the hand followed what was imagined: what is left when nothing else is wrong."""
    if chosen is None or not len(record.trajectory):
        return []
    checks = []
    rows = record.rows_of(chosen)
    plan = record.plans[chosen]
    read = found.read_plan if found is not None else None
    if read is None and plan.readout is not None:
        read = np.asarray(plan.readout.position_m)
    if read is not None and rows.sum() > 1:
        track = record.trajectory
        opening = np.nan_to_num(track.opening[rows], nan=1.0)
        kept = keyframe_indices(track.measured_m[rows], opening, len(plan) - 1)
        tube = tube_error(read, track.measured_m[rows][kept])
        why = "" if tube.distance_m is not None else "the imagined hand hardly moves"
        checks.append(
            Check(
                stage=Stage.PLAN,
                name="the hand kept to the imagined path within",
                value=tube.distance_m,
                limit=None,
                unit="m",
                why=why,
                detail={"score": tube.score},
            )
        )
    if len(record.executed):
        begins = psnr_db(plan.transform.apply(record.executed[0]), plan.frames[0])
        checks.append(
            Check(
                stage=Stage.PLAN,
                name="the plan's first frame is like the scene by",
                value=begins,
                limit=None,
                unit="dB",
                detail={"plan": chosen},
            )
        )
    return checks


def _rounded(path: Any) -> list[list[float]]:
    return [[round(float(v), 4) for v in row] for row in path]
