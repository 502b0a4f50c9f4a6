"""The extractor on trial: the executed video is an oracle plan, whose true hand the encoders know."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cascade.config import RunConfig, StageConfig
from cascade.contracts import ActionExtractor, CascadeError, EeReadout, PlanReader, VideoPlan
from cascade.contracts.keyframes import keyframe_indices
from cascade.metrics.paths import MIN_PATH_M, extent
from cascade.metrics.reading import Scene, dry_run, read_hand
from cascade.pipeline import closing
from cascade.plugins import build_plugin
from cascade.report.run_folder import RunRecord

Floats = NDArray[np.float64]
OTHERS = {"flow": "idm"}  # who is asked for a second reading; flow where nothing else is said
LEAST_FRAMES = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Film:
    """The execution of one plan as a plan: (T, H, W, 3) frames, and (T, 3) where the encoders say the hand was [m]."""

    plan: VideoPlan
    measured_m: Floats


@dataclass(slots=True, kw_only=True, eq=False)
class Readings:
    """What the extractors see.

    Attributes:
        name: of the run's extractor; `other`: of the second opinion.
        paths: extractor -> (P, 3) positions in the recorded plan [m].
        read_plan, read_film: (T, 3) by the run's extractor, frame by frame, where it reads hands.
        film_targets: (H, 3) by the run's extractor in the executed video, where it reads none.
        spread_m: (T,) one standard deviation of the reading of the plan.
        missing: what -> why.
    """

    name: str
    other: str
    paths: dict[str, Floats] = field(default_factory=dict)
    read_plan: Floats | None = None
    read_film: Floats | None = None
    film_targets: Floats | None = None
    spread_m: Floats | None = None
    missing: dict[str, str] = field(default_factory=dict)


def film_of(record: RunRecord, number: int) -> Film | None:
    """Return the execution of plan `number` as a plan of as many frames, None where it was not filmed."""
    plan, track = record.plans.get(number), record.trajectory
    if plan is None or not len(record.executed) or not len(track):
        return None
    mine = track.step[record.rows_of(number)]
    filmed = np.flatnonzero(
        (record.executed_step >= (mine[0] if len(mine) else 1)) & np.isin(record.executed_step, mine)
    )
    if len(filmed) < LEAST_FRAMES:
        return None
    rows = np.clip(np.searchsorted(track.step, record.executed_step[filmed]), 0, len(track) - 1)
    opening = np.nan_to_num(track.opening[rows], nan=1.0)
    chosen = keyframe_indices(track.measured_m[rows], opening, len(plan) - 1)
    frames = np.stack([plan.transform.apply(record.executed[i]) for i in filmed[chosen]])
    film = VideoPlan(instruction=plan.instruction, camera=plan.camera, transform=plan.transform, frames=frames)
    return Film(plan=film, measured_m=track.measured_m[rows[chosen]])


def read_all(
    record: RunRecord, run: RunConfig, scene: Scene, number: int, film: Film | None, *, second: bool = True
) -> Readings:
    """Let the run's extractor read plan and film, and another extractor the plan."""
    stage = run.recipe.extractor
    found = Readings(name=stage.name, other=OTHERS.get(stage.name, "flow"))
    plan = record.plans[number]
    _first_opinion(found, stage, plan, scene, film)
    if not second:
        found.missing[found.other] = "not asked for"
        return found
    reader = run.recipe.reader
    asked = reader if reader is not None and reader.name == found.other else StageConfig(name=found.other)
    _second_opinion(found, asked, plan, scene)
    return found


def _first_opinion(found: Readings, stage: StageConfig, plan: VideoPlan, scene: Scene, film: Film | None) -> None:
    try:
        built: ActionExtractor = build_plugin("extractor", stage.name, stage.options)
    except CascadeError as error:
        found.missing[stage.name] = error.problem
        return
    with closing(built):
        if built.needs.latent_space is not None and plan.latents is None:
            found.missing[stage.name] = "it reads the planner's latents, which no camera gives and no run folder keeps"
            return
        if not isinstance(built, PlanReader):
            _targets_only(found, built, plan, scene, film)
            return
        try:
            reading = read_hand(built, plan, scene)
            found.read_plan = found.paths[stage.name] = np.asarray(reading.position_m)
            found.spread_m = np.asarray(reading.position_std_m)
            if film is not None:
                found.read_film = _positions(read_hand(built, film.plan, scene))
        except CascadeError as error:
            found.missing[stage.name] = error.problem


def _targets_only(found: Readings, built: ActionExtractor, plan: VideoPlan, scene: Scene, film: Film | None) -> None:
    for name, video in (("plan", plan), ("executed video", film.plan if film is not None else None)):
        if video is None:
            continue
        if video.readout is None and plan.readout is not None and name == "plan":
            video.readout = plan.readout
        try:
            targets = dry_run(built, video, scene).position_m
        except CascadeError as error:
            found.missing[f"{found.name} on the {name}"] = error.problem
            continue
        if name == "plan":
            found.paths[found.name] = targets
        else:
            found.film_targets = targets


def _second_opinion(found: Readings, stage: StageConfig, plan: VideoPlan, scene: Scene) -> None:
    try:
        built: ActionExtractor = build_plugin("extractor", stage.name, stage.options)
        with closing(built):
            if isinstance(built, PlanReader):
                reading = read_hand(built, plan, scene)
                found.paths[stage.name] = _positions(reading)
                found.spread_m = found.spread_m if found.spread_m is not None else np.asarray(reading.position_std_m)
            else:
                found.paths[stage.name] = dry_run(built, plan, scene).position_m
    except CascadeError as error:
        found.missing[stage.name] = error.problem


def _positions(reading: EeReadout) -> Floats:
    return np.asarray(reading.position_m, dtype=np.float64)


def frame_error_m(read_m: Floats, measured_m: Floats) -> float:
    """Return the median distance between what was read in (T,) frames and the encoders [m]."""
    return float(np.median(np.linalg.norm(read_m - measured_m, axis=1)))


def scale_error(read_m: Floats, measured_m: Floats) -> float | None:
    """Return by which share the read way is too long or too short, None when the hand hardly moves.

    The median over all pairs of frames that lie far apart (after Theil and Sen), so that neither a constant error nor a
    few frames in which the hand is bent or hidden count.
    """
    first, second = np.triu_indices(len(measured_m), k=1)
    true, seen = measured_m[second] - measured_m[first], read_m[second] - read_m[first]
    far = np.linalg.norm(true, axis=1) > MIN_PATH_M
    if extent(measured_m) < MIN_PATH_M or far.sum() < LEAST_FRAMES:
        return None
    ratio = (seen[far] * true[far]).sum(axis=1) / (true[far] ** 2).sum(axis=1)
    return float(abs(np.median(ratio) - 1))
