"""Best of N: read every sampled plan, score it, rank, remember what failed, and say why.

Scorers have different units, so each one only ranks the candidates (best 1, worst 0, ties in between), and the ranks
are averaged by the scorers' weights. A plan that the gate refuses, or that goes where a failed plan of this episode
went, comes behind all others whatever its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import CascadeError, ConfigError, IncompatibleError
from cascade.contracts.interfaces import Candidate, Measure
from cascade.contracts.records import ActionChunk, Limits, Observation, Verdict, VideoPlan
from cascade.gate import check_chunk, check_plan
from cascade.outcome import refusal
from cascade.pipeline import Stages
from cascade.scorers.paths import hand_path, path_distance_m
from cascade.tiles import first_view

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """One candidate with everything that was held for and against it.

    Attributes:
        sample: its place among the samples.
        path_m: (33, 3) way of the hand, None where nothing was read.
        scores: scorer -> number in its own unit, None where it could not judge.
        ranks: scorer -> 1 for the best of the candidates .. 0 for the worst.
        total: weighted mean of the ranks.
        refused: why the gate, or the extractor, would have none of it; empty: it may run.
        failed_m: distance to the nearest failed plan of this episode, None before any failed.
        avoided: whether that is too near.
    """

    sample: int
    plan: VideoPlan
    chunk: ActionChunk | None
    path_m: Floats | None
    scores: dict[str, float | None]
    ranks: dict[str, float]
    total: float
    refused: str
    failed_m: float | None
    avoided: bool

    def values(self) -> dict[str, Any]:
        """As JSON values, without plan and chunk."""
        return {
            "sample": self.sample,
            "plan_id": self.plan.plan_id,
            "scores": {name: None if score is None else round(score, 5) for name, score in self.scores.items()},
            "ranks": {name: round(rank, 3) for name, rank in self.ranks.items()},
            "total": round(self.total, 4),
            "refused": self.refused,
            "failed_m": None if self.failed_m is None else round(self.failed_m, 4),
            "avoided": self.avoided,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """All candidates, the best first.

    Attributes:
        ranked: the candidates.
        measures: unit and direction of each scorer.
        last_read: sample that the extractor read last; a stateful one can go on with that one only.
    """

    ranked: tuple[Judged, ...]
    measures: tuple[Measure, ...]
    last_read: int

    @property
    def best(self) -> Judged:
        """The one to run."""
        return self.ranked[0]

    @property
    def first_chunk(self) -> ActionChunk | None:
        """The best one's chunk, unless the extractor has to read it again to go on with it."""
        chunk = self.best.chunk
        return chunk if chunk is not None and (chunk.final or self.best.sample == self.last_read) else None

    @property
    def why(self) -> str:
        """The choice in words."""
        best, count = self.best, len(self.ranked)
        parts = [
            f"{measure.name} {_number(best.scores[measure.name])} {measure.unit}".strip()
            + f" (rank {1 + sum(other.ranks[measure.name] > best.ranks[measure.name] for other in self.ranked)})"
            for measure in self.measures
        ]
        refused = sum(bool(one.refused) for one in self.ranked)
        avoided = sum(one.avoided for one in self.ranked)
        parts += [f"{refused} refused"] if refused else []
        parts += [f"{avoided} like a plan that failed"] if avoided else []
        return f"sample {best.sample + 1} of {count}: " + ", ".join(parts)

    def values(self) -> dict[str, Any]:
        """As JSON values, for the run folder."""
        return {
            "sample": self.best.sample,
            "why": self.why,
            "measures": [
                {"name": m.name, "unit": m.unit, "higher_is_better": m.higher_is_better} for m in self.measures
            ],
            "candidates": [one.values() for one in self.ranked],
        }


def choose(
    stages: Stages, plans: Sequence[VideoPlan], observation: Observation, limits: Limits, failed: Sequence[Floats] = ()
) -> Choice:
    """Read all plans, score and rank them.

    Args:
        stages: extractor, scorers and recipe.
        plans: candidates for one moment; with a reader, its readout is in them already.
        observation: that moment.
        limits: of the arm, for the gate.
        failed: paths of plans that failed in this episode, as from `hand_path`.

    Raises:
        IncompatibleError: the extractor or a scorer cannot work with such plans at all.
    """
    start, sampling = observation.arm.position_m, stages.recipe.sampling
    read = [_read(stages, plan, observation, limits) for plan in plans]
    candidates = [Candidate(plan=plan, chunk=chunk) for plan, (chunk, _) in zip(plans, read, strict=True)]
    scores = [list(scorer.score(candidates, observation)) for scorer in stages.scorers]
    measures = tuple(scorer.measure for scorer in stages.scorers)
    ranks = [ranked(values, measure.higher_is_better) for values, measure in zip(scores, measures, strict=True)]
    weights = np.array([scorer.weight for scorer in sampling.scorers])
    judged = []
    for k, (candidate, (_, refused)) in enumerate(zip(candidates, read, strict=True)):
        path = hand_path(candidate.chunk, start)
        away = None if path is None or not failed else min(path_distance_m(path, other) for other in failed)
        judged.append(
            Judged(
                sample=k,
                plan=candidate.plan,
                chunk=candidate.chunk,
                path_m=path,
                scores={measure.name: values[k] for measure, values in zip(measures, scores, strict=True)},
                ranks={measure.name: float(row[k]) for measure, row in zip(measures, ranks, strict=True)},
                total=float(np.average([row[k] for row in ranks], weights=weights)) if ranks else 0.0,
                refused=refused,
                failed_m=away,
                avoided=away is not None and away < sampling.avoid_m,
            )
        )
    return Choice(ranked=tuple(sorted(judged, key=_order)), measures=measures, last_read=len(plans) - 1)


def ranked(values: Sequence[float | None], higher_is_better: bool) -> Floats:
    """Return (N,) ranks from 0 (worst) to 1 (best); equals share theirs, None is worst, and all None are all 0.5."""
    if all(value is None for value in values) or len(values) < 2:
        return np.full(len(values), 0.5)
    sign = 1.0 if higher_is_better else -1.0
    keys = np.array([-np.inf if value is None else sign * value for value in values])
    below = (keys[:, None] > keys[None]).sum(axis=1)
    same = (keys[:, None] == keys[None]).sum(axis=1)
    return np.asarray((below + (same - 1) / 2) / (len(keys) - 1), dtype=np.float64)


def _order(one: Judged) -> tuple[bool, bool, float, float, int]:
    """Runnable before refused, new before like a failed one (of those the farthest first), then by rank."""
    away = -(one.failed_m or 0.0) if one.avoided else 0.0
    return bool(one.refused), one.avoided, away, -one.total, one.sample


def _read(stages: Stages, plan: VideoPlan, observation: Observation, limits: Limits) -> tuple[ActionChunk | None, str]:
    """Return the chunk of a plan, and why it may not run."""
    settings, reader = stages.recipe.gate, stages.hand_reader
    try:
        chunk = stages.extractor.extract(plan, observation)
    except (IncompatibleError, ConfigError):
        raise
    except CascadeError as error:
        return None, error.problem
    for subject, report in (
        ("plan", check_plan(first_view(plan), observation, settings, reader=reader, limits=limits)),
        ("chunk", check_chunk(chunk, observation.arm, limits, settings)),
    ):
        if report.verdict is Verdict.REJECT:
            return chunk, refusal(subject, report)
    return chunk, ""


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
