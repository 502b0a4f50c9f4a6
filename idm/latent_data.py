"""Plans with labels: what a planner imagines from moments of demonstrations, and what the hand then did.

The plans are the planner's own, so its mistakes are among what is learnt to be read. They are kept in `plans/` beside
the weights, so that a stopped run, or one with other training options, does not make them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import (
    ArmState,
    CameraImage,
    ConfigError,
    DataError,
    Episode,
    EpisodeSource,
    Observation,
    Planner,
    VideoPlan,
)
from cascade.contracts.keyframes import keyframe_indices

MIN_FRAMES = 8  # left of an episode at the moment of a plan
SHARD = 25  # episodes whose plans are written together


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanForm:
    """What all plans of a set have in common; K (3, 3) [px] is that of the plan's pixels."""

    space: str
    shape: tuple[int, int, int, int]
    frames: int
    camera: str
    image_size_px: int
    K: list[list[float]]
    T_base_cam: list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPlans:
    """N plans: latents (N, L, C, h, w) float16, the true path (N, T, 4) of xyz [m] and opening, episode (N,)."""

    latents: NDArray[np.float16]
    path: NDArray[np.float32]
    episode: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of plans N."""
        return len(self.latents)


def make_plans(
    planner: Planner, episodes: EpisodeSource, folder: Path, *, windows: int, seed: int, limit: int | None
) -> tuple[LabelledPlans, PlanForm]:
    """Let the planner imagine every successful demonstration, `windows` times each, or read what is there already.

    Raises:
        ConfigError: the planner gives no latents, or `folder` holds plans of another planner or other data.
        DataError: there are fewer than 2 successful demonstrations, or they lack the planner's camera.
    """
    folder.mkdir(parents=True, exist_ok=True)
    camera = _camera(planner)
    shards: list[LabelledPlans] = []
    form = _first_form(planner, episodes, camera)
    for shard in _shards(episodes, limit):
        path = folder / f"{shard[0]:06d}-{shard[-1]:06d}.safetensors"
        key = {"data": episodes.digest, "windows": windows, "seed": seed, "episodes": list(shard)}
        if path.is_file():
            plans, here = _load(path, key)
        else:
            plans, here = _imagine(planner, [(i, episodes[i]) for i in shard], camera, windows, seed)
            _save(path, plans, here, key)
        _check_same(form, here, path)
        if len(plans):
            shards.append(plans)
    values = {f.name: np.concatenate([getattr(s, f.name) for s in shards]) for f in fields(LabelledPlans)}
    plans = LabelledPlans(**values)
    if len(np.unique(plans.episode)) < 2:
        raise DataError(
            f"dataset {episodes.digest}: expected 2 or more successful demonstrations, found fewer.",
            "Record some: cascade record --kind expert.",
        )
    return plans, form


def _first_form(planner: Planner, episodes: EpisodeSource, camera: str) -> PlanForm:
    """Return what the planner gives for the first demonstration: all other plans must be alike, kept ones too."""
    for index in range(len(episodes)):
        episode = episodes[index]
        if _teaches(episode):
            return _form(_plan(planner, episode, camera, 0, 0), episode, camera)
    raise DataError(
        f"dataset {episodes.digest}: expected successful demonstrations, found none among {len(episodes)}.",
        "Record some: cascade record --kind expert.",
    )


def _shards(episodes: EpisodeSource, limit: int | None) -> Iterator[Sequence[int]]:
    from rich.console import Console
    from rich.progress import track

    count = len(episodes) if limit is None else min(limit, len(episodes))
    parts = [range(at, min(at + SHARD, count)) for at in range(0, count, SHARD)]
    console = Console(stderr=True)
    yield from track(parts, "imagining", console=console, transient=True, disable=not console.is_terminal)


def _camera(planner: Planner) -> str:
    cameras = planner.needs.cameras
    if not cameras:
        raise ConfigError("planner: expected one that names its camera, found one that names none.")
    return cameras[0]


def _teaches(episode: Episode) -> bool:
    return episode.kind == "expert" and episode.success and len(episode.ee_position_m) >= MIN_FRAMES


def _imagine(
    planner: Planner, items: Sequence[tuple[int, Episode]], camera: str, windows: int, seed: int
) -> tuple[LabelledPlans, PlanForm | None]:
    latents, paths, owners = [], [], []
    form: PlanForm | None = None
    for index, episode in items:
        if not _teaches(episode):
            continue
        rng = np.random.default_rng([seed, index])
        last = len(episode.ee_position_m) - MIN_FRAMES
        starts = [0, *(int(s) for s in rng.integers(0, last + 1, windows - 1))]
        for number, start in enumerate(starts):
            plan = _plan(planner, episode, camera, start, seed + 1000 * index + number)
            here = _form(plan, episode, camera)
            form = form or here
            _check_same(form, here, f"episode {index}")
            assert plan.latents is not None  # noqa: S101  (the form said so)
            latents.append(plan.latents.values.astype(np.float16))
            paths.append(_true_path(episode, plan, start))
            owners.append(index)
    if form is None:
        empty = np.zeros((0, 1, 1, 1, 1), np.float16), np.zeros((0, 1, 4), np.float32), np.zeros(0, np.int32)
        return LabelledPlans(latents=empty[0], path=empty[1], episode=empty[2]), None
    return LabelledPlans(latents=np.stack(latents), path=np.stack(paths), episode=np.array(owners, np.int32)), form


def _plan(planner: Planner, episode: Episode, camera: str, start: int, seed: int) -> VideoPlan:
    return planner.plan(observe(episode, camera, start), episode.instruction, seed=seed)[0]


def observe(episode: Episode, camera: str, index: int) -> Observation:
    """Return what a planner would have seen at frame `index` of an episode.

    Raises:
        DataError: the episode lacks the camera.
    """
    if camera not in episode.frames:
        raise DataError(
            f"episode {episode.task} seed {episode.seed}: expected camera {camera!r}, found {sorted(episode.frames)}.",
            "Record with that camera, or choose the planner's.",
        )
    T = np.eye(4)  # of the hand's orientation no data set tells more than what was commanded
    T[:3, 3] = episode.ee_position_m[index]
    image = CameraImage(
        rgb=np.asarray(episode.frames[camera][index]),
        K=episode.K[camera],
        T_base_cam=episode.T_base_cam[camera],
        stamp_s=0.0,
    )
    opening = float(np.clip(episode.gripper_opening[index], 0, 1))
    return Observation(
        images={camera: image}, arm=ArmState(q=np.zeros(1), T_base_ee=T, gripper_opening=opening, stamp_s=0.0)
    )


def _true_path(episode: Episode, plan: VideoPlan, start: int) -> NDArray[np.float32]:
    """Return (T, 4): where the hand was, and how open, at the moments that the plan's frames stand for."""
    position, opening = np.asarray(episode.ee_position_m), np.clip(episode.gripper_opening, 0, 1)
    if plan.frame_dt_s is None:
        chosen = keyframe_indices(position, opening, len(plan) - 1, start=start)
    else:
        later = np.rint(np.arange(len(plan)) * plan.frame_dt_s * episode.fps).astype(np.int64)
        chosen = np.minimum(start + later, len(position) - 1)
    path: NDArray[np.float32] = np.c_[position, opening][chosen].astype(np.float32)
    return path


def _form(plan: VideoPlan, episode: Episode, camera: str) -> PlanForm:
    if plan.latents is None:
        raise ConfigError(
            f"planner {plan.provenance.get('planner')!r}: expected plans with latents, found none.",
            "For the planner 'diffusers' set planner.options.output=latent.",
        )
    length, channels, height, width = plan.latents.values.shape
    return PlanForm(
        space=plan.latents.space,
        shape=(length, channels, height, width),
        frames=len(plan),
        camera=camera,
        image_size_px=plan.transform.size_px[0],
        K=plan.transform.intrinsics(episode.K[camera]).tolist(),
        T_base_cam=np.asarray(episode.T_base_cam[camera]).tolist(),
    )


def _check_same(form: PlanForm, here: PlanForm | None, where: Path | str) -> None:
    if here is None:
        return
    for name in ("space", "shape", "frames", "camera", "image_size_px"):
        mine, other = getattr(form, name), getattr(here, name)
        if mine != other:
            raise ConfigError(
                f"{where}: expected plans of {name} {mine!r} as before, found {other!r}.",
                "Train into another folder, or delete its `plans`.",
            )
    if not np.allclose(form.T_base_cam, here.T_base_cam, atol=1e-3) or not np.allclose(form.K, here.K, atol=0.5):
        raise DataError(
            f"{where}: camera {here.camera!r} is not where it was in the first episode.",
            "Weights know one fixed view; train on episodes of one calibration.",
        )


def _save(path: Path, plans: LabelledPlans, form: PlanForm | None, key: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    meta = {"key": _hash(key), "form": json.dumps(asdict(form) if form else None)}
    partial = path.with_suffix(".partial")
    save_file({f.name: getattr(plans, f.name) for f in fields(LabelledPlans)}, str(partial), metadata=meta)
    partial.replace(path)


def _load(path: Path, key: dict[str, Any]) -> tuple[LabelledPlans, PlanForm | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            meta = dict(file.metadata() or {})
            values = {f.name: file.get_tensor(f.name) for f in fields(LabelledPlans)}
        form = json.loads(meta["form"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: expected plans, found a broken file ({error}).", "Delete it.") from error
    if meta["key"] != _hash(key):
        raise ConfigError(
            f"{path}: holds plans of other data, or made with other `windows` or `seed`.",
            "Train into another folder, or delete its `plans`.",
        )
    return LabelledPlans(**values), PlanForm(**{**form, "shape": tuple(form["shape"])}) if form else None


def _hash(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
