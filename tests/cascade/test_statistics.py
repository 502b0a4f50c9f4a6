import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.statistics import percentiles, wilson


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
