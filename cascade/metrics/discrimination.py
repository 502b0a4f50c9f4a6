"""Does a score tell success from failure? AUROC, average precision, calibration, risk and coverage, with intervals.

Intervals come from a bootstrap over scenes: trials of one scene are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from cascade.metrics.arrays import Bools, Floats

DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return it as JSON values."""
        return {"value": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4)}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def auroc(scores: Floats, success: Bools) -> float:
    """Return the chance that a success scores above a failure, ties counting one half (Mann and Whitney, 1947).

    Raises:
        DataError: lengths differ, a score is not finite, or there are only successes or only failures.
    """
    values, hits = _checked(scores, success)
    if hits.all() or not hits.any():
        raise DataError("auroc: expected successes and failures, found only one of them.")
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.bincount(group, ranks) / counts
    positive = int(hits.sum())
    negative = len(hits) - positive
    return float((mean_rank[group][hits].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(scores: Floats, success: Bools) -> float:
    """Return the mean precision over the successes, best score first; ties are entered together."""
    values, hits = _checked(scores, success)
    if not hits.any():
        raise DataError("average precision: expected at least one success, found none.")
    thresholds = np.unique(values)[::-1]
    found = np.array([(values >= limit).sum() for limit in thresholds])
    good = np.array([hits[values >= limit].sum() for limit in thresholds])
    gained = np.diff(good, prepend=0)
    return float((good / found * gained).sum() / hits.sum())


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], scenes: Sequence[Any], *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return a statistic with its 95 % percentile interval, scenes being drawn with replacement.

    Args:
        statistic: indices of trials -> number; draws for which it raises DataError are left out.
        scenes: (n,) the scene of every trial.
        draws: how often.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    names, group = np.unique(np.array([str(scene) for scene in scenes]), return_inverse=True)
    members = [np.flatnonzero(group == number) for number in range(len(names))]
    drawn = []
    for _ in range(draws):
        chosen = rng.integers(0, len(names), len(names))
        try:
            drawn.append(statistic(np.concatenate([members[number] for number in chosen])))
        except DataError:
            continue
    if not drawn:
        raise DataError("bootstrap: expected a statistic that exists for some draws, found none.")
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(statistic(np.arange(len(group))), float(low), float(high))


def brier(probabilities: Floats, success: Bools) -> float:
    """Return the mean squared difference of probability and outcome (Brier, 1950), 0 is perfect."""
    values, hits = _checked(probabilities, success)
    return float(((values - hits) ** 2).mean())


def reliability(probabilities: Floats, success: Bools, *, bins: int = 5) -> list[dict[str, float]]:
    """Return for bins of equal width: mean probability, success rate with its Wilson interval, and count."""
    from cascade.statistics import wilson

    values, hits = _checked(probabilities, success)
    which = np.minimum((values * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = which == number
        count, good = int(inside.sum()), int(hits[inside].sum())
        if count:
            low, high = wilson(good, count)
            mean = float(values[inside].mean())
            rows.append({"p": round(mean, 4), "rate": round(good / count, 4), "low": low, "high": high, "n": count})
    return rows


def calibration_error(probabilities: Floats, success: Bools, *, bins: int = 5) -> float:
    """Return the mean distance of probability and success rate over bins, weighted by their counts."""
    rows = reliability(probabilities, success, bins=bins)
    return sum(row["n"] * abs(row["p"] - row["rate"]) for row in rows) / sum(row["n"] for row in rows)


def risk_coverage(scores: Floats, success: Bools) -> tuple[Floats, Floats]:
    """Return (coverage, success rate among the accepted) as the best-scored share that is accepted grows."""
    values, hits = _checked(scores, success)
    thresholds = np.unique(values)[::-1]
    accepted = np.array([values >= limit for limit in thresholds])
    return accepted.mean(axis=1), (accepted & hits).sum(axis=1) / accepted.sum(axis=1)


def _checked(scores: Floats, success: Bools) -> tuple[Floats, Bools]:
    values, hits = np.asarray(scores, dtype=np.float64), np.asarray(success, dtype=np.bool_)
    if values.ndim != 1 or values.shape != hits.shape or not len(values) or not np.isfinite(values).all():
        raise DataError(f"scores: expected finite values (n,) like outcomes {hits.shape}, found {values.shape}.")
    return values, hits
