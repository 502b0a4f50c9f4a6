"""Paths of the hand: length, resampling, exact dynamic time warping in a band, gripper events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from cascade.contracts.keyframes import path_progress
from cascade.metrics.arrays import Floats

Indices = NDArray[np.int64]
MIN_PATH_M = 0.05  # a hand that gets no further than this has no path to compare
BAND = 0.2


def check_path(name: str, path: Floats) -> Floats:
    """Return a (T >= 2, D) finite path as float64; raises DataError for anything else."""
    result = np.asarray(path, dtype=np.float64)
    if result.ndim != 2 or len(result) < 2 or not np.isfinite(result).all():
        raise DataError(f"{name}: expected a finite path (T >= 2, D), found shape {result.shape}.")
    return result


def path_length(path: Floats) -> float:
    """Return the length of a (T, D) path in its own unit."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def extent(path: Floats) -> float:
    """Return the diagonal of the box around a (T, D) path; unlike its length it does not grow with jitter."""
    return float(np.linalg.norm(path.max(axis=0) - path.min(axis=0)))


def resample(path: Floats, count: int, *, opening: Floats | None = None) -> tuple[Floats, Floats | None]:
    """Return `count` points evenly spaced along what happens (way plus gripper change), and the openings there.

    So that two paths with other clocks line up phase by phase.
    """
    values = check_path("path", path)
    grip = np.zeros(len(values)) if opening is None else np.asarray(opening, dtype=np.float64)
    progress = path_progress(values, grip)
    wanted = np.linspace(0.0, progress[-1], count)
    points = np.column_stack([np.interp(wanted, progress, column) for column in values.T])
    return points, None if opening is None else np.interp(wanted, progress, grip)


def warp_pairs(a: Floats, b: Floats, *, band: float = BAND) -> tuple[Indices, Indices]:
    """Return the cheapest monotone pairing of two paths: exact dynamic time warping in a Sakoe-Chiba band.

    Sakoe and Chiba, 1978. Both paths are taken to run from 0 to 1; pairs further apart than `band` are not allowed.

    Args:
        a: (n, D) path.
        b: (m, D) path.
        band: half-width as a share of the whole, widened where the lengths differ so much that no pairing would fit.

    Returns:
        Index arrays (L,), from (0, 0) to (n-1, m-1), each step advancing one or both by 1.
    """
    a, b = check_path("path", a), check_path("path", b)
    if a.shape[1] != b.shape[1]:
        raise DataError(f"paths: expected one width, found {a.shape[1]} and {b.shape[1]}.")
    cost = np.linalg.norm(a[:, None, :] - b[None, :, :], axis=-1)
    n, m = cost.shape
    apart = np.abs(np.arange(n)[:, None] / (n - 1) - np.arange(m)[None, :] / (m - 1))
    cost = np.where(apart <= max(band, 1 / (n - 1), 1 / (m - 1)) + 1e-12, cost, np.inf)
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(n):
        row, above, line = cost[i].tolist(), total[i].tolist(), total[i + 1].tolist()
        for j in range(m):
            line[j + 1] = row[j] + min(above[j], above[j + 1], line[j])
        total[i + 1] = line
    return _trace(total)


def _trace(total: Floats) -> tuple[Indices, Indices]:
    i, j = total.shape[0] - 1, total.shape[1] - 1
    pairs = [(i - 1, j - 1)]
    while (i, j) != (1, 1):
        i, j = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda place: total[place])
        pairs.append((i - 1, j - 1))
    found = np.array(pairs[::-1], dtype=np.int64)
    return found[:, 0], found[:, 1]


def warped_distance(a: Floats, b: Floats, *, band: float = BAND) -> float:
    """Return the mean distance over the pairs of `warp_pairs`, in the unit of the paths."""
    i, j = warp_pairs(a, b, band=band)
    return float(np.linalg.norm(a[i] - b[j], axis=1).mean())


@dataclass(frozen=True, slots=True)
class GripEvent:
    """The gripper opens or closes at a frame."""

    frame: int
    closes: bool


def grip_events(opening: Floats, *, low: float = 0.4, high: float = 0.6) -> tuple[GripEvent, ...]:
    """Return the openings and closings in (T,) values 0..1, with hysteresis between `low` and `high`."""
    values = np.asarray(opening, dtype=np.float64)
    is_open = bool(values[0] >= (low + high) / 2)
    events = []
    for frame, value in enumerate(values):
        if (is_open and value < low) or (not is_open and value > high):
            events.append(GripEvent(frame, closes=is_open))
            is_open = not is_open
    return tuple(events)
