"""Conformance of action extractors and plan readers."""

from __future__ import annotations

import dataclasses

import numpy as np

from cascade.contracts import (
    ActionChunk,
    ActionExtractor,
    ActionSpace,
    CameraImage,
    EeReadout,
    IncompatibleError,
    Needs,
    Observation,
    PlanReader,
    SpaceKind,
    VideoPlan,
)
from cascade.testing.requirement import require, require_cascade_error, require_json, require_members

REACH_M = 3.0  # no table-top arm reaches farther; a target beyond it was not in metres or not in the base frame
MOST_CALLS = 200


def check_extractor(extractor: ActionExtractor, plan: VideoPlan, observation: Observation) -> ActionChunk:
    """Check that an extractor keeps the contract; returns its first chunk.

    Args:
        extractor: the extractor, its weights loaded.
        plan: a plan that begins at the observation.
        observation: what was seen when the plan was made, with all that the extractor needs.

    Raises:
        PluginError: what the contract wants, what was found.
        IncompatibleError: the observation lacks what the extractor needs, so nothing can be said.
    """
    require_members(extractor, ("needs", "produces", "extract"), "ActionExtractor")
    needs = extractor.needs
    require(isinstance(needs, Needs), f"needs: expected Needs, found {type(needs).__name__}.")
    require(
        isinstance(extractor.produces, ActionSpace),
        f"produces: expected ActionSpace, found {type(extractor.produces).__name__}.",
    )
    _check_observation(needs, plan, observation)

    before = plan.frames.copy()
    chunk = extractor.extract(plan, observation)
    _check_chunk(chunk, extractor.produces)
    require(len(chunk) > 0 or chunk.final, "first chunk: expected targets, or an empty chunk that is final.")
    _check_continues(extractor, plan, observation, chunk)

    anew = extractor.extract(copy_of(plan), observation)
    same = anew.values.shape == chunk.values.shape and np.allclose(anew.values, chunk.values, atol=1e-6)
    require(
        bool(same) and bool(np.allclose(anew.gripper, chunk.gripper, atol=1e-6)),
        "extract(): expected the same chunk for the same plan under a new plan_id, found another one.",
        "Begin anew when plan_id changes, and draw random numbers from a fixed seed.",
    )
    require(bool(np.array_equal(plan.frames, before)), "extract(): expected the plan to stay as it was.")
    _check_refusals(extractor, plan, observation)
    return chunk


def check_reader(reader: PlanReader, plan: VideoPlan, observation: Observation, *, start_m: float = 0.1) -> EeReadout:
    """Check that a reader keeps the contract; returns its readout.

    Args:
        reader: the reader, its weights loaded.
        plan: a plan that begins at the observation.
        observation: what was seen when the plan was made.
        start_m: largest distance between the reading of frame 0 and the measured end effector.

    Raises:
        PluginError: what the contract wants, what was found.
    """
    require_members(reader, ("read",), "PlanReader")
    readout = reader.read(plan, observation)
    require(isinstance(readout, EeReadout), f"read(): expected EeReadout, found {type(readout).__name__}.")
    found = len(readout.position_m)
    require(found == len(plan), f"read(): expected one reading per frame ({len(plan)}), found {found}.")
    require(bool(np.all(readout.position_std_m > 0)), "position_std_m: expected positive spreads.")
    require(bool(np.all(readout.opening_std >= 0)), "opening_std: expected spreads of at least 0.")
    require(bool(readout.source), "source: expected the reader's name, found an empty text.")
    off = float(np.linalg.norm(readout.position_m[0] - observation.arm.position_m))
    require(off <= start_m, f"frame 0: expected a reading within {start_m:g} m of the measured arm, found {off:.3f} m.")
    if readout.progress is not None:
        low, high = float(readout.progress.min()), float(readout.progress.max())
        require(low >= -1e-6 and high <= 1 + 1e-6, f"progress: expected 0..1, found {low:.3g}..{high:.3g}.")
    again = reader.read(plan, observation)
    require(
        bool(np.allclose(again.position_m, readout.position_m, atol=1e-6)),
        "read(): expected the same plan to be read the same way twice.",
    )
    blind = Observation(images={}, arm=observation.arm)
    require_cascade_error("an observation without images", lambda: reader.read(plan, blind), may_succeed=True)
    return readout


def copy_of(plan: VideoPlan, *, camera: str | None = None, still: bool = False) -> VideoPlan:
    """Return the plan under a new plan_id; through another camera, or with frame 0 throughout, where asked."""
    frames = np.repeat(plan.frames[:1], len(plan), axis=0) if still else plan.frames
    return VideoPlan(
        instruction=plan.instruction,
        camera=camera or plan.camera,
        transform=plan.transform,
        frames=frames,
        frame_dt_s=plan.frame_dt_s,
        latents=None if still else plan.latents,
        flow=None if still else plan.flow,
        readout=None if still else plan.readout,
        actions=plan.actions,
        seed=plan.seed,
        provenance=plan.provenance,
    )


def _check_observation(needs: Needs, plan: VideoPlan, observation: Observation) -> None:
    image = observation.image(plan.camera)
    for wanted, value, name in (
        (needs.depth, image.depth_m, "depth"),
        (needs.segmentation, image.segmentation, "segmentation"),
        (needs.extrinsics, image.T_base_cam, "extrinsics"),
    ):
        if wanted and value is None:
            raise IncompatibleError(
                f"The extractor needs {name}, which this observation lacks.", "Give one that has it."
            )


def _check_chunk(chunk: ActionChunk, produces: ActionSpace) -> None:
    require(isinstance(chunk, ActionChunk), f"extract(): expected ActionChunk, found {type(chunk).__name__}.")
    mismatch = chunk.space.mismatch(produces)
    require(mismatch is None, f"chunk: expected the space that `produces` states, but {mismatch}.")
    for name, value in (("hold_s", chunk.hold_s), ("tolerance_m", chunk.tolerance_m)):
        require(value is not None and bool(np.all(value >= 0)), f"{name}: expected values of at least 0.")
    if chunk.space.kind is SpaceKind.EE_POSE and len(chunk):
        far = float(np.linalg.norm(chunk.values[:, :3], axis=1).max())
        require(
            far <= REACH_M,
            f"values: expected targets in metres from the arm base, found one {far:.1f} m away.",
            "Absolute positions in the base frame, in metres.",
        )
    require_json("chunk provenance", chunk.provenance)


def _check_continues(extractor: ActionExtractor, plan: VideoPlan, observation: Observation, chunk: ActionChunk) -> None:
    """Follow every chunk to its last target until the plan is exhausted, as the runtime does."""
    for _ in range(MOST_CALLS):
        if len(chunk) and chunk.space.kind is SpaceKind.EE_POSE:
            observation = moved_to(observation, chunk.values[-1], float(chunk.gripper[-1]))
        finished = chunk.final
        chunk = extractor.extract(plan, observation)
        _check_chunk(chunk, extractor.produces)
        if finished:
            require(chunk.final, "extract(): expected `final` to stay once the plan was exhausted.")
            return
    require(
        False,
        f"extract(): expected a final chunk within {MOST_CALLS} calls, found none.",
        "Remember by plan_id how far the plan has got, and set `final` on its last chunk.",
    )


def moved_to(observation: Observation, target: np.ndarray, opening: float) -> Observation:
    """Return the observation with the arm at a (7,) target; the images stay, since nothing renders here."""
    w, x, y, z = target[3:]
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = target[:3]
    arm = dataclasses.replace(
        observation.arm, T_base_ee=T, gripper_opening=opening, stamp_s=observation.arm.stamp_s + 1.0
    )
    return Observation(images=observation.images, arm=arm)


def _check_refusals(extractor: ActionExtractor, plan: VideoPlan, observation: Observation) -> None:
    blind = Observation(images={}, arm=observation.arm)
    require_cascade_error(
        "an observation without images", lambda: extractor.extract(copy_of(plan), blind), may_succeed=True
    )
    require_cascade_error(
        "a plan through an unknown camera",
        lambda: extractor.extract(copy_of(plan, camera="no-such-camera"), observation),
        may_succeed=not _looks(extractor.needs),
    )
    require_cascade_error(
        "a plan in which nothing moves",
        lambda: extractor.extract(copy_of(plan, still=True), observation),
        may_succeed=True,
    )
    image = observation.image(plan.camera)
    if extractor.needs.depth and image.depth_m is not None:
        no_depth = dataclasses.replace(image, depth_m=None)
        require_cascade_error("no depth", lambda: extractor.extract(copy_of(plan), _with(observation, plan, no_depth)))
        all_nan = dataclasses.replace(image, depth_m=np.full_like(image.depth_m, np.nan))
        require_cascade_error(
            "depth of NaN only",
            lambda: extractor.extract(copy_of(plan), _with(observation, plan, all_nan)),
            may_succeed=True,
        )
    if extractor.needs.extrinsics:
        unplaced = dataclasses.replace(image, T_base_cam=None)
        require_cascade_error(
            "no extrinsics", lambda: extractor.extract(copy_of(plan), _with(observation, plan, unplaced))
        )


def _looks(needs: Needs) -> bool:
    return needs.depth or needs.segmentation or needs.extrinsics


def _with(observation: Observation, plan: VideoPlan, image: CameraImage) -> Observation:
    return Observation(images={**observation.images, plan.camera: image}, arm=observation.arm)
