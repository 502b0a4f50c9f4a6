"""From files to evidence: a plan, a video or a run folder, its scene, and what the extractors read in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cascade.config import RunConfig, load_run
from cascade.contracts import CascadeError, DataError, EeReadout, ImageTransform, VideoPlan
from cascade.contracts.keyframes import keyframe_indices
from cascade.contracts.plan_file import load_plan
from cascade.contracts.video import read_video
from cascade.metrics.arrays import Bools, Floats, Frames
from cascade.metrics.evidence import Evidence
from cascade.metrics.paths import warp_pairs
from cascade.metrics.reading import Scene, Targets, dry_run, extractor, look, read_hand
from cascade.report.run_folder import RunRecord, read_run

OBJECT = "object"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A plan to be scored and everything known about it.

    Attributes:
        kind: 'plan', 'video' or 'run'.
        plan: the plan.
        run: the run folder it was executed in.
        config: the run it belongs to.
        scene: what was seen when it was made.
        readings: reader -> hand in the plan.
        targets: extractor -> targets of the plan.
        executed: hand in the executed frames, by the same reader, one per plan frame.
        rows: (T,) control step per plan frame, on the plan's clock.
        missing: what -> why.
    """

    kind: str
    plan: VideoPlan
    number: int = 0
    run: RunRecord | None = None
    config: RunConfig | None = None
    scene: Scene | None = None
    readings: dict[str, EeReadout] = field(default_factory=dict)
    targets: dict[str, Targets] = field(default_factory=dict)
    executed: EeReadout | None = None
    pictures: Frames | None = None
    rows: Any = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def hand(self) -> EeReadout | None:
        """The reading of the plan that counts: the learned one, else the one stored with the plan."""
        return self.readings.get("idm") or self.plan.readout


def gather(target: Path, *, number: int = 0, extract: bool = True, config: Path | None = None) -> Subject:
    """Read a plan file or folder, a video, or a run folder; rebuild its scene; let the extractors read it.

    Args:
        target: what to score.
        number: which plan of a run folder.
        extract: whether to rebuild the scene and build extractors, which needs weights and seconds.
        config: config.yaml of the scene, where none lies beside the plan.

    Raises:
        DataError: there is nothing to score.
    """
    missing: dict[str, str] = {}
    kind, plan, record = _load(target, number, missing)
    path = config or _config_beside(target)
    run: RunConfig | None = None
    scene: Scene | None = None
    if path is None:
        missing["scene"] = "no config.yaml beside the plan"
    elif not extract:
        missing["scene"] = "not asked for"
    else:
        try:
            run = load_run(path)
            scene = look(run)
        except CascadeError as error:
            missing["scene"] = error.problem
    readings: dict[str, EeReadout] = {}
    targets: dict[str, Targets] = {}
    rows, pictures = _on_plan_clock(plan, record, number, missing)
    executed = None
    if scene is not None:
        executed = _read_with_idm(plan, pictures, scene, run, readings, targets, missing)
        _read_with_flow(plan, scene, run, readings, targets, missing)
    else:
        missing.setdefault("idm", missing["scene"])
        missing.setdefault("flow", missing["scene"])
    return Subject(
        kind=kind,
        plan=plan,
        number=number,
        run=record,
        config=run,
        scene=scene,
        readings=readings,
        targets=targets,
        executed=executed,
        pictures=pictures,
        rows=rows,
        missing=missing,
    )


def _load(target: Path, number: int, missing: dict[str, str]) -> tuple[str, VideoPlan, RunRecord | None]:
    if (target / "run.json").is_file():
        record = read_run(target)
        for index, problem in enumerate(record.problems):
            missing[f"run folder {index + 1}"] = problem
        if number not in record.plans:
            known = ", ".join(str(n) for n in record.plans) or "none"
            raise DataError(f"{target}: expected plan {number}, found {known}.", "Choose another with --plan.")
        return "run", record.plans[number], record
    if target.suffix.lower() in (".mp4", ".mov", ".avi", ".mkv", ".webm"):
        frames, _ = read_video(target)
        size = (frames.shape[2], frames.shape[1])
        whole = ImageTransform(crop_px=(0, 0, *size), size_px=size)
        return "video", VideoPlan(instruction="", camera="", transform=whole, frames=frames), None
    return "plan", load_plan(target), None


def _config_beside(target: Path) -> Path | None:
    folder = target if target.is_dir() else target.parent
    places = (folder, folder.parent.parent)
    return next((place / "config.yaml" for place in places if (place / "config.yaml").is_file()), None)


def _on_plan_clock(
    plan: VideoPlan, record: RunRecord | None, number: int, missing: dict[str, str]
) -> tuple[Any, Frames | None]:
    """Return the (T,) rows of the run's trajectory that a plan of the execution would show, and their pictures."""
    if record is None:
        missing["execution"] = "a plan alone was given"
        return None, None
    rows = np.flatnonzero(record.rows_of(number))
    if len(rows) < 2:
        missing["execution"] = "the arm did not move"
        return None, None
    track = record.trajectory
    opening = np.nan_to_num(track.opening[rows], nan=1.0)
    chosen = rows[keyframe_indices(track.measured_m[rows], opening, len(plan) - 1)]
    if not len(record.executed):
        missing["executed video"] = "it is missing or cannot be read"
        return chosen, None
    steps = track.step[chosen]
    nearest = np.abs(record.executed_step[None, :] - steps[:, None]).argmin(axis=1)
    pictures = np.stack([plan.transform.apply(record.executed[i]) for i in nearest])
    return chosen, pictures


def _read_with_idm(
    plan: VideoPlan,
    pictures: Frames | None,
    scene: Scene,
    run: RunConfig | None,
    readings: dict[str, EeReadout],
    targets: dict[str, Targets],
    missing: dict[str, str],
) -> EeReadout | None:
    try:
        with extractor("idm", run) as idm:
            readings["idm"] = read_hand(idm, plan, scene)
            targets["idm"] = dry_run(idm, plan, scene)
            if pictures is None:
                return None
            film = VideoPlan(
                instruction=plan.instruction, camera=plan.camera, transform=plan.transform, frames=pictures
            )
            return read_hand(idm, film, scene)
    except CascadeError as error:
        missing["idm"] = error.problem
        return None


def _read_with_flow(
    plan: VideoPlan,
    scene: Scene,
    run: RunConfig | None,
    readings: dict[str, EeReadout],
    targets: dict[str, Targets],
    missing: dict[str, str],
) -> None:
    if plan.readout is None and "idm" in readings:
        plan.readout = readings["idm"]  # the flow extractor takes the gripper from it, as in the recipe avdc
    try:
        with extractor("flow", run) as flow:
            targets["flow"] = dry_run(flow, plan, scene)
    except CascadeError as error:
        missing["flow"] = error.problem


def evidence_of(subject: Subject) -> Evidence:
    """Return what the 21 metrics can draw on."""
    plan, scene = subject.plan, subject.scene
    hand = subject.hand
    no_scene = subject.missing.get("scene", "")
    motion = _motion(subject)
    return Evidence(
        frames=plan.frames,
        frame_dt_s=plan.frame_dt_s,
        reference=_aligned(subject),
        camera_frame=None if scene is None else plan.transform.apply(scene.observation.image(plan.camera).rgb),
        path_m=None if hand is None else hand.position_m,
        motion_m=motion[0],
        motion_opening=motion[1],
        motion_times_s=motion[2],
        limits=None if scene is None else scene.limits,
        object_mask=_object_mask(subject),
        gripper_px=_gripper_px(subject),
        trials=_trials(subject),
        reasons={
            "reference": subject.missing.get("execution") or subject.missing.get("executed video", ""),
            "camera_frame": no_scene,
            "object_mask": no_scene or "the object is not seen in frame 0",
            "gripper_px": no_scene,
            "path_m": subject.missing.get("idm", ""),
            "motion_m": subject.missing.get("idm", ""),
            "limits": no_scene,
            "depth_m": "imagined frames have none",
            "features": "of many clips; one plan is no distribution",
            "ik": "this arm takes end-effector targets",
            "obstacles_m": "the scene's shapes are not known here",
            "trials": subject.missing.get("trials", "of a run that followed one plan open loop"),
        },
    )


def _aligned(subject: Subject) -> Frames | None:
    """Return one executed picture per plan frame, paired by time warping of the paths where they were read."""
    pictures, hand, done = subject.pictures, subject.hand, subject.executed
    if pictures is None or hand is None or done is None:
        return pictures
    i, j = warp_pairs(hand.position_m, done.position_m)
    best = np.empty(len(pictures), dtype=np.int64)
    for frame in range(len(best)):
        partners = j[i == frame]
        best[frame] = partners[np.linalg.norm(done.position_m[partners] - hand.position_m[frame], axis=1).argmin()]
    return np.asarray(pictures[best], dtype=np.uint8)


def _motion(subject: Subject) -> tuple[Floats | None, Floats | None, Floats | None]:
    """The measured motion of a run, else the targets the extractor reads in the plan at their nominal times."""
    record = subject.run
    if record is not None:
        rows = record.rows_of(subject.number)
        if rows.sum() >= 2:
            track = record.trajectory
            times = np.arange(int(rows.sum())) / float(record.facts.get("control_hz", 80.0))
            grip = track.gripper_target[rows]
            return track.measured_m[rows], grip if np.isfinite(grip).all() else None, times
    targets = subject.targets.get("idm") or subject.targets.get("flow")
    if targets is None or len(targets.position_m) < 2:
        return None, None, None
    return targets.position_m, targets.gripper, targets.times_s


def _object_mask(subject: Subject) -> Bools | None:
    if subject.scene is None:
        return None
    image = subject.scene.observation.image(subject.plan.camera)
    try:
        mask = subject.plan.transform.apply_mask(image.mask(OBJECT))
    except DataError:
        return None
    return mask if mask.any() else None


def _gripper_px(subject: Subject) -> Floats | None:
    if subject.scene is None or subject.hand is None:
        return None
    image = subject.scene.observation.image(subject.plan.camera)
    if image.T_base_cam is None:
        return None
    K = subject.plan.transform.intrinsics(image.K)
    points = (subject.hand.position_m - image.T_base_cam[:3, 3]) @ image.T_base_cam[:3, :3]
    if (points[:, 2] < 1e-6).any():
        return None
    homogeneous = points @ K.T
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:], dtype=np.float64)


def _trials(subject: Subject) -> tuple[int, int] | None:
    record = subject.run
    if record is None or len(record.plans) != 1 or len(record.chunks) != 1 or "success" not in record.facts:
        return None
    return int(bool(record.facts["success"])), 1
