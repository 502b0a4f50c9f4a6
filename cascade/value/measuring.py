"""How well a value does on demonstrations that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DataError
from cascade.value.films import Film
from cascade.value.model import ValueModel


def rank_correlation(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    """Return Spearman's rank correlation of two series of one length, 0 where one of them does not vary."""
    if len(a) != len(b) or len(a) < 2:
        raise DataError(f"rank correlation: expected two series of one length, found {len(a)} and {len(b)}.")
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (a, b)]
    x, y = (rank - rank.mean() for rank in ranks)
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def measure(model: ValueModel, films: Sequence[Film]) -> dict[str, Any]:
    """Return the rank correlation of said with true progress per sentence, the mean error, and the value of ends.

    The correlation is that within each demonstration, averaged: it does not count that scenes differ.
    """
    by_sentence: dict[str, list[float]] = {}
    errors, ends, strangers = [], [], []
    for film in films:
        said = model.progress(film.instruction, film.frames)
        if said is None:
            continue
        by_sentence.setdefault(film.instruction, []).append(rank_correlation(said, film.done))
        errors.append(np.abs(said - film.done).mean())
        ends.append(said[-1])
        other = model.progress(model.sentences[model.sentences.index(film.instruction) - 1], film.frames)
        if other is not None and len(model.sentences) > 1:
            strangers.append(other[-1])
    if not by_sentence:
        raise DataError("value: expected demonstrations of known sentences to measure on, found none.")
    return {
        "demonstrations": len(errors),
        "rank_correlation": {sentence: float(np.mean(found)) for sentence, found in sorted(by_sentence.items())},
        "mean_rank_correlation": float(np.mean([np.mean(found) for found in by_sentence.values()])),
        "mean_error": float(np.mean(errors)),
        "value_at_the_end": float(np.mean(ends)),
        "value_at_the_end_for_another_sentence": float(np.mean(strangers)) if strangers else None,
    }


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[group], dtype=np.float64)
