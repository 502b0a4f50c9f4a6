"""Figures of evaluations: success rates with intervals, percentiles of latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z95 = 1.959963984540054


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a success rate (Wilson, 1927); (0, 1) without trials.

    Raises:
        ValueError: more successes than trials, or a negative count.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials, found {successes} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    scale = 1 + Z95**2 / trials
    centre = (rate + Z95**2 / (2 * trials)) / scale
    half = Z95 * math.sqrt(rate * (1 - rate) / trials + Z95**2 / (4 * trials**2)) / scale
    # At the ends the interval begins or stops exactly at 0 or 1; rounding must not say otherwise.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test: of the pairs that differ, as many each way as by chance?

    Args:
        only_first: pairs in which only the first of two arms succeeded.
        only_second: pairs in which only the second did.

    Raises:
        ValueError: a negative count.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"expected counts from 0 on, found {only_first} and {only_second}")
    n = only_first + only_second
    tail: float = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1)) * 0.5**n
    return min(1.0, 2 * tail)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return {"p50", "p99"} of measurements, rounded to microseconds when they are in ms."""
    if not values:
        return {"p50": 0.0, "p99": 0.0}
    p50, p99 = np.percentile(np.asarray(values, dtype=np.float64), [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a success rate (Clopper and Pearson, 1934); (0, 1) without trials.

    It is never narrower than it says, so it is the one for claims about safety.

    Raises:
        ValueError: more successes than trials, or a negative count.
    """
    from scipy.stats import beta

    if not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials, found {successes} of {trials}")
    low = 0.0 if successes == 0 else float(beta.ppf(0.025, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(0.975, successes + 1, trials - successes))
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down rule (1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def cluster_bootstrap(
    values: Sequence[float], clusters: Sequence[object], *, draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Return a 95 % percentile interval of the mean of `values`, drawing whole clusters with replacement.

    Values of one cluster (a scene, or a task) depend on each other; drawn one by one they would make the interval too
    narrow. With a single cluster nothing is known about others: the interval is infinite.
    """
    names, numbers = np.unique(np.array([str(name) for name in clusters]), return_inverse=True)
    if len(names) < 2:
        return -math.inf, math.inf
    sums = np.bincount(numbers, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(numbers)
    picks = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def mcnemar_power(pairs: int, gap: float, discordant: float, alpha: float) -> float:
    """Return the chance that the exact McNemar test finds a true gap between two paired rates.

    Args:
        pairs: how many pairs are measured.
        gap: difference of the two rates.
        discordant: share of pairs in which the two differ, at least `gap`.
        alpha: level of the two-sided test.
    """
    from scipy.stats import binom

    counts = np.arange(1, pairs + 1)
    weights = binom.pmf(counts, pairs, discordant)
    # Largest number of pairs on the lesser side at which the test still rejects; -1 where it never does.
    most = binom.ppf(alpha / 2, counts, 0.5)
    most = np.where(2 * binom.cdf(most, counts, 0.5) > alpha, most - 1, most)
    upward = min(1.0, (discordant + gap) / (2 * discordant))
    found = binom.cdf(most, counts, upward) + binom.sf(counts - most - 1, counts, upward)
    return float(np.sum(weights * np.where(most >= 0, found, 0.0)))


def detectable_gap(pairs: int, discordant: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest gap between two paired rates that the exact McNemar test would find with chance `power`.

    Args:
        pairs: how many pairs are measured.
        discordant: share of pairs in which the two arms differ; a gap larger than it brings more of them.
        alpha: level of the test, after what is left of it for each of several comparisons.
        power: chance of finding the gap.

    Returns:
        Gap in 0..1; infinite when not even a gap of 1 would be found.
    """
    if pairs == 0 or mcnemar_power(pairs, 1.0, 1.0, alpha) < power:
        return math.inf
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if mcnemar_power(pairs, middle, max(discordant, middle), alpha) >= power:
            high = middle
        else:
            low = middle
    return high
