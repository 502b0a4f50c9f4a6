"""Consensus: how near a candidate is to the others; the one nearest to all is the medoid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cascade.contracts import Candidate, Measure, Needs, Observation
from cascade.metrics.paths import MIN_PATH_M, extent
from cascade.scorers.paths import hand_paths, path_distance_m


class Consensus:
    """Mean distance of a candidate's path to those of the others.

    Samples that all make the same mistake agree, so this finds the odd one out and no more.
    """

    needs = Needs()
    measure = Measure(name="consensus", unit="m", higher_is_better=False)

    def score(self, candidates: Sequence[Candidate], observation: Observation) -> list[float | None]:
        """Return the mean distance to the other candidates [m]; None for one whose hand hardly moves."""
        paths = hand_paths(candidates, observation)
        moving = [path is not None and extent(path) >= MIN_PATH_M for path in paths]
        scores: list[float | None] = []
        for i, path in enumerate(paths):
            others = [other for j, other in enumerate(paths) if j != i and moving[j] and other is not None]
            if path is None or not moving[i] or not others:
                scores.append(None)
            else:
                scores.append(float(np.mean([path_distance_m(path, other) for other in others])))
        return scores
