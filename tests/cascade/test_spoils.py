"""What spoils do to a video; and the planner that spoils another one's plans."""

from typing import Any

import numpy as np
import pytest

from cascade.contracts import DataError
from cascade.contracts.records import CameraImage, Observation, VideoPlan
from cascade.plugins import build_plugin
from cascade.testing.scenes import tabletop_observation, tabletop_plan
from cascade.testing.spoiled import SpoiledPlanner, object_mask
from cascade.testing.spoils import NEEDS_OTHER, SPOILED, Spoil, spoil

PLAN = tabletop_plan()
FRAMES = PLAN.frames
MASK = object_mask(PLAN, tabletop_observation())
OTHER = FRAMES[::-1].copy()


def spoiled(kind: Spoil, strength: float = 1.0, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return spoil(kind, FRAMES, strength=strength, rng=rng, mask=MASK, other=OTHER)


@pytest.mark.parametrize("kind", SPOILED)
def test_every_spoil_keeps_frame_0_and_the_shape_and_changes_the_rest(kind: Spoil) -> None:
    result = spoiled(kind)
    assert result.shape == FRAMES.shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[0], FRAMES[0])
    assert np.abs(result[1:].astype(int) - FRAMES[1:]).max() > 30


@pytest.mark.parametrize("kind", SPOILED)
def test_the_same_seed_spoils_the_same_way(kind: Spoil) -> None:
    np.testing.assert_array_equal(spoiled(kind, seed=3), spoiled(kind, seed=3))


@pytest.mark.parametrize("kind", [Spoil.EARLY_STOP, Spoil.DRIFT, Spoil.MORPH, Spoil.TELEPORT, Spoil.VANISH])
def test_more_strength_spoils_more(kind: Spoil) -> None:
    def change(strength: float) -> float:
        return float(np.abs(spoiled(kind, strength).astype(int) - FRAMES).mean())

    assert change(1.0) > change(0.3)


def test_none_changes_nothing() -> None:
    np.testing.assert_array_equal(spoiled(Spoil.NONE), FRAMES)


def test_a_plan_that_stops_early_stands_still_at_its_end() -> None:
    result = spoiled(Spoil.EARLY_STOP)
    np.testing.assert_array_equal(result[-1], result[len(result) // 2])
    assert (result[1] != result[0]).any()


def test_an_object_that_vanishes_is_not_seen_any_more() -> None:
    def blue(frame: np.ndarray[Any, Any]) -> int:
        return int(((frame[..., 2] > 120) & (frame[..., 0] < 80)).sum())

    assert blue(FRAMES[5]) > 30  # before the hand hides it
    assert blue(spoiled(Spoil.VANISH)[5]) < 0.2 * blue(FRAMES[5])


def test_the_motion_of_another_plan_is_pasted_onto_this_scene() -> None:
    result = spoiled(Spoil.OTHER_TASK)
    corner = np.s_[:, :10, :10]
    np.testing.assert_array_equal(result[corner], np.repeat(FRAMES[:1], len(FRAMES), axis=0)[corner])


def test_what_a_spoil_needs_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="mask"):
        spoil(Spoil.VANISH, FRAMES, strength=1.0, rng=rng)
    for kind in NEEDS_OTHER:
        with pytest.raises(DataError, match="another plan"):
            spoil(kind, FRAMES, strength=1.0, rng=rng)
    with pytest.raises(DataError, match="strength"):
        spoil(Spoil.DRIFT, FRAMES, strength=1.5, rng=rng)


class TwoTasks:
    """Imagines forwards, or backwards when told something else (a Planner)."""

    def __init__(self) -> None:
        self.closed = False

    @property
    def needs(self) -> Any:
        return None

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        frames = FRAMES if instruction == PLAN.instruction else np.concatenate([FRAMES[:1], OTHER[1:]])
        made = {"weights": "abc", "planner": "two"}
        return [
            VideoPlan(
                instruction=instruction,
                camera=PLAN.camera,
                transform=PLAN.transform,
                frames=frames,
                readout=PLAN.readout,
                seed=seed,
                provenance=made,
            )
            for _ in range(samples)
        ]

    def close(self) -> None:
        self.closed = True


def test_a_spoiled_plan_says_so_and_brings_no_reading_that_knows_better() -> None:
    planner = SpoiledPlanner(TwoTasks(), kind=Spoil.DRIFT)
    plan = planner.plan(tabletop_observation(), PLAN.instruction, seed=1)[0]
    assert plan.readout is None
    assert plan.latents is None
    assert plan.provenance["spoil"] == "drift"
    assert plan.provenance["weights"] == "abc"
    assert (plan.frames[-1] != FRAMES[-1]).any()


def test_a_plan_that_is_not_spoiled_is_handed_on_as_it_is() -> None:
    plan = SpoiledPlanner(TwoTasks()).plan(tabletop_observation(), PLAN.instruction, seed=1)[0]
    assert plan.readout is PLAN.readout
    assert "spoil" not in plan.provenance


def test_the_plan_of_another_task_keeps_the_sentence_that_was_asked_for() -> None:
    planner = SpoiledPlanner(TwoTasks(), kind=Spoil.OTHER_TASK, other_instruction="go back")
    plan = planner.plan(tabletop_observation(), PLAN.instruction, seed=1, samples=2)[1]
    assert plan.instruction == PLAN.instruction
    assert (plan.frames[2] != FRAMES[2]).any()
    with pytest.raises(DataError, match="other_instruction"):
        SpoiledPlanner(TwoTasks(), kind=Spoil.OTHER_TASK).plan(tabletop_observation(), PLAN.instruction, seed=1)


def test_closing_lets_go_of_the_planner_inside() -> None:
    inner = TwoTasks()
    SpoiledPlanner(inner).close()
    assert inner.closed


def test_it_is_a_planner_by_name() -> None:
    planner = build_plugin("planner", "spoiled", {"planner": {"name": "hold"}, "kind": "drift"})
    plan = planner.plan(tabletop_observation(), "anything", seed=0)[0]
    assert plan.provenance["spoil"] == "drift"


def test_the_motion_of_another_layout_needs_a_simulated_task_and_takes_a_rig_of_its_own() -> None:
    planner = build_plugin("planner", "spoiled", {"planner": {"name": "hold"}, "kind": "wrong_goal"})
    with pytest.raises(DataError, match="simulated task"):
        planner.plan(tabletop_observation(), "anything", seed=0)
    planner.begin(task="door-open", seed=3)
    try:
        plan = planner.plan(tabletop_observation(), "anything", seed=0)[0]
    finally:
        planner.close()
    np.testing.assert_array_equal(plan.frames[0], plan.frames[-1])  # nothing moves there either
