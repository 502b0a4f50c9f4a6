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
from pathlib import Path
from typing import Any

import numpy as np

from cascade.blame.limits import Limits, shipped_limits
from cascade.blame.reading import Film, Readings, film_of, frame_error_m, read_all, scale_error
from cascade.blame.rebuild import Rebuilt, rebuild
from cascade.blame.reprojection import reproject
from cascade.blame.tracking import delay_s, gripper_share
from cascade.blame.verdict import SCHEMA_VERSION, Blame, Check, Stage, decide
from cascade.config import RunConfig, load_run
from cascade.contracts import CascadeError, DataError
from cascade.contracts.keyframes import keyframe_indices
from cascade.gate import plan_view, psnr_db
from cascade.metrics.agreement import agreement, paired
from cascade.metrics.reading import Scene
from cascade.metrics.tube import path_error, tube_error
from cascade.report.run_folder import RunRecord, read_run

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
    name = "scene points lie off by"
    camera = record.plans[chosen].camera if chosen is not None else None
    why = ""
    if scene is None:
        why = f"the scene cannot be rebuilt: {missing.get('scene', 'no configuration')}"
    elif camera is None or camera not in scene.observation.images:
        why = "no plan says through which camera it looked"
    elif not len(record.executed):
        why = "nothing was filmed"
    if why or scene is None or camera is None:
        return [Check(stage=Stage.CALIBRATION, name=name, value=None, limit=None, unit="px", why=why)]
    image = scene.observation.image(camera)
    seen = record.executed[0]
    if seen.shape != image.rgb.shape:
        why = f"the film has {seen.shape[1]}x{seen.shape[0]} px, the camera {image.rgb.shape[1]}x{image.rgb.shape[0]}"
        return [Check(stage=Stage.CALIBRATION, name=name, value=None, limit=None, unit="px", why=why)]
    found = reproject(image, seen)
    if found is None:
        why = "too few points are found again"
        return [Check(stage=Stage.CALIBRATION, name=name, value=None, limit=None, unit="px", why=why)]
    detail = {"points": found.points, "moved_m": found.moved_m, "turned_rad": found.turned_rad, "camera": camera}
    words = "" if found.moved_m is None else f"by PnP the camera is {found.moved_m * 100:.1f} cm away"
    return [
        Check(
            stage=Stage.CALIBRATION,
            name=name,
            value=found.shift_px,
            limit=limits.reprojection_px,
            key="reprojection_px",
            unit="px",
            why=words,
            detail=detail,
        )
    ]


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
    return [
        Check(
            stage=Stage.GRIPPER,
            name="the gripper leaves out of its way",
            value=share,
            limit=limits.gripper,
            key="gripper",
            unit="of 1",
            why=idle or ("" if share is not None else "it was hardly told to open or close"),
        ),
        Check(
            stage=Stage.TRACKING,
            name="the same commands replayed end elsewhere by",
            value=off,
            limit=limits.tracking_m,
            key="tracking_m",
            unit="m",
            why=no_replay,
        ),
        Check(
            stage=Stage.TRACKING,
            name="the hand answers after",
            value=delay,
            limit=limits.delay_s,
            key="delay_s",
            unit="s",
            why=idle or ("" if delay is not None else "the hand hardly moves"),
        ),
    ]


def _extraction(record: RunRecord, chosen: int, found: Readings, film: Film | None, limits: Limits) -> list[Check]:
    said = found.missing.get(found.name, "")
    no_film = said or ("" if film is not None else "the execution was not filmed")
    checks = []
    if found.film_targets is not None and film is not None:
        off = path_error(found.film_targets, film.measured_m)
        checks.append(
            Check(
                stage=Stage.EXTRACTION,
                name=f"{found.name} reads the executed video wrong by",
                value=off.value,
                limit=limits.extraction_path_m,
                key="extraction_path_m",
                unit="m",
                why=off.why,
            )
        )
        return checks
    error = scale = None
    if found.read_film is not None and film is not None:
        error, scale = frame_error_m(found.read_film, film.measured_m), scale_error(found.read_film, film.measured_m)
    checks.append(
        Check(
            stage=Stage.EXTRACTION,
            name=f"{found.name} reads the hand in the executed video wrong by",
            value=error,
            limit=limits.extraction_m,
            key="extraction_m",
            unit="m",
            why=no_film,
            detail={} if error is None or film is None else {"bias_m": _bias(found, film)},
        )
    )
    checks.append(
        Check(
            stage=Stage.EXTRACTION,
            name=f"{found.name} reads its way too long or short by",
            value=scale,
            limit=limits.extraction_share,
            key="extraction_share",
            unit="of 1",
            why=no_film or ("" if scale is not None else "the hand hardly moves"),
        )
    )
    if found.read_plan is not None and len(record.trajectory) and chosen == min(record.plans):
        start = float(np.linalg.norm(found.read_plan[0] - record.trajectory.measured_m[0]))
        checks.append(
            Check(
                stage=Stage.EXTRACTION,
                name=f"{found.name} reads the plan's first frame wrong by",
                value=start,
                limit=limits.start_m,
                key="start_m",
                unit="m",
            )
        )
    return checks


def _bias(found: Readings, film: Film) -> list[float]:
    read = found.read_film if found.read_film is not None else film.measured_m
    return [round(float(v), 4) for v in np.median(read - film.measured_m, axis=0)]


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
        begins = psnr_db(plan_view(record.executed[0], plan.transform), plan.frames[0])
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
