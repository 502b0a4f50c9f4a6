"""What the value learns from: frames with the share done, and frames in which something else is done, worth 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cascade.value.films import Film
from cascade.value.options import ValueTrainerConfig

CHANGED = 12.0 / 255.0  # change of a colour that counts as motion
SHIFT_PX = 2  # pictures are shifted by up to so much
SOFT_SHARE = 0.3  # share of frames that are blurred, as imagined ones are
NOISE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pictures (N, 3, S, S) 0..1, numbers of sentences (N,), and the value to say (N,)."""

    first: Tensor
    now: Tensor
    sentence: Tensor
    value: Tensor


class Batches:
    """Draws batches from films.

    Args:
        films: to learn from.
        sentences: that they may name.
        options: shares of what is wrong, size of a batch.
    """

    def __init__(self, films: Sequence[Film], sentences: Sequence[str], options: ValueTrainerConfig) -> None:
        self._options, self._kinds = options, len(sentences)
        self._frames = torch.from_numpy(np.stack([film.frames for film in films])).permute(0, 1, 4, 2, 3)
        self._done = torch.from_numpy(np.stack([film.done for film in films]))
        self._meant = torch.tensor([sentences.index(film.instruction) for film in films])

    @property
    def steps(self) -> int:
        """Batches of one epoch."""
        return -(-self._done.numel() // self._options.batch)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield every frame once, in another order each time; some with a wrong sentence, some with a wrong motion."""
        order = rng.permutation(self._done.numel())
        for start in range(0, len(order), self._options.batch):
            yield self._batch(order[start : start + self._options.batch], rng)

    def _batch(self, picks: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        film, moment = (torch.from_numpy(part) for part in np.divmod(picks, self._done.shape[1]))
        first = self._frames[film, 0].float() / 255.0
        now = self._frames[film, moment].float() / 255.0
        value, sentence = self._done[film, moment].clone(), self._meant[film].clone()
        fate = torch.from_numpy(rng.random(len(picks)))
        other = torch.from_numpy(rng.integers(0, len(self._frames), len(picks)))
        differs = self._meant[other] != sentence
        told = (fate < self._options.wrong_sentence) & differs
        shown = (fate >= 1.0 - self._options.wrong_motion) & differs
        sentence[told] = self._meant[other][told]
        pasted = paste(first, self._frames[other, 0].float() / 255.0, self._frames[other, moment].float() / 255.0)
        now[shown] = pasted[shown]
        value[told | shown] = 0.0
        first, now = _varied(first, now, rng)
        return Batch(first, now, sentence, value)


def paste(scene: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Return the scene with what changed between two pictures of another one put on top; all (N, 3, S, S)."""
    changed = ((after - before).abs().mean(1, keepdim=True) > CHANGED).float()
    soft = F.avg_pool2d(F.max_pool2d(changed, 3, 1, 1), 3, 1, 1, count_include_pad=False)
    return soft * after + (1.0 - soft) * scene


def _varied(first: Tensor, now: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Shift and light both pictures alike; blur and disturb the second."""
    count, size = len(now), now.shape[-1]
    blurred = F.avg_pool2d(now, 3, 1, 1, count_include_pad=False)
    soft = torch.from_numpy(rng.random(count) < SOFT_SHARE)[:, None, None, None]
    now = torch.where(soft, blurred, now)
    u, v = rng.integers(0, 2 * SHIFT_PX + 1, 2)
    both = F.pad(torch.cat([first, now]), (SHIFT_PX,) * 4, mode="replicate")[..., v : v + size, u : u + size]
    light = torch.from_numpy(rng.uniform(0.9, 1.1, count).astype(np.float32))[:, None, None, None]
    noise = torch.from_numpy(rng.normal(0.0, NOISE, now.shape).astype(np.float32))
    return (both[:count] * light).clamp(0, 1), (both[count:] * light + noise).clamp(0, 1)
