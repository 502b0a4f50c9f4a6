import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.statistics import (
    clopper_pearson,
    cluster_bootstrap,
    detectable_gap,
    holm,
    mcnemar_exact,
    mcnemar_power,
    percentiles,
    wilson,
)


def test_wilson_has_the_values_of_the_tables():
    assert wilson(35, 55) == pytest.approx((0.5042, 0.7506), abs=1e-3)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_rate_and_narrows_with_more_trials(counts):
    hits, n = counts
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    wide = wilson(hits * 4, n * 4)
    assert wide[1] - wide[0] < high - low


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="found 3 of 2"):
        wilson(3, 2)


def test_percentiles_of_nothing_are_zero():
    assert percentiles([]) == {"p50": 0.0, "p99": 0.0}
    assert percentiles(range(101)) == {"p50": 50.0, "p99": 99.0}


def test_exact_intervals_are_those_of_the_textbook():
    assert clopper_pearson(0, 20) == (0.0, pytest.approx(0.1684, abs=1e-4))
    assert clopper_pearson(20, 20) == (pytest.approx(0.8316, abs=1e-4), 1.0)
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="found 3 of 2"):
        clopper_pearson(3, 2)


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_exact_interval_holds_the_rate(counts):
    hits, n = counts
    low, high = clopper_pearson(hits, n)

    assert 0 <= low <= hits / n <= high <= 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_keeps_their_order_and_is_no_stricter_than_bonferroni(p_values):
    adjusted = holm(p_values)

    assert all(p <= a <= min(1.0, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    ranked = [adjusted[i] for i in sorted(range(len(p_values)), key=lambda i: p_values[i])]
    assert ranked == sorted(ranked)


def test_values_of_one_cluster_count_as_little_as_they_know():
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    alone = cluster_bootstrap(values, range(8))
    together = cluster_bootstrap(values, [0, 0, 0, 0, 1, 1, 1, 1])

    assert together[0] <= alone[0] < 0.5 < alone[1] <= together[1]
    assert together == (0.0, 1.0)
    assert cluster_bootstrap(values, [0] * 8) == (-math.inf, math.inf)


def test_power_is_what_drawing_pairs_gives():
    rng = np.random.default_rng(0)
    pairs, gap, discordant = 40, 0.3, 0.5
    drawn = rng.multinomial(pairs, [(discordant + gap) / 2, (discordant - gap) / 2, 1 - discordant], size=2000)

    found = np.mean([mcnemar_exact(int(a), int(b)) <= 0.05 for a, b, _ in drawn])

    assert mcnemar_power(pairs, gap, discordant, 0.05) == pytest.approx(found, abs=0.03)


def test_more_pairs_and_fewer_comparisons_show_smaller_gaps():
    gap = detectable_gap(110, 0.3)

    assert mcnemar_power(110, gap, 0.3, 0.05) == pytest.approx(0.8, abs=0.01)
    assert detectable_gap(400, 0.3) < gap < detectable_gap(110, 0.3, alpha=0.05 / 8)
    assert detectable_gap(4, 0.3) == math.inf


def test_mcnemar_has_the_values_of_the_binomial():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 1) == 1.0
    assert mcnemar_exact(0, 6) == pytest.approx(0.03125)
    assert mcnemar_exact(3, 10) == mcnemar_exact(10, 3) == pytest.approx(0.0923, abs=1e-4)
    assert mcnemar_exact(5, 5) == 1.0
    with pytest.raises(ValueError, match="from 0 on"):
        mcnemar_exact(-1, 2)
