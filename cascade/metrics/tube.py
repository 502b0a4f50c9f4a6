"""B, after motion: did the hand follow the imagined path, and if not, whose error is it?

An executor that ignores its plan but knows the task can pass here; only the plan-swap effect sees that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.metrics.arrays import Floats
from cascade.metrics.paths import BAND, MIN_PATH_M, check_path, extent, path_length, resample, warp_pairs
from cascade.metrics.result import Result, Status, measured, no_motion

SCORE_SCALE = 0.1  # relative distance at which the score has fallen to 1/e
POINTS = 33


@dataclass(frozen=True, slots=True, kw_only=True)
class Tube:
    """Distance of the imagined and the measured path.

    Attributes:
        status: MEASURED, or NO_MOTION when the imagined hand hardly moves.
        distance_m: mean over the warping pairs.
        score: exp(-(distance / length) / 0.1), 0..1.
        lag: mean lead of the imagined path over the measured one, as a share of the whole; positive: late.
        lag_s: the same in seconds, None when the plan's time is only ordinal.
        length_m: mean path length.
    """

    status: Status
    distance_m: float | None = None
    score: float | None = None
    lag: float | None = None
    lag_s: float | None = None
    length_m: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "status": self.status.value,
            "distance_m": self.distance_m,
            "score": self.score,
            "lag": self.lag,
            "lag_s": self.lag_s,
            "length_m": self.length_m,
        }


def tube_error(
    imagined_m: Floats,
    measured_m: Floats,
    *,
    dt_s: float | None = None,
    band: float = BAND,
    min_path_m: float = MIN_PATH_M,
) -> Tube:
    """Compare the imagined and the measured path by exact dynamic time warping in a band.

    Args:
        imagined_m: (T, 3) path of the extractor that commanded.
        measured_m: (N, 3) encoders; on the plan's clock (see `on_clock_of`), or the band cuts.
        dt_s: time between imagined points, for the lag in seconds.
        band: of the warping.
        min_path_m: an imagined hand that gets no further does not move.
    """
    x, y = check_path("imagined path", imagined_m), check_path("measured path", measured_m)
    length = (path_length(x) + path_length(y)) / 2
    if extent(x) < min_path_m:
        return Tube(status=Status.NO_MOTION, length_m=length)
    i, j = warp_pairs(x, y, band=band)
    distance = float(np.linalg.norm(x[i] - y[j], axis=1).mean())
    lag = float((j / (len(y) - 1) - i / (len(x) - 1)).mean())
    return Tube(
        status=Status.MEASURED,
        distance_m=distance,
        score=float(np.exp(-distance / max(length, min_path_m) / SCORE_SCALE)),
        lag=lag,
        lag_s=None if dt_s is None else lag * (len(x) - 1) * dt_s,
        length_m=length,
    )


def on_clock_of(path_m: Floats, opening: Floats | None = None, *, count: int = POINTS) -> Floats:
    """Return a path resampled as plans choose their frames: evenly along what happens."""
    points, _ = resample(path_m, count, opening=opening)
    return points


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The tube error by stage; each part says what it lacks when it cannot be told.

    Attributes:
        e_extract: extractor on the executed video against encoders [m].
        e_track: commanded against measured [m].
        e_imagine: extractor on the plan against extractor on the executed video [m]; a constant bias cancels.
        e_object: imagined against executed object path, relative to the gripper [m].
    """

    e_extract: Result
    e_track: Result
    e_imagine: Result
    e_object: Result

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: getattr(self, name).as_json() for name in ("e_extract", "e_track", "e_imagine", "e_object")}


def extract_error(read_m: Floats, measured_m: Floats) -> Result:
    """Mean distance of what an extractor reads in executed frames and the encoders at the same instants [m].

    Args:
        read_m: (T, 3).
        measured_m: (T, 3).
    """
    if extent(check_path("measured path", measured_m)) < MIN_PATH_M:
        return no_motion("the arm hardly moved")
    apart = np.linalg.norm(read_m - measured_m, axis=1)
    bias = np.asarray(read_m - measured_m).mean(0)
    return measured(float(apart.mean()), bias_m=[round(float(b), 5) for b in bias], worst_m=float(apart.max()))


def path_error(a_m: Floats, b_m: Floats) -> Result:
    """Mean warped distance of two paths brought to one clock [m]."""
    a, b = on_clock_of(a_m), on_clock_of(b_m)
    if max(extent(a), extent(b)) < MIN_PATH_M:
        return no_motion("the hand hardly moves")
    i, j = warp_pairs(a, b)
    return measured(float(np.linalg.norm(a[i] - b[j], axis=1).mean()))
