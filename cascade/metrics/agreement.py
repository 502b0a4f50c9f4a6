"""A, before motion: do two ways of reading one plan agree on where the hand goes?

Agreement is necessary, not sufficient: two extractors agree on a coherent lie (a wrong goal, a drifting camera), so
that the goal and the camera are checked on their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.contracts import DataError
from cascade.metrics.arrays import Floats
from cascade.metrics.paths import (
    MIN_PATH_M,
    GripEvent,
    check_path,
    extent,
    grip_events,
    path_length,
    resample,
    warp_pairs,
)
from cascade.metrics.result import Result, Status, measured, no_motion, unavailable

GRIP_WINDOW = 2  # frames by which an opening or closing may differ
MIN_TURN_RAD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two readings of a plan are apart, each part 0 when they agree.

    Attributes:
        status: MEASURED, or NO_MOTION when the hand hardly moves in either reading.
        position: RMS distance over the mean path length, scale-free.
        rotation: mean angle between the orientations over the total turn, None without orientations or turn.
        grip: 1 - F1 of openings and closings within two frames, None without openings.
        rms_m: the distance itself.
        length_m: mean path length.
    """

    status: Status
    position: float | None = None
    rotation: float | None = None
    grip: float | None = None
    rms_m: float | None = None
    length_m: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "status": self.status.value,
            "position": self.position,
            "rotation": self.rotation,
            "grip": self.grip,
            "rms_m": self.rms_m,
            "length_m": self.length_m,
        }


def agreement(
    a_m: Floats,
    b_m: Floats,
    *,
    a_opening: Floats | None = None,
    b_opening: Floats | None = None,
    a_R: Floats | None = None,
    b_R: Floats | None = None,
    min_path_m: float = MIN_PATH_M,
) -> Agreement:
    """Compare two end-effector paths of one plan, frame by frame.

    Args:
        a_m: (T, 3) path by one extractor, base frame.
        b_m: (T, 3) by the other; pair paths of other lengths with `paired` first.
        a_opening: (T,) its gripper openings 0..1.
        b_opening: (T,) the other's.
        a_R: (T, 3, 3) its orientations.
        b_R: (T, 3, 3) the other's.
        min_path_m: a hand that gets no further than this in either reading does not move.

    Raises:
        DataError: lengths differ.
    """
    a, b = check_path("path", a_m), check_path("path", b_m)
    if a.shape != b.shape:
        raise DataError(f"agreement: expected two paths of one shape, found {a.shape} and {b.shape}.", "Pair them.")
    length = (path_length(a) + path_length(b)) / 2
    if min(extent(a), extent(b)) < min_path_m:
        return Agreement(status=Status.NO_MOTION, length_m=length)
    rms = float(np.sqrt(((a - b) ** 2).sum(1).mean()))
    return Agreement(
        status=Status.MEASURED,
        position=rms / max(length, min_path_m),
        rotation=None if a_R is None or b_R is None else _rotation(a_R, b_R),
        grip=None if a_opening is None or b_opening is None else 1 - event_f1(a_opening, b_opening),
        rms_m=rms,
        length_m=length,
    )


def paired(
    a_m: Floats, b_m: Floats, *, a_opening: Floats | None = None, b_opening: Floats | None = None, count: int = 33
) -> dict[str, Floats | None]:
    """Bring two paths with other clocks to one: by what happens, then by exact time warping in a band.

    Returns:
        Keyword arguments of `agreement`: a_m, b_m, a_opening, b_opening.
    """
    a, a_grip = resample(a_m, count, opening=a_opening)
    b, b_grip = resample(b_m, count, opening=b_opening)
    i, j = warp_pairs(a, b)
    return {
        "a_m": a[i],
        "b_m": b[j],
        "a_opening": None if a_grip is None else a_grip[i],
        "b_opening": None if b_grip is None else b_grip[j],
    }


def _rotation(a: Floats, b: Floats) -> float | None:
    apart = _angles(np.swapaxes(a, 1, 2) @ b)
    turned = [_angles(np.swapaxes(R[:-1], 1, 2) @ R[1:]).sum() for R in (a, b)]
    total = float(np.mean(turned))
    return float(apart.mean()) / total if total >= MIN_TURN_RAD else None


def _angles(R: Floats) -> Floats:
    cosine = (np.trace(R, axis1=1, axis2=2) - 1) / 2
    return np.asarray(np.arccos(np.clip(cosine, -1, 1)), dtype=np.float64)


def event_f1(a_opening: Floats, b_opening: Floats, *, window: int = GRIP_WINDOW) -> float:
    """Return F1 of the openings and closings of two gripper tracks, 1 when neither has any.

    An event finds at most one partner of its kind, within `window` frames, the nearest first.
    """
    a, b = grip_events(a_opening), grip_events(b_opening)
    if not a and not b:
        return 1.0
    near = sorted(
        (abs(x.frame - y.frame), i, j) for i, x in enumerate(a) for j, y in enumerate(b) if _partners(x, y, window)
    )
    used_a: set[int] = set()
    used_b: set[int] = set()
    for _, i, j in near:
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
    return 2 * len(used_a) / (len(a) + len(b))


def _partners(x: GripEvent, y: GripEvent, window: int) -> bool:
    return x.closes == y.closes and abs(x.frame - y.frame) <= window


def consensus(paths_m: Sequence[Floats], *, min_path_m: float = MIN_PATH_M) -> Result:
    """Mean pairwise distance of the paths of K sampled plans over their mean length, 0.., lower is surer.

    `detail` names the medoid, the sample nearest to all others. Caveat: samples that all make the same mistake agree.

    Args:
        paths_m: K paths (T, 3) of one length.
        min_path_m: as in `agreement`.
    """
    if len(paths_m) < 2:
        return unavailable("needs at least 2 sampled plans")
    paths = np.stack([check_path("path", path) for path in paths_m])
    if np.median([extent(path) for path in paths]) < min_path_m:
        return no_motion("most of the sampled plans hardly move")
    apart = np.linalg.norm(paths[:, None] - paths[None], axis=-1).mean(-1)
    count = len(paths)
    length = max(float(np.mean([path_length(path) for path in paths])), min_path_m)
    mean = float(apart.sum() / (count * (count - 1)))
    return measured(mean / length, medoid=int(apart.sum(1).argmin()), distance_m=mean, samples=count)
