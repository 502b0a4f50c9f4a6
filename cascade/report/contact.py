"""Where fingers or hand meet something, told from what run folders keep: openings, commands and positions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cascade.report.run_folder import Trajectory

Bools = NDArray[np.bool_]
CLOSED = 0.05  # openings below this are closed on nothing
SETTLED = 0.01  # change of the opening over SETTLED_STEPS that counts as standing still
SETTLED_STEPS = 6
PUSHES_M = 0.02  # a command this far beyond a hand that stands still
STANDS_M = 0.001  # way in SETTLED_STEPS that counts as standing still
LEAST_STEPS = 4


def stopped_short(track: Trajectory) -> Bools:
    """Return (N,) whether the gripper is told to close and stands still before it has.

    Something is between its fingers, or its mechanism ends there: run folders do not say where that is.
    """
    opening, told = track.opening, track.gripper_target
    count = len(track)
    if not count or not np.isfinite(opening).all() or not np.isfinite(told).all():
        return np.zeros(count, dtype=np.bool_)
    still = np.zeros(count, dtype=np.bool_)
    if count > SETTLED_STEPS:
        still[SETTLED_STEPS:] = np.abs(opening[SETTLED_STEPS:] - opening[:-SETTLED_STEPS]) < SETTLED
    return np.asarray((told < 0.5) & still & (opening > CLOSED), dtype=np.bool_)


def pushing(track: Trajectory) -> Bools:
    """Return (N,) whether the hand stands still short of where it is sent: it is up against something."""
    count = len(track)
    if count <= SETTLED_STEPS:
        return np.zeros(count, dtype=np.bool_)
    short = np.linalg.norm(track.sent_m - track.measured_m, axis=1)
    way = np.full(count, np.inf)
    way[SETTLED_STEPS:] = np.linalg.norm(track.measured_m[SETTLED_STEPS:] - track.measured_m[:-SETTLED_STEPS], axis=1)
    return np.asarray((np.nan_to_num(short) > PUSHES_M) & (way < STANDS_M), dtype=np.bool_)


def stretches(mask: Bools, *, least: int = LEAST_STEPS) -> list[tuple[int, int]]:
    """Return [first, end) of every stretch of a mask that lasts at least `least` steps."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b)) for a, b in list(pairwise(edges))[::2] if b - a >= least]
