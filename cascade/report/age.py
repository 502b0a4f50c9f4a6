"""How old is the action in use? From the look that a chunk was made from to the control step that still follows it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.report.numbers import stage_samples
from cascade.report.run_folder import RunRecord

Floats = NDArray[np.float64]
THOUGHT = ("plan", "decode", "readout", "extract", "gate")


def thinking_ms(run: RunRecord) -> dict[int, float]:
    """Return what it took from the look to the first command, by plan [ms]."""
    spent: dict[int, float] = {}
    for stage, plan, ms in stage_samples(run.events):
        if stage in THOUGHT and plan >= 0:
            spent[plan] = spent.get(plan, 0.0) + ms
    return spent


def action_age_s(run: RunRecord) -> Floats:
    """Return (N,) age of the action in use at every control step [s]: thinking, then the time the chunk has run.

    In a world that waits for compute the thinking takes no time of the world; it is counted all the same, since it
    would on a real arm.
    """
    track = run.trajectory
    age = np.full(len(track), np.nan)
    spent = thinking_ms(run)
    for chunk in np.unique(track.chunk):
        rows = np.flatnonzero(track.chunk == chunk)
        t_s = track.t_s[rows]
        if np.isfinite(t_s).all():
            age[rows] = spent.get(int(track.plan[rows[0]]), 0.0) / 1000 + t_s - t_s[0]
    return age


def deadline_ms(run: RunRecord) -> float | None:
    """Return how long the motion of a plan lasts, the median over plans [ms], None when nothing moved.

    A plan that is thought within this time could be made while the last one is carried out.
    """
    track = run.trajectory
    hertz = float(run.facts.get("control_hz") or 0)
    counts = [int((track.plan == plan).sum()) for plan in np.unique(track.plan)] if len(track) else []
    return float(np.median(counts)) / hertz * 1000 if counts and hertz > 0 else None
