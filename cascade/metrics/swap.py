"""C, causal: does changing the plan change the motion? Same scene and seed, other plans, each executed twice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cascade.contracts import DataError
from cascade.metrics.arrays import Floats
from cascade.metrics.paths import MIN_PATH_M, extent
from cascade.metrics.result import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapEffect:
    """What plans cause.

    Attributes:
        status: MEASURED, NO_MOTION when the plans do not move or do not differ, UNAVAILABLE for an executor without
            plans (not applicable, which is not 0).
        effect: F; 1 when the motion follows the plan, 0 when it ignores it.
        identified: share of executions whose nearest imagined path is their own plan.
        chance: what `identified` would be by chance, 1/k.
        noise_m: RMS distance of two executions of one plan.
    """

    status: Status
    effect: float | None = None
    identified: float | None = None
    chance: float | None = None
    noise_m: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "status": self.status.value,
            "effect": self.effect,
            "identified": self.identified,
            "chance": self.chance,
            "noise_m": self.noise_m,
        }


def not_applicable() -> SwapEffect:
    """Return the answer for an executor that has no plan."""
    return SwapEffect(status=Status.UNAVAILABLE)


def swap_effect(imagined_m: Floats, executed_m: Floats, *, min_path_m: float = MIN_PATH_M) -> SwapEffect:
    """Return the plan-swap effect with the noise floor of repeats taken off.

    F = sqrt(max(d(y1, y2)^2 - d0^2, 0)) / d(x1, x2), with d the RMS distance, mean squares over all pairs of plans.

    Args:
        imagined_m: (k, T, 3) paths of k >= 2 plans with different goals, on one clock.
        executed_m: (k, r, T, 3) measured paths of r >= 2 runs of each, on the same clock.
        min_path_m: plans that get no further do not move; plans no further apart are the same plan.

    Raises:
        DataError: shapes do not fit, or there are fewer than 2 plans or repeats.
    """
    x, y = np.asarray(imagined_m, dtype=np.float64), np.asarray(executed_m, dtype=np.float64)
    if x.ndim != 3 or y.ndim != 4 or y.shape[:1] + y.shape[2:] != x.shape or min(x.shape[0], y.shape[1]) < 2:
        raise DataError(
            f"swap_effect: expected (k >= 2, T, D) plans and (k, r >= 2, T, D) runs, found {x.shape} and {y.shape}.",
            "Run every plan at least twice.",
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("swap_effect: expected finite paths, found NaN or infinite values.")
    k, r = y.shape[:2]
    pairs = list(combinations(range(k), 2))
    asked = np.array([_square(x[a], x[b]) for a, b in pairs])
    if min(extent(path) for path in x) < min_path_m or np.sqrt(asked.max()) < min_path_m / 5:
        return SwapEffect(status=Status.NO_MOTION)
    noise = float(np.mean([_square(y[i, a], y[i, b]) for i in range(k) for a, b in combinations(range(r), 2)]))
    done = np.array([np.mean([_square(one, other) for one in y[a] for other in y[b]]) for a, b in pairs])
    effect = float(np.sqrt(max(float(done.mean()) - noise, 0.0) / float(asked.mean())))
    own = [int(np.argmin([_square(run, plan) for plan in x])) == i for i in range(k) for run in y[i]]
    return SwapEffect(
        status=Status.MEASURED,
        effect=effect,
        identified=float(np.mean(own)),
        chance=1 / k,
        noise_m=float(np.sqrt(noise)),
    )


def _square(a: Floats, b: Floats) -> float:
    return float(((a - b) ** 2).sum(-1).mean())
