"""Batches of plans to learn: from windows of recorded episodes, or from first looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planner.strides import fineness
from planner.training.context import TrainingContext
from planner.training.data import Window
from planner.training.latents import LatentCache
from planner.training.looks import Looks
from planner.training.words import WordBank
from planner.weights import Scales

HAND_JITTER = 0.02  # of a standard deviation, some 2 mm


@dataclass(frozen=True)
class PlanBatch:
    """Tensors of B windows, normalised: latents (B, T+1, C, h, w), path (B, T+1, 4), uv (B, T+1, 2) and the rest.

    `camera` (B,) and `hand` (B, 4), the measured start of the path, are what the networks are told beside the image.
    Of looks and of windows without latents, `first` and `residual` are empty. Of videos `path` and `uv` are NaN, and
    `hand` is in the middle of all places.
    """

    first: Tensor
    residual: Tensor
    image: Tensor
    text: Tensor
    path: Tensor
    uv: Tensor
    task: Tensor
    camera: Tensor
    hand: Tensor
    stride: Tensor


@dataclass(frozen=True)
class _Seen:
    """B first images with what followed: frames, path [m] and opening (B, T+1, 4), uv, numbers of task and camera.

    `fineness` (B,) says how much of the task followed, see `planner.strides`.
    """

    frames: NDArray[np.uint8]
    path: NDArray[np.float64]
    uv: NDArray[np.float32]
    task: NDArray[np.int64]
    camera: NDArray[np.int64]
    fineness: NDArray[np.float64]


class PlanBatches:
    """Makes batches; `looks` are images beyond those of the recorded episodes."""

    def __init__(
        self,
        context: TrainingContext,
        cache: LatentCache,
        scales: Scales,
        words: WordBank,
        looks: Looks | None = None,
    ) -> None:
        self.context, self.scales, self.looks = context, scales, looks
        self._cache, self._words = cache, words

    def row(self, values: tuple[float, ...]) -> Tensor:
        """Return a per-channel scale as (C, 1, 1)."""
        return torch.tensor(values, device=self.context.device)[:, None, None]

    def make(
        self, windows: list[Window], *, plain_words: bool = False, jitter: bool = True, latents: bool = True
    ) -> PlanBatch:
        """Return the batch of `windows`, colours jittered and wordings varied unless told not to."""
        context, names = self.context, self._words.tasks
        tracks = [context.tracks[w.track] for w in windows]
        pairs = list(zip(tracks, windows, strict=True))
        seen = _Seen(
            frames=np.stack([t.frames[w.indices[0]] for t, w in pairs]),
            path=np.stack([np.c_[t.position_m, t.opening][w.indices] for t, w in pairs]),
            uv=np.stack([t.uv[w.indices] for t, w in pairs]),
            task=np.array([names.index(t.task) for t in tracks]),
            camera=np.array([t.camera for t in tracks]),
            fineness=np.array([fineness(w.stride) for w in windows]),
        )
        return self._batch(seen, windows if latents else [], plain_words, jitter)

    def look(self, looks: Looks, rows: NDArray[np.int64], *, plain: bool = False) -> PlanBatch:
        """Return a batch of looks without latents; `plain` leaves colours and wordings as they are."""
        seen = _Seen(
            frames=looks.frames[rows],
            path=looks.path[rows].astype(np.float64),
            uv=looks.uv[rows],
            task=looks.task[rows],
            camera=looks.camera[rows],
            fineness=np.zeros(len(rows)),
        )
        return self._batch(seen, [], plain, not plain)

    def _batch(self, seen: _Seen, windows: list[Window], plain_words: bool, jitter: bool) -> PlanBatch:
        context, scales, words = self.context, self.scales, self._words
        image = context.images(seen.frames)
        first, residual = self._latents(windows) if windows else (torch.zeros(0, 1, 1, 1), torch.zeros(0))
        mean = np.array([*scales.position_mean, scales.opening_mean])
        path = context.floats((seen.path - mean) / np.array([*scales.position_std, scales.opening_std]))
        hand = path[:, 0].nan_to_num()
        if jitter:
            image = self._jittered(image)
            first = first + 0.05 * context.normal(tuple(first.shape))
            hand = hand + HAND_JITTER * context.normal(tuple(hand.shape))
        tasks = [words.tasks[number] for number in seen.task]
        text = np.stack([words.plain(task) if plain_words else words.draw(task, context.rng) for task in tasks])
        return PlanBatch(
            first=first.contiguous(memory_format=torch.channels_last),
            residual=residual,
            image=image.contiguous(memory_format=torch.channels_last),
            text=context.floats(text),
            path=path,
            uv=context.floats(seen.uv),
            task=torch.from_numpy(seen.task).to(context.device),
            camera=torch.from_numpy(seen.camera).to(context.device),
            hand=hand,
            stride=context.floats(seen.fineness),
        )

    def _jittered(self, image: Tensor) -> Tensor:
        """Return images with other gains and lifts of their colours, and a little noise."""
        context, count = self.context, len(image)
        gain = 1 + 0.08 * context.normal((count, 3, 1, 1)).clamp(-2, 2)
        image = image * gain + 0.04 * context.normal((count, 3, 1, 1)).clamp(-2, 2)
        return (image + 0.02 * context.normal(tuple(image.shape))).clamp(-1, 1)

    def _latents(self, windows: list[Window]) -> tuple[Tensor, Tensor]:
        """Return normalised first latents and residuals."""
        scales = self.scales
        raw = torch.stack([self._cache.raw(w) for w in windows]).to(self.context.device)
        first = (raw[:, 0] - self.row(scales.latent_mean)) / self.row(scales.latent_std)
        residual = (raw[:, 1:] - raw[:, :1] - self.row(scales.residual_mean)) / self.row(scales.residual_std)
        return first, residual
