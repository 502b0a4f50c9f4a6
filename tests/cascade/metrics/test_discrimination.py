"""Whether a score tells success from failure: against brute force and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import DataError
from cascade.metrics.discrimination import (
    auroc,
    average_precision,
    bootstrap,
    brier,
    calibration_error,
    reliability,
    risk_coverage,
)

OUTCOMES = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({hit for _, hit in pairs}) == 2
)


@given(OUTCOMES)
@settings(deadline=None)
def test_auroc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    good = [score for score, hit in pairs if hit]
    bad = [score for score, hit in pairs if not hit]
    wanted = np.mean([1.0 if g > b else 0.5 if g == b else 0.0 for g in good for b in bad])
    found = auroc(np.array([float(s) for s, _ in pairs]), np.array([h for _, h in pairs]))
    assert found == pytest.approx(wanted)


@given(OUTCOMES)
@settings(deadline=None)
def test_turning_a_score_round_turns_auroc_round(pairs: list[tuple[int, bool]]) -> None:
    scores, hits = np.array([float(s) for s, _ in pairs]), np.array([h for _, h in pairs])
    assert auroc(scores, hits) + auroc(-scores, hits) == pytest.approx(1.0)


def test_average_precision_of_a_known_order() -> None:
    # Best first: hit, miss, hit: precisions 1 and 2/3.
    assert average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True])) == pytest.approx((1 + 2 / 3) / 2)


def test_one_kind_of_outcome_has_no_auroc() -> None:
    with pytest.raises(DataError, match="only one"):
        auroc(np.array([1.0, 2.0]), np.array([True, True]))


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        auroc(np.array([1.0, np.nan]), np.array([True, False]))


def test_the_bootstrap_draws_scenes_not_trials() -> None:
    # Two scenes of many equal trials: the mean jumps between three values, whatever the number of trials.
    values = np.repeat([0.0, 1.0], 50)
    interval = bootstrap(lambda i: float(values[i].mean()), ["a"] * 50 + ["b"] * 50)
    assert (interval.low, interval.value, interval.high) == (0.0, 0.5, 1.0)
    many = bootstrap(lambda i: float(values[i].mean()), list(range(100)))
    assert many.high - many.low < 0.25


def test_calibrated_probabilities_have_no_error_and_confident_wrong_ones_have() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=4000)
    hits = rng.uniform(size=4000) < p
    assert calibration_error(p, hits) < 0.03
    assert calibration_error(1 - p, hits) > 0.3
    assert brier(p, hits) < brier(np.full(4000, 0.5), hits) < brier(1 - p, hits)
    rows = reliability(p, hits)
    assert [row["n"] for row in rows] == [pytest.approx(800, abs=100)] * 5
    assert all(row["low"] <= row["rate"] <= row["high"] for row in rows)


def test_a_good_score_accepts_the_successes_first() -> None:
    coverage, success = risk_coverage(np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, True, False, False]))
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(success, [1.0, 1.0, 2 / 3, 0.5])
