"""The learned value: taught on a synthetic table, where the hand starts somewhere else every time."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cascade.config import load_rig
from cascade.contracts import Candidate, Episode, VideoPlan
from cascade.contracts.errors import ConfigError, DataError, WeightsError
from cascade.plugins import build_plugin
from cascade.scorers.value import LearnedValue
from cascade.testing.scenes import START_M, tabletop_observation, tabletop_plan
from cascade.testing.spoiled import SpoiledPlanner
from cascade.testing.spoils import Spoil, spoil
from cascade.value import training
from cascade.value.measuring import rank_correlation
from cascade.value.model import SHIPPED, ValueModel

CARRY, RAISE = "carry the blue ball to the left", "raise the hand"
OPTIONS = {"frames": 9, "hold_every": 4, "batch": 16, "epochs": 8, "learning_rate": 4e-3, "threads": 1}


def start_of(seed: int) -> np.ndarray:
    return np.array(START_M) + np.random.default_rng(seed).uniform((-0.12, -0.06, -0.08), (0.02, 0.06, 0.02))


def carried(seed: int, length: int = 12):
    return tabletop_plan(tabletop_observation(ee_m=start_of(seed), size=48), length=length)


def episode(sentence: str, seed: int) -> Episode:
    if sentence == CARRY:
        plan = carried(seed)
        frames, ee, opening = plan.frames, plan.readout.position_m, plan.readout.opening
    else:
        ee = start_of(seed) + np.linspace((0, 0, 0), (0.0, 0.05, 0.12), 12)
        frames = np.stack([tabletop_observation(ee_m=place, size=48).image("corner").rgb for place in ee])
        opening = np.ones(12)
    return Episode(
        frames={"corner": frames},
        K={},
        T_base_cam={},
        ee_position_m=ee,
        gripper_opening=opening,
        action=np.zeros((12, 8)),
        fps=10.0,
        instruction=sentence,
        task=sentence,
        kind="expert",
        success=True,
        seed=seed,
    )


class Shows(list):
    digest = "shows"


@pytest.fixture(scope="module")
def shows() -> Shows:
    return Shows(episode(sentence, seed) for seed in range(12) for sentence in (CARRY, RAISE))


@pytest.fixture(scope="module")
def trained(shows, tmp_path_factory) -> tuple[ValueModel, dict, Path]:
    folder = tmp_path_factory.mktemp("value")
    scores = build_plugin("trainer", "value", OPTIONS).train(shows, folder, resume=False)
    return ValueModel.load(folder / "weights"), dict(scores), folder


def test_it_says_how_far_along_a_show_is_that_it_has_not_seen(trained) -> None:
    _, scores, _ = trained

    assert scores["demonstrations"] == 6
    assert min(scores["rank_correlation"].values()) > 0.85
    assert scores["mean_error"] < 0.15


def test_a_show_of_something_else_is_worth_little(trained) -> None:
    _, scores, _ = trained

    assert scores["value_at_the_end_for_another_sentence"] < scores["value_at_the_end"] - 0.4


def test_the_card_says_which_layouts_were_kept_and_how_to_do_it_again(trained) -> None:
    card = (trained[2] / "weights" / "MODEL_CARD.md").read_text()

    assert "layouts 3, 7, 11." in card
    assert "--set epochs=8" in card
    assert f"| {CARRY} | {trained[1]['rank_correlation'][CARRY]:.2f} |" in card


@pytest.mark.parametrize(("kind", "strength"), [(Spoil.FROZEN, 1.0), (Spoil.EARLY_STOP, 1.0), (Spoil.EARLY_STOP, 0.6)])
def test_a_whole_plan_comes_before_one_that_stops(trained, kind: Spoil, strength: float) -> None:
    plan = carried(40, length=17)
    spoiled = VideoPlan(
        instruction=plan.instruction,
        camera=plan.camera,
        transform=plan.transform,
        frames=spoil(kind, plan.frames, strength=strength, rng=np.random.default_rng(0)),
    )
    scorer = LearnedValue(trained[0])

    candidates = [Candidate(plan=each, chunk=None) for each in (plan, spoiled)]
    whole, stopped = scorer.score(candidates, tabletop_observation())

    assert scorer.measure.higher_is_better
    assert 0.0 <= stopped < whole <= 1.0


def test_it_reads_a_known_sentence_in_nearly_the_same_words_only(trained) -> None:
    frames = carried(40).frames

    same = trained[0].progress("Please carry blue ball to the left", frames)

    np.testing.assert_array_equal(same, trained[0].progress(CARRY, frames))
    assert trained[0].progress("open the drawer", frames) is None


def test_a_plan_through_another_camera_gets_no_value(trained) -> None:
    plan = tabletop_plan(camera="wrist")

    assert LearnedValue(trained[0]).score([Candidate(plan=plan, chunk=None)], tabletop_observation(camera="wrist")) == [
        None
    ]


def test_a_resumed_training_is_the_same_as_one_in_a_single_run(shows, tmp_path: Path, monkeypatch) -> None:
    few = Shows(shows[:16])
    options = {**OPTIONS, "epochs": 2}
    build_plugin("trainer", "value", options).train(few, tmp_path / "whole", resume=False)

    def save_and_stop(*arguments) -> None:
        training_save(*arguments)
        raise KeyboardInterrupt

    training_save = training.save_checkpoint
    monkeypatch.setattr(training, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        build_plugin("trainer", "value", options).train(few, tmp_path / "halves", resume=False)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="holds a training run already"):
        build_plugin("trainer", "value", options).train(few, tmp_path / "halves", resume=False)
    with pytest.raises(ConfigError, match="other options"):
        build_plugin("trainer", "value", {**options, "seed": 1}).train(few, tmp_path / "halves", resume=True)
    build_plugin("trainer", "value", options).train(few, tmp_path / "halves", resume=True)

    whole, halves = (load_file(tmp_path / name / "weights" / "value.safetensors") for name in ("whole", "halves"))
    assert whole.keys() == halves.keys()
    assert all(np.array_equal(whole[name], halves[name]) for name in whole)


def test_nothing_to_measure_on_is_one_clear_error(shows, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="to measure on, found 6 and 0"):
        build_plugin("trainer", "value", OPTIONS).train(Shows(shows[:6]), tmp_path, resume=False)


def test_a_folder_without_a_value_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected a learned value"):
        build_plugin("scorer", "value", {"weights": str(tmp_path)})


def test_the_value_that_travels_along_knows_the_eleven_tasks_and_is_small() -> None:
    scorer = build_plugin("scorer", "value")
    model = ValueModel.load(SHIPPED)

    assert isinstance(scorer, LearnedValue)
    assert len(model.sentences) == 11
    assert model.camera == "corner"
    assert (SHIPPED / "value.safetensors").stat().st_size < 500_000


@pytest.mark.slow
def test_the_value_that_travels_along_puts_a_real_plan_before_the_same_one_frozen_or_stopped() -> None:
    rig, spoiler = load_rig("sim"), SpoiledPlanner(build_plugin("planner", "embedded"))
    scorer = build_plugin("scorer", "value")
    with build_plugin("rig", rig.plugin, {**rig.options, "arm_process": False}) as world:
        world.reset(task="door-close", seed=100)
        observation, plans = world.observe(), []
        for spoiler.kind in (Spoil.NONE, Spoil.EARLY_STOP, Spoil.FROZEN):
            plans += spoiler.plan(observation, world.monitor.instruction, seed=0)
    good, stopped, frozen = scorer.score([Candidate(plan=plan, chunk=None) for plan in plans], observation)

    assert frozen < 0.1
    assert frozen < stopped < good
    assert good > 0.7


def test_rank_correlation_counts_ties_and_order() -> None:
    assert rank_correlation(np.array([1.0, 5.0, 9.0]), np.array([0.1, 0.2, 0.3])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1.0)
    assert rank_correlation(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(
        0.9487, abs=1e-4
    )
    assert rank_correlation(np.zeros(3), np.arange(3.0)) == 0.0
