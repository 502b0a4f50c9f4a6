"""Conformance of planners."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import CameraImage, ImageTransform, Needs, Observation, Planner, VideoPlan
from cascade.contracts.plan_file import load_plan, save_plan
from cascade.testing.requirement import require, require_cascade_error, require_json, require_members


def check_planner(
    planner: Planner,
    observation: Observation,
    instruction: str,
    *,
    seed: int = 0,
    first_frame_levels: float = 12.0,
    repeat_levels: float = 0.0,
) -> VideoPlan:
    """Check that a planner keeps the contract; returns the plan it made.

    Args:
        planner: the planner, its weights loaded. One that is EpisodeAware has been told its episode already.
        observation: what it plans from.
        instruction: what it plans for.
        seed: seed of the plans.
        first_frame_levels: largest mean difference (0..255) between frame 0 and the observation seen through the
            plan's transform; an autoencoder may cost a little.
        repeat_levels: largest mean difference between two plans of the same seed; above 0 only where the hardware
            is not deterministic.

    Raises:
        PluginError: what the contract wants, what was found.
    """
    require_members(planner, ("needs", "plan"), "Planner")
    require(isinstance(planner.needs, Needs), f"needs: expected Needs, found {type(planner.needs).__name__}.")

    plans = planner.plan(observation, instruction, seed=seed)
    require(isinstance(plans, list) and len(plans) == 1, "plan(): expected a list of one plan by default.")
    plan = plans[0]
    _check_plan(plan, observation, instruction, planner.needs, first_frame_levels)

    again = planner.plan(observation, instruction, seed=seed)[0]
    require(again.plan_id != plan.plan_id, "plan_id: expected a name of its own for every plan, found the same twice.")
    require(
        len(again) == len(plan) and _levels(again.frames, plan.frames) <= repeat_levels,
        "plan(): expected the same seed, observation and instruction to give the same plan, found two different ones.",
        "Draw all random numbers from a generator made from `seed`.",
    )

    several = planner.plan(observation, instruction, seed=seed, samples=2)
    require(len(several) == 2, f"samples=2: expected 2 plans, found {len(several)}.")
    require(several[0].plan_id != several[1].plan_id, "samples=2: expected two plans with names of their own.")
    for sample in several:
        _check_plan(sample, observation, instruction, planner.needs, first_frame_levels)

    blind = Observation(images={}, arm=observation.arm)
    require_cascade_error(
        "an observation without images", lambda: planner.plan(blind, instruction, seed=seed), may_succeed=True
    )
    require_cascade_error(
        "samples=0", lambda: planner.plan(observation, instruction, seed=seed, samples=0), may_succeed=True
    )
    require_cascade_error("an empty instruction", lambda: planner.plan(observation, "", seed=seed), may_succeed=True)
    return plan


def seen_through(image: CameraImage, transform: ImageTransform) -> NDArray[np.uint8]:
    """Return the (H, W, 3) uint8 image that a plan with this transform starts from."""
    import cv2

    u0, v0, width, height = (round(value) for value in transform.crop_px)
    crop = np.ascontiguousarray(image.rgb[v0 : v0 + height, u0 : u0 + width])
    shrinks = transform.size_px[0] < width
    return np.asarray(
        cv2.resize(crop, transform.size_px, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    )


def _check_plan(plan: VideoPlan, observation: Observation, instruction: str, needs: Needs, levels: float) -> None:
    require(isinstance(plan, VideoPlan), f"plan(): expected VideoPlan, found {type(plan).__name__}.")
    require(plan.instruction == instruction, f"instruction: expected {instruction!r}, found {plan.instruction!r}.")
    require(
        plan.camera in observation.images,
        f"camera: expected one of {', '.join(sorted(observation.images))}, found {plan.camera!r}.",
    )
    require(
        needs.cameras is None or plan.camera in needs.cameras,
        f"camera: expected one that `needs` names ({needs.cameras}), found {plan.camera!r}.",
    )
    image = observation.image(plan.camera)
    u0, v0, width, height = plan.transform.crop_px
    inside = min(u0, v0) >= 0 and u0 + width <= image.rgb.shape[1] and v0 + height <= image.rgb.shape[0]
    require(
        inside and min(width, height) > 0,
        f"transform: expected a crop inside the image, found {(u0, v0, width, height)}.",
    )

    frames = plan.frames
    require(
        len(plan) == len(frames) >= 2, f"length: expected as many frames as it says ({len(plan)}), found {len(frames)}."
    )
    require(not frames.flags.writeable, "frames: expected a read-only array.")
    off = _levels(frames[0], seen_through(image, plan.transform))
    require(
        off <= levels,
        f"frame 0: expected the observation as the planner saw it (within {levels:g} levels), found it {off:.1f} away.",
        "Put the cropped and scaled camera image first, and let `transform` say how it was cropped and scaled.",
    )
    _check_extras(plan)
    require(bool(plan.provenance), "provenance: expected at least the planner's name, found nothing.")
    require_json("provenance", plan.provenance)
    with tempfile.TemporaryDirectory() as folder:
        stored = load_plan(save_plan(plan, Path(folder)))
    require(
        bool(np.array_equal(stored.frames, frames)), "plan file: expected the frames to survive saving and loading."
    )


def _check_extras(plan: VideoPlan) -> None:
    length = len(plan)
    if plan.readout is not None:
        found = len(plan.readout.position_m)
        require(found == length, f"readout: expected one reading per frame ({length}), found {found}.")
    if plan.flow is not None:
        found = len(plan.flow)
        require(found == length - 1, f"flow: expected one field between frames ({length - 1}), found {found}.")
    if plan.latents is not None:
        found = len(plan.latents.values)
        require(1 <= found <= length, f"latents: expected 1 to {length}, one per frame at most, found {found}.")
        require(bool(plan.latents.space), "latents: expected the name of their space.")
    if plan.frame_dt_s is not None:
        require(plan.frame_dt_s > 0, f"frame_dt_s: expected a positive time, found {plan.frame_dt_s}.")


def _levels(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean())
