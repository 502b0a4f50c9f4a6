"""Tree search over sub-goals in imagination (VLP, Du et al., arXiv 2310.10625): sample, score, extend, keep a beam.

Each level imagines `samples` futures from every plan that is kept, the recipe's scorers rank them, the best `beam` are
cut after `keep_frames` frames, and the next level imagines on from the last frame of the cut, as if the camera had seen
it and the hand stood where the plan shows it. The last level is not cut.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cascade.best_of import Judged, choose
from cascade.config import SearchConfig
from cascade.contracts.errors import ConfigError
from cascade.contracts.interfaces import PlanReader
from cascade.contracts.records import ArmState, CameraImage, EeReadout, Limits, Observation, PlanLatents, VideoPlan
from cascade.pipeline import Stages


def search(stages: Stages, observation: Observation, instruction: str, *, seed: int, limits: Limits) -> list[VideoPlan]:
    """Return the plans of the last level, each from the observation to its end, for a last choice among them.

    Raises:
        ConfigError: the plans are too short to be cut after `keep_frames` frames.
    """
    sampling = stages.recipe.sampling
    settings = sampling.search or SearchConfig()
    plans = stages.planner.plan(observation, instruction, seed=seed, samples=sampling.samples)
    for level in range(1, settings.levels):
        best = choose(stages, plans, observation, limits).ranked[: settings.beam]
        plans = []
        for branch, kept in enumerate(best):
            plans += _extended(stages, kept, observation, instruction, settings, seed, level, branch)
    return plans


def _extended(
    stages: Stages,
    kept: Judged,
    observation: Observation,
    instruction: str,
    settings: SearchConfig,
    seed: int,
    level: int,
    branch: int,
) -> list[VideoPlan]:
    """Imagine on from the sub-goal of a plan, and put both parts together."""
    plan, cut = kept.plan, level * settings.keep_frames
    if cut >= len(plan):
        raise ConfigError(
            f"sampling.search: expected keep_frames below {len(plan)} frames of a plan, found a cut at {cut}.",
            "Lower keep_frames or levels.",
        )
    readout = _readout(stages, plan, observation)
    seen = imagined(observation, plan, cut, readout)
    branch_seed = int(np.random.default_rng([seed & 0xFFFFFFFF, level, branch]).integers(2**31))
    rest = stages.planner.plan(seen, instruction, seed=branch_seed, samples=stages.recipe.sampling.samples)
    return [joined(plan, readout, cut, one, f"{kept.sample}") for one in rest]


def _readout(stages: Stages, plan: VideoPlan, observation: Observation) -> EeReadout | None:
    """Where the hand is in the frames of a plan, by whoever can read it."""
    for reader in (stages.reader, stages.extractor):
        if isinstance(reader, PlanReader):
            return reader.read(plan, observation)
    return plan.readout


def imagined(observation: Observation, plan: VideoPlan, frame: int, readout: EeReadout | None) -> Observation:
    """Return the observation as it would be at a frame of a plan: that picture, and the hand where it was read.

    Depth and segmentation of the plan's camera are unknown then; other cameras keep their present image.
    """
    image = observation.image(plan.camera)
    shown: CameraImage = replace(
        image,
        rgb=_pasted(image.rgb, plan.frames[frame], plan.transform.crop_px),
        depth_m=None,
        segmentation=None,
        segment_names={},
    )
    arm: ArmState = observation.arm
    if readout is not None:
        T = arm.T_base_ee.copy()
        T[:3, 3] = readout.position_m[frame]
        arm = replace(arm, T_base_ee=T, gripper_opening=float(np.clip(readout.opening[frame], 0, 1)))
    return Observation(images={**observation.images, plan.camera: shown}, arm=arm)


def _pasted(
    rgb: NDArray[np.uint8], frame: NDArray[np.uint8], crop_px: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """Return a camera image with a plan's frame in the part of it that the plan shows."""
    import cv2

    u, v, width, height = (round(value) for value in crop_px)
    result = rgb.copy()
    result[v : v + height, u : u + width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    return result


def joined(first: VideoPlan, readout: EeReadout | None, cut: int, rest: VideoPlan, parent: str) -> VideoPlan:
    """Return one plan: `first` up to its frame `cut`, then `rest`, whose frame 0 is that frame."""
    frames = np.concatenate([first.frames[: cut + 1], rest.frames[1:]])
    latents = None
    if first.latents is not None and rest.latents is not None and first.latents.space == rest.latents.space:
        values = np.concatenate([first.latents.values[: cut + 1], rest.latents.values[1:]])
        latents = PlanLatents(values=values, space=first.latents.space)
    tree = {"cut": cut, "parent": parent, "before": first.provenance.get("tree")}
    return VideoPlan(
        instruction=first.instruction,
        camera=first.camera,
        transform=first.transform,
        frames=frames,
        frame_dt_s=first.frame_dt_s if first.frame_dt_s == rest.frame_dt_s else None,
        latents=latents,
        readout=_joined_readout(first.readout, rest.readout, cut),
        seed=first.seed,
        provenance={**rest.provenance, "ms": _added(first, rest), "tree": tree},
    )


def _joined_readout(first: EeReadout | None, rest: EeReadout | None, cut: int) -> EeReadout | None:
    if first is None or rest is None or first.source != rest.source:
        return None

    def both(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([a[: cut + 1], b[1:]])

    return EeReadout(
        position_m=both(first.position_m, rest.position_m),
        opening=both(first.opening, rest.opening),
        position_std_m=both(first.position_std_m, rest.position_std_m),
        opening_std=both(first.opening_std, rest.opening_std),
        source=first.source,
    )


def _added(*plans: VideoPlan) -> dict[str, float]:
    """Milliseconds per stage of all parts together."""
    total: dict[str, float] = {}
    for plan in plans:
        for name, ms in dict(plan.provenance.get("ms") or {}).items():
            total[name] = round(total.get(name, 0.0) + float(ms), 3)
    return total
