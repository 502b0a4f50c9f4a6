"""The goal check: fitted on demonstrations of a synthetic table whose object lies somewhere else every time."""

from pathlib import Path

import numpy as np
import pytest

from cascade.contracts.errors import DataError, WeightsError
from cascade.goal import POINTS, Example, GoalModel, fit_goals, path_points
from cascade.testing.scenes import START_M, tabletop_observation

SENTENCE = "carry the blue ball to the left"


def demonstration(x: float, y: float, sentence: str = SENTENCE) -> Example:
    goal = np.array([x, y, 0.04])
    image = tabletop_observation(object_m=goal, size=64).image("corner").rgb
    path = np.linspace(np.array(START_M), goal, 20)
    return Example(instruction=sentence, image=image, path_m=path, opening=np.ones(20))


@pytest.fixture(scope="module")
def model() -> GoalModel:
    rng = np.random.default_rng(0)
    places = rng.uniform((-0.1, 0.62), (0.15, 0.78), (40, 2))
    return fit_goals([demonstration(x, y) for x, y in places])


def test_it_says_where_the_hand_should_end_on_a_table_it_has_not_seen(model: GoalModel) -> None:
    for x, y in ((0.0, 0.7), (0.1, 0.66)):
        example = demonstration(x, y)
        goal = model.expect(SENTENCE, example.image)
        assert goal is not None
        assert np.linalg.norm(goal.points_m[-1] - example.path_m[-1]) < 0.03


def test_the_error_it_expects_is_about_the_error_it_makes(model: GoalModel) -> None:
    rng = np.random.default_rng(1)
    errors = []
    for x, y in rng.uniform((-0.1, 0.62), (0.15, 0.78), (20, 2)):
        example = demonstration(x, y)
        goal = model.expect(SENTENCE, example.image)
        assert goal is not None
        errors.append(np.linalg.norm(goal.points_m[-1] - example.path_m[-1]))
    rms = float(np.sqrt(np.mean(np.square(errors))))
    assert 0.4 * goal.spread_m[-1] < rms < 2.5 * goal.spread_m[-1]


def test_other_words_for_the_same_are_known_and_another_task_is_not(model: GoalModel) -> None:
    assert model.find("Please carry the blue ball to the left!") == SENTENCE
    assert model.find("carry blue ball left") == SENTENCE
    assert model.find("open the door") is None
    image = demonstration(0.0, 0.7).image
    assert model.expect("open the door", image) is None


def test_it_is_the_same_after_a_file(model: GoalModel, tmp_path: Path) -> None:
    model.save(tmp_path / "goal.safetensors")
    again = GoalModel.load(tmp_path / "goal.safetensors")
    image = demonstration(0.05, 0.7).image
    a, b = model.expect(SENTENCE, image), again.expect(SENTENCE, image)
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(a.points_m, b.points_m, atol=1e-6)


def test_a_file_that_is_no_goal_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "goal.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="goal model"):
        GoalModel.load(tmp_path / "goal.safetensors")


def test_too_few_demonstrations_are_refused() -> None:
    with pytest.raises(DataError, match="at least 8"):
        fit_goals([demonstration(0.0, 0.7)] * 5)


def test_points_of_a_path_do_not_depend_on_its_clock() -> None:
    slow = np.linspace([0.0, 0, 0], [1.0, 0, 0], 200)
    quick_then_slow = np.concatenate([slow[:100:10], slow[100:]])
    ones = np.ones(len(slow))
    a = path_points(slow, ones)
    b = path_points(quick_then_slow, np.ones(len(quick_then_slow)))
    assert a.shape == (POINTS, 3)
    np.testing.assert_allclose(a, b, atol=0.03)
    np.testing.assert_allclose(a[-1], slow[-1])
