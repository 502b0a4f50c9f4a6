"""Did arm and gripper do what they were told, as far as the record alone shows?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cascade.report.run_folder import RunRecord

Floats = NDArray[np.float64]
MOST_DELAY_STEPS = 120
MOVES_M = 5e-4  # less way than this in a control step says nothing about where the hand is going
LEAST_STEPS = 20
AS_GOOD = 0.05  # cosines this near to the best are as good
SETTLES_STEPS = 10  # a gripper has answered a command by then
LEAST_WAY = 0.1  # a gripper that goes less in the replay says nothing
TOLD = 0.5  # change of the commanded opening that the gripper must answer


def delay_s(record: RunRecord, hertz: float) -> float | None:
    """Return the delay after which the hand goes where it was told [s], None when it hardly moves.

    Every delay is tried: at which does the way of the hand point at the target of that time ago? A hand that reaches
    its targets early explains shorter delays as well, so that the longest of the best counts.
    """
    track = record.trajectory
    if len(track) < LEAST_STEPS:
        return None
    sent, measured = track.sent_m, track.measured_m
    way = np.diff(measured, axis=0, prepend=measured[:1])
    length = np.linalg.norm(way, axis=1)
    scores = []
    for steps in range(min(MOST_DELAY_STEPS, len(track) - LEAST_STEPS) + 1):
        to = sent[: len(sent) - steps] - measured[steps:] + way[steps:]
        far = np.linalg.norm(to, axis=1)
        moving = (length[steps:] > MOVES_M) & (far > 1e-6)
        if moving.sum() < LEAST_STEPS:
            break
        cosine = (to * way[steps:]).sum(axis=1)[moving] / (far * length[steps:])[moving]
        scores.append(float(np.average(cosine, weights=length[steps:][moving])))
    if not scores:
        return None
    return int(np.flatnonzero(np.array(scores) >= max(scores) - AS_GOOD)[-1]) / hertz


def gripper_share(opening: Floats, told: Floats, reference: Floats | None) -> float | None:
    """Return the share of its way that the gripper does not go, 0 it does, 1 stuck; None when that cannot be seen.

    Looked at where a command has stood for a while: at the end of every stretch with one commanded opening.

    Args:
        opening: (N,) measured.
        told: (N,) commanded.
        reference: (N,) of the replay, or None: a gripper told to open or close is then taken to go half the way at
            least, since what it holds stops it.
    """
    known = np.isfinite(opening) & np.isfinite(told)
    if known.sum() < 2:
        return None
    changes = np.flatnonzero(np.abs(np.diff(told)) > TOLD)
    ends = [
        end for start, end in pairwise([-1, *changes, len(told) - 1]) if end - start >= SETTLES_STEPS and known[end]
    ]
    if not ends:
        return None
    if reference is not None:
        way = max(float(np.ptp(reference)), float(np.ptp(opening[known])))
        return None if way < LEAST_WAY else float(np.abs(opening[ends] - reference[ends]).max()) / way
    if np.ptp(told[ends]) < TOLD:
        return None
    return float(np.clip(1 - np.ptp(opening[ends]) / (TOLD * np.ptp(told[ends])), 0.0, 1.0))
