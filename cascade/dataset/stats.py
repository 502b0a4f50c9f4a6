"""Statistics of features, per episode and over a set, in the form LeRobotDataset keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Stats = dict[str, Any]


def of_vectors(values: NDArray[Any]) -> Stats:
    """Return the statistics of (N,) or (N, D) values as lists of length D."""
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    result = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    for name, value in zip(QUANTILES, np.quantile(rows, list(QUANTILES.values()), axis=0), strict=True):
        result[name] = value
    return {**{name: value.tolist() for name, value in result.items()}, "count": [len(rows)]}


def of_images(frames: NDArray[np.uint8]) -> Stats:
    """Return the statistics of (N, H, W, 3) pixels scaled to 0..1, each shaped (3, 1, 1); exact, by histogram."""
    levels = np.arange(256) / 255.0
    channels = []
    for channel in range(3):
        histogram = np.bincount(frames[..., channel].ravel(), minlength=256)
        share = histogram / histogram.sum()
        mean = float(share @ levels)
        present = np.flatnonzero(histogram)
        one = {"min": levels[present[0]], "max": levels[present[-1]], "mean": mean}
        one["std"] = float(np.sqrt(share @ (levels - mean) ** 2))
        cumulative = np.cumsum(share)
        for name, q in QUANTILES.items():
            one[name] = levels[min(int(np.searchsorted(cumulative, q)), 255)]
        channels.append(one)
    result: Stats = {name: [[[float(one[name])]] for one in channels] for name in channels[0]}
    result["count"] = [len(frames)]
    return result


def combined(parts: Sequence[Mapping[str, Any]]) -> Stats:
    """Return the statistics of a set from those of its episodes.

    Exact for min, max, mean, std and count; quantiles are the weighted mean of the episodes' (as the format's own
    tools have them).
    """
    count = np.array([part["count"][0] for part in parts], dtype=np.float64)
    stacked = {name: np.array([part[name] for part in parts], dtype=np.float64) for name in parts[0] if name != "count"}
    weight = (count / count.sum()).reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    mean = (weight * stacked["mean"]).sum(0)
    variance = (weight * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    result = {name: (weight * stacked[name]).sum(0) for name in QUANTILES}
    result.update(min=stacked["min"].min(0), max=stacked["max"].max(0), mean=mean, std=np.sqrt(variance))
    return {**{name: value.tolist() for name, value in result.items()}, "count": [int(count.sum())]}
