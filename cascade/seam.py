"""From one plan to the next while the arm moves: where the new one is joined, and how the step at the seam is spread.

The new plan was imagined from what was seen a while ago. Its targets that lie behind the hand are dropped, up to the
nearest one; but never past a change of the gripper or a dwell, which are what a task hangs on. A change that the old
plan made meanwhile is not undone: the new plan goes on behind its own change to the same state.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import IncompatibleError
from cascade.contracts.records import ActionChunk

Floats = NDArray[np.float64]


def part(chunk: ActionChunk, start: int, stop: int | None = None) -> ActionChunk:
    """Return targets start..stop of a chunk, times counted from there."""
    chosen = slice(start, stop)
    begun = float(chunk.times_s[start - 1]) if 0 < start <= len(chunk) else 0.0
    return replace(
        chunk,
        values=chunk.values[chosen],
        gripper=chunk.gripper[chosen],
        times_s=chunk.times_s[chosen] - begun,
        hold_s=_sliced(chunk.hold_s, chosen),
        tolerance_m=_sliced(chunk.tolerance_m, chosen),
        confidence=_sliced(chunk.confidence, chosen),
    )


def _sliced(values: Floats | None, chosen: slice) -> Floats | None:
    return None if values is None else values[chosen]


def ahead(chunk: ActionChunk, hand_m: Floats, *, gripper_then: float, gripper_now: float) -> int:
    """Return the first target of a new chunk that still lies ahead.

    Args:
        chunk: the new chunk, made from an observation of a while ago.
        hand_m: (3,) where the hand is now.
        gripper_then: opening that was commanded at the observation.
        gripper_now: opening that is commanded now.
    """
    start = 0
    if gripper_now != gripper_then:
        same = np.flatnonzero(chunk.gripper == gripper_now)
        start = int(same[0]) if len(same) else 0
    stop = start
    while stop + 1 < len(chunk) and chunk.gripper[stop + 1] == chunk.gripper[start] and not _dwells(chunk, stop):
        stop += 1
    if stop == start:
        return start
    return start + int(np.linalg.norm(chunk.values[start : stop + 1, :3] - hand_m, axis=1).argmin())


def blended(chunk: ActionChunk, old: ActionChunk, hand_m: Floats, count: int) -> ActionChunk:
    """Return a new chunk whose first targets are drawn towards the old one's way, less and less.

    Target k of `count` keeps (k + 1) / (count + 1) of its own place; the rest is the nearest point on the way that the
    hand had still before it. Targets at which the gripper changes, or that dwell, stay where they are, and so does
    all behind them. Only positions are blended.
    """
    if not len(old) or not len(chunk):
        return chunk
    way = np.vstack([hand_m[None], old.values[:, :3]])
    values = chunk.values.copy()
    for k in range(min(count, len(chunk))):
        if _dwells(chunk, k) or (k + 1 < len(chunk) and chunk.gripper[k + 1] != chunk.gripper[k]):
            break
        share = (k + 1) / (count + 1)
        values[k, :3] = share * values[k, :3] + (1 - share) * nearest_on(way, values[k, :3])
    return replace(chunk, values=values)


def nearest_on(way: Floats, point: Floats) -> Floats:
    """Return the point of a polyline (n >= 2, 3) that is nearest to a point (3,)."""
    a, along = way[:-1], np.diff(way, axis=0)
    length2 = np.maximum((along**2).sum(1), 1e-12)
    share = np.clip(((point - a) * along).sum(1) / length2, 0, 1)
    feet = a + share[:, None] * along
    return np.asarray(feet[np.linalg.norm(feet - point, axis=1).argmin()], dtype=np.float64)


def may_leave(chunk: ActionChunk, done: int) -> bool:
    """Whether a chunk may be left after `done` targets: not between two of which the gripper changes, or at a dwell."""
    if done == 0 or done >= len(chunk):
        return True
    return not _dwells(chunk, done) and chunk.gripper[done] == chunk.gripper[done - 1]


def _dwells(chunk: ActionChunk, k: int) -> bool:
    return chunk.hold_s is not None and float(chunk.hold_s[k]) > 0


def check_latency(latency_s: float, chunk: ActionChunk) -> None:
    """Refuse asynchronous execution when plans come too late to follow each other.

    Args:
        latency_s: from a picture to targets.
        chunk: what one plan is worth.

    Raises:
        IncompatibleError: latency x rate exceeds the horizon: the arm would have run out of targets.
    """
    if not len(chunk) or chunk.times_s[-1] <= 0:
        return
    horizon, rate_hz = len(chunk), len(chunk) / float(chunk.times_s[-1])
    passed = latency_s * rate_hz
    if passed > horizon:
        raise IncompatibleError(
            f"execution mode async: expected latency x rate within the plan's horizon of {horizon} targets, found "
            f"{latency_s:.3g} s x {rate_hz:.3g} targets/s = {passed:.1f} targets.",
            "Make plans faster (fewer steps or samples, --budget), or use mode receding, where the arm waits for them.",
        )
