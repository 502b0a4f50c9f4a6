"""p_exec: fitted on cues with a known relation to success, asked about others."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cascade.contracts.errors import DataError
from cascade.executability import CUE_SETS, Logistic, fit, out_of_fold
from cascade.metrics.cues import GOAL, REQUIRED, VALUE, Cues
from cascade.metrics.discrimination import auroc, calibration_error

ALL = CUE_SETS["all cues"]


def trial(rng: np.random.Generator) -> tuple[Cues, bool]:
    """Cues of chance; success depends on agreement and goal, as a logistic does, and on nothing else."""
    values = {name: float(rng.uniform(0.05, 1.0)) for name in ALL}
    log_odds = -2.0 * (np.log(values["agreement"]) + np.log(values["goal_end"]) + 2.0)
    return Cues(moves=True, values=values, missing={}), bool(rng.uniform() < 1 / (1 + np.exp(-log_odds)))


def trials(count: int, seed: int) -> tuple[list[Cues], np.ndarray, list[int]]:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    pairs = [trial(rng) for _ in range(count)]
    return [cues for cues, _ in pairs], np.array([hit for _, hit in pairs]), [i // 3 for i in range(count)]


@pytest.fixture(scope="module")
def model() -> Logistic:
    return fit("all cues", ALL, *trials(600, 0))


def test_it_tells_success_from_failure_on_trials_it_has_not_seen_and_is_calibrated(model: Logistic) -> None:
    cues, hits, _ = trials(2000, 1)
    p = np.array([model.probability(c) for c in cues])
    assert auroc(p, hits) > 0.85
    assert calibration_error(p, hits) < 0.05


def test_it_finds_out_which_cues_matter(model: Logistic) -> None:
    weights = dict(zip(model.cues, np.abs(model.weights), strict=True))
    assert sorted(weights, key=lambda name: -weights[name])[:2] in (
        ["agreement", "goal_end"],
        ["goal_end", "agreement"],
    )


def test_a_plan_that_does_not_move_has_no_chance(model: Logistic) -> None:
    assert model.probability(Cues(moves=False, values={}, missing={})) == 0.0


def test_its_own_scores_are_those_of_scenes_left_out(model: Logistic) -> None:
    cues, hits, scenes = trials(600, 0)
    p = out_of_fold(model, cues, hits, scenes)
    assert model.scores["auroc"] == pytest.approx(auroc(p, hits), abs=1e-3)
    # With as many cues as noise could want and few trials, the fit itself looks better than it is.
    few = trials(40, 2)
    small = fit("all cues", ALL, *few)
    seen = auroc(np.array([small.probability(c) for c in few[0]]), few[1])
    assert auroc(out_of_fold(small, *few), few[1]) < seen


def test_a_scene_is_never_split_between_fitting_and_measuring(model: Logistic) -> None:
    # Success is a coin per scene and a cue names the scene: nothing can be known about other scenes.
    rng = np.random.default_rng(0)
    cues, hits, scenes = [], [], []
    for scene in range(40):
        coin = bool(rng.integers(2))
        for _ in range(5):
            values = dict.fromkeys(ALL, 0.5) | {name: float(rng.uniform(0.4, 0.6)) for name in REQUIRED}
            values["permanence"] = scene / 40
            cues.append(Cues(moves=True, values=values, missing={}))
            hits.append(coin)
            scenes.append(scene)
    p = out_of_fold(fit("all cues", ALL, cues, np.array(hits), scenes), cues, np.array(hits), scenes)
    assert auroc(p, np.array(hits)) < 0.65


def test_it_is_the_same_after_json(model: Logistic) -> None:
    again = Logistic.from_json(json.loads(json.dumps(model.as_json())))
    cues = trials(1, 3)[0][0]
    assert again.probability(cues) == model.probability(cues)
    assert again.reliability
    assert again.scores == model.scores


def test_json_of_something_else_is_refused(model: Logistic) -> None:
    with pytest.raises(DataError, match="logistic"):
        Logistic.from_json({"name": "x"})
    with pytest.raises(DataError, match="one mean"):
        Logistic.from_json(model.as_json() | {"mean": [0.0]})


def test_a_model_knows_what_it_lacks(model: Logistic) -> None:
    cues = trials(1, 4)[0][0]
    without = replace(cues, values={k: v for k, v in cues.values.items() if k != "goal_end"})
    assert model.answers(cues)
    assert not model.answers(without)


def test_with_every_set_of_cues_that_can_be_missing_there_is_a_poorer_model() -> None:
    everything = set(ALL)
    assert {*REQUIRED, *GOAL, *VALUE} == everything
    sets = {name: set(names) for name, names in CUE_SETS.items()}
    for missing in (VALUE, GOAL, (*GOAL, *VALUE)):
        there = everything - set(missing)
        richest = next(names for names in sets.values() if names <= there)
        assert richest == there


def test_outcomes_of_one_kind_cannot_be_fitted() -> None:
    cues, hits, scenes = trials(50, 5)
    with pytest.raises(DataError, match="successes and failures"):
        fit("all cues", ALL, cues, np.ones_like(hits), scenes)
