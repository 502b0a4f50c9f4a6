"""The goal check: where should the hand go for this sentence in this scene, whatever a plan imagines?

A small reading of its own, fitted on demonstrations: for every known sentence a ridge regression from the first image
to a few points of the hand's path. It shares nothing with planner or extractor, so that a confident plan for another
goal, another task or half a task is told from the one that was asked for. Sentences it does not know get no answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DataError, WeightsError
from cascade.metrics.arrays import Floats, Frames
from cascade.metrics.paths import resample

POINTS = 4  # of the path: at 1/4, 1/2, 3/4 and the end of what happens
SIDE = 32  # images are shrunk to SIDE x SIDE
LEAST_EXAMPLES = 8
RIDGES = (1.0, 10.0, 100.0, 1000.0)
FOLDS = 5
LIKE = 0.6  # least share of words in common for a sentence to count as a known one
FORMAT = "cascade-goal-1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One demonstration: the sentence, the first image (H, W, 3) as plans see it, the hand (N, 3), openings (N,)."""

    instruction: str
    image: Frames
    path_m: Floats
    opening: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Sentence:
    mean: NDArray[np.float32]  # (D,) of the features
    weights: NDArray[np.float16]  # (D, 3 * POINTS)
    offset_m: Floats  # (3 * POINTS,)
    spread_m: Floats  # (POINTS,) RMS distance on examples left out


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """Where the hand should be: `points_m` (POINTS, 3) and the RMS error `spread_m` (POINTS,) to expect of them."""

    points_m: Floats
    spread_m: Floats


@dataclass(frozen=True, slots=True, eq=False)
class GoalModel:
    """What is known about every sentence."""

    sentences: Mapping[str, _Sentence] = field(default_factory=dict)

    def find(self, instruction: str) -> str | None:
        """Return the known sentence that is meant, or None: the same words, or most of them in common."""
        return nearest_sentence(instruction, self.sentences)

    def expect(self, instruction: str, image: Frames) -> Goal | None:
        """Return where the hand should go, or None for a sentence that is not known.

        Args:
            instruction: what to do.
            image: (H, W, 3) uint8, what the camera sees now as the plan sees it.
        """
        known = self.find(instruction)
        if known is None:
            return None
        sentence = self.sentences[known]
        flat = (features(image) - sentence.mean) @ sentence.weights.astype(np.float64) + sentence.offset_m
        return Goal(flat.reshape(POINTS, 3), sentence.spread_m)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return it as named arrays, for a file."""
        found: dict[str, NDArray[Any]] = {}
        for number, sentence in enumerate(self.sentences.values()):
            found |= {
                f"{number}.mean": sentence.mean,
                f"{number}.weights": sentence.weights,
                f"{number}.offset_m": sentence.offset_m,
                f"{number}.spread_m": sentence.spread_m,
            }
        return found

    def digest(self) -> str:
        """Return the first 16 digits of the SHA-256 of what it knows, the same after a file."""
        digest = hashlib.sha256("\n".join(self.sentences).encode())
        for name, array in self.arrays().items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write it as safetensors, the sentences in its header."""
        import json

        from safetensors.numpy import save_file

        header = {"format": FORMAT, "sentences": json.dumps(list(self.sentences))}
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays().items()}
        save_file(arrays, str(path), metadata=header)

    @classmethod
    def load(cls, path: Path) -> GoalModel:
        """Read what `save` wrote.

        Raises:
            WeightsError: the file is missing or is something else.
        """
        import json

        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                header = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path}: expected a goal model, found none ({error}).", "Fit it anew.") from error
        if header.get("format") != FORMAT:
            raise WeightsError(f"{path}: expected format {FORMAT}, found {header.get('format')}.", "Fit it anew.")
        parts = ("mean", "weights", "offset_m", "spread_m")
        sentences = json.loads(header["sentences"])
        return cls({text: _Sentence(*(arrays[f"{n}.{part}"] for part in parts)) for n, text in enumerate(sentences)})


def nearest_sentence(instruction: str, known: Iterable[str]) -> str | None:
    """Return the one of the known sentences that is meant, or None: the same words, or most of them in common."""
    words = _words(instruction)
    best, like = None, 0.0
    for sentence in known:
        other = _words(sentence)
        share = len(words & other) / max(1, len(words | other))
        if share > like:
            best, like = sentence, share
    return best if like >= LIKE else None


def fit_goals(examples: Sequence[Example]) -> GoalModel:
    """Fit a goal model; the strength of the ridge and the error to expect come from examples left out.

    Raises:
        DataError: a sentence has fewer than 8 examples.
    """
    by_sentence: dict[str, list[Example]] = {}
    for example in examples:
        by_sentence.setdefault(example.instruction, []).append(example)
    for instruction, found in by_sentence.items():
        if len(found) < LEAST_EXAMPLES:
            raise DataError(
                f"goal {instruction!r}: expected at least {LEAST_EXAMPLES} demonstrations, found {len(found)}.",
                "Record more of them.",
            )
    return GoalModel({instruction: _fit(found) for instruction, found in by_sentence.items()})


def _fit(examples: Sequence[Example]) -> _Sentence:
    x = np.stack([features(example.image) for example in examples])
    y = np.stack([path_points(example.path_m, example.opening).ravel() for example in examples])
    folds = np.arange(len(x)) % FOLDS
    errors = []
    for ridge in RIDGES:
        left = np.empty_like(y)
        for fold in range(FOLDS):
            out = folds == fold
            mean, weights, offset = _ridge(x[~out], y[~out], ridge)
            left[out] = (x[out] - mean) @ weights + offset
        errors.append(((left - y) ** 2).reshape(len(y), POINTS, 3).sum(-1))
    best = int(np.argmin([error.mean() for error in errors]))
    mean, weights, offset = _ridge(x, y, RIDGES[best])
    spread = np.sqrt(errors[best].mean(0))
    return _Sentence(mean.astype(np.float32), weights.astype(np.float16), offset, spread)


def _ridge(x: Floats, y: Floats, ridge: float) -> tuple[Floats, Floats, Floats]:
    """Ridge regression in its dual form, for many more features than examples."""
    mean, offset = x.mean(0), y.mean(0)
    centred = x - mean
    dual = np.linalg.solve(centred @ centred.T + ridge * np.eye(len(x)), y - offset)
    return mean, centred.T @ dual, offset


def features(image: Frames) -> Floats:
    """Return what the regression sees of an image (H, W, 3) uint8: its colours, shrunk to 32 x 32, as (3072,)."""
    import cv2

    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float64).ravel() / 64.0


def path_points(path_m: Floats, opening: Floats) -> Floats:
    """Return the (POINTS, 3) points of a path, evenly along what happens, the start left out."""
    points, _ = resample(path_m, POINTS + 1, opening=opening)
    return points[1:]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower())) - {"the", "a", "an", "please"}
