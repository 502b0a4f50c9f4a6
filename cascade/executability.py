"""`p_exec`: the probability that following a plan reaches its goal, from what is known before anything moves.

A logistic regression on the cues of a plan (`cascade.metrics.cues`), fitted on trials of other scenes and stored with
its reliability. Where a cue cannot be computed, the next poorer model that does without it answers, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DataError
from cascade.metrics.arrays import Bools, Floats
from cascade.metrics.cues import GOAL, REQUIRED, VALUE, Cues

PENALTY = 1.0  # of the squared coefficients, of standardised cues
FOLDS = 5
LARGEST_Z = 4.0  # cues further out say no more than that
LOGARITHMIC = (
    "agreement",
    "hand_jump_m",
    "hand_spread_m",
    "camera_px",
    "change_jump",
    "goal_end",
    "goal_path",
)
HIGHER_IS_BETTER = ("tail_motion", "survival", "value_end")
# Richest first. Every rig with an extrinsically calibrated camera has what the last one needs.
CUE_SETS: Mapping[str, tuple[str, ...]] = {
    "all cues": (*REQUIRED, *GOAL, *VALUE),
    "no value": (*REQUIRED, *GOAL),
    "no goal": (*REQUIRED, *VALUE),
    "no goal, no value": REQUIRED,
    "no background": tuple(name for name in REQUIRED if name not in ("camera_px", "survival")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Logistic:
    """One logistic regression.

    Attributes:
        name: which cues it has.
        cues: their names.
        mean, scale: of the transformed cues.
        weights: of the standardised cues; `intercept`.
        reliability: bins of predicted and observed success, out of fold.
        scores: auroc, brier and calibration error, out of fold.
    """

    name: str
    cues: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    reliability: tuple[Mapping[str, float], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)

    def answers(self, cues: Cues) -> bool:
        """Whether all of its cues are there."""
        return all(name in cues.values for name in self.cues)

    def probability(self, cues: Cues) -> float:
        """Return p_exec of one plan; 0 for one that hardly moves."""
        if not cues.moves:
            return 0.0
        row = np.array([transformed(name, cues.values[name]) for name in self.cues])
        z = np.clip((row - np.array(self.mean)) / np.array(self.scale), -LARGEST_Z, LARGEST_Z)
        return float(1 / (1 + np.exp(-(z @ np.array(self.weights) + self.intercept))))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "cues": list(self.cues),
            "mean": list(self.mean),
            "scale": list(self.scale),
            "weights": list(self.weights),
            "intercept": self.intercept,
            "reliability": [dict(row) for row in self.reliability],
            "scores": dict(self.scores),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Logistic:
        """Return what `as_json` wrote; raises DataError for anything else."""
        try:
            numbers = {key: tuple(float(x) for x in values[key]) for key in ("mean", "scale", "weights")}
            cues = tuple(str(name) for name in values["cues"])
            made = cls(
                name=str(values["name"]),
                cues=cues,
                mean=numbers["mean"],
                scale=numbers["scale"],
                weights=numbers["weights"],
                intercept=float(values["intercept"]),
                reliability=tuple(values.get("reliability", ())),
                scores=dict(values.get("scores", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"p_exec: expected a logistic model, found none ({error}).", "Fit it anew.") from error
        if not len(cues) == len(made.mean) == len(made.scale) == len(made.weights):
            raise DataError("p_exec: expected one mean, scale and weight per cue.", "Fit it anew.")
        return made


def transformed(name: str, value: float) -> float:
    """Return a cue as the model sees it: ratios and distances by their logarithm."""
    return float(np.log(max(value, 0.0) + 1e-3)) if name in LOGARITHMIC else value


def fit(name: str, names: Sequence[str], cues: Sequence[Cues], success: Bools, scenes: Sequence[Any]) -> Logistic:
    """Fit one model; its reliability is measured out of fold, scenes never being split.

    Plans that hardly move are left to the rule that gives them 0.

    Args:
        name: of the model.
        names: its cues.
        cues: of every trial.
        success: (n,) how they ended.
        scenes: (n,) their scenes.

    Raises:
        DataError: fewer than 20 trials have all cues, or only successes, or only failures.
    """
    from cascade.metrics.discrimination import auroc, brier, calibration_error, reliability

    usable = np.array([c.moves and all(n in c.values for n in names) for c in cues], dtype=np.bool_)
    hits = np.asarray(success, dtype=np.bool_)[usable]
    if usable.sum() < 20 or hits.all() or not hits.any():
        raise DataError(
            f"p_exec, {name}: expected 20 trials or more with successes and failures, found {int(usable.sum())} with "
            f"{int(hits.sum())} successes.",
            "Run more trials.",
        )
    chosen = [c for c, use in zip(cues, usable, strict=True) if use]
    x = np.array([[transformed(n, c.values[n]) for n in names] for c in chosen])
    fold = _folds([scene for scene, use in zip(scenes, usable, strict=True) if use])
    left = np.empty(len(x))
    for number in range(FOLDS):
        out = fold == number
        if out.any():
            left[out] = _predict(x[out], *_logistic(names, x[~out], hits[~out]))
    mean, scale, weights = _logistic(names, x, hits)
    return Logistic(
        name=name,
        cues=tuple(names),
        mean=tuple(map(float, mean)),
        scale=tuple(map(float, scale)),
        weights=tuple(map(float, weights[:-1])),
        intercept=float(weights[-1]),
        reliability=tuple(reliability(left, hits)),
        scores={
            "trials": len(x),
            "auroc": round(auroc(left, hits), 4),
            "brier": round(brier(left, hits), 4),
            "calibration_error": round(calibration_error(left, hits), 4),
        },
    )


def out_of_fold(model: Logistic, cues: Sequence[Cues], success: Bools, scenes: Sequence[Any]) -> Floats:
    """Return for every trial the p_exec of a model that was fitted without its scene; NaN where cues are missing."""
    hits, result = np.asarray(success, dtype=np.bool_), np.full(len(cues), np.nan)
    still = np.array([not c.moves for c in cues])
    result[still] = 0.0
    usable = [number for number, c in enumerate(cues) if c.moves and model.answers(c)]
    x = np.array([[transformed(n, cues[i].values[n]) for n in model.cues] for i in usable])
    fold, places = _folds([scenes[i] for i in usable]), np.array(usable)
    for number in range(FOLDS):
        out = fold == number
        if out.any():
            result[places[out]] = _predict(x[out], *_logistic(model.cues, x[~out], hits[places[~out]]))
    return result


def _folds(scenes: Sequence[Any]) -> NDArray[np.int64]:
    _, group = np.unique(np.array([str(scene) for scene in scenes]), return_inverse=True)
    return np.asarray(group % FOLDS, dtype=np.int64)


def _logistic(names: Sequence[str], x: Floats, hits: Bools) -> tuple[Floats, Floats, Floats]:
    """Penalised maximum likelihood; returns mean, scale, and weights with the intercept last.

    A cue counts only in the direction that makes sense: with few trials chance would find others too.
    """
    from scipy.optimize import minimize

    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    z = np.column_stack([np.clip((x - mean) / scale, -LARGEST_Z, LARGEST_Z), np.ones(len(x))])
    signs = np.where(hits, 1.0, -1.0)
    penalty = np.append(np.full(len(names), PENALTY), 1e-6)

    def loss(weights: Floats) -> tuple[float, Floats]:
        margin = signs * (z @ weights)
        p_wrong = 1 / (1 + np.exp(np.clip(margin, -50, 50)))
        value = np.logaddexp(0, -margin).sum() + 0.5 * (penalty * weights**2).sum()
        return float(value), penalty * weights - z.T @ (signs * p_wrong)

    bounds = [(0.0, None) if name in HIGHER_IS_BETTER else (None, 0.0) for name in names]
    found = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)])
    return mean, scale, np.asarray(found.x, dtype=np.float64)


def _predict(x: Floats, mean: Floats, scale: Floats, weights: Floats) -> Floats:
    z = np.clip((x - mean) / scale, -LARGEST_Z, LARGEST_Z)
    return np.asarray(1 / (1 + np.exp(-(z @ weights[:-1] + weights[-1]))), dtype=np.float64)
