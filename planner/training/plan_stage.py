"""Stages 2 and 3: the plan generator, first as a regressor, then as a rectified flow that starts from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from planner.networks.autoencoder import FrameAutoencoder
from planner.networks.layers import coordinates
from planner.networks.unet import PlanOutput, PlanUNet
from planner.sampling import integrate, sigmas
from planner.training.context import TrainingContext, moving, psnr_db
from planner.training.data import Window, WindowSampler, held_out_windows
from planner.training.latents import LatentCache
from planner.training.words import WordBank
from planner.weights import Scales

MOVING_WEIGHT, HAND_WEIGHT = 3.0, 4.0
PATH_WEIGHT, SKETCH_WEIGHT, TASK_WEIGHT = 0.5, 0.5, 0.05
FULL_NOISE_SHARE = 0.25
HAND_JITTER = 0.02  # of a standard deviation, some 2 mm
HELD_OUT_LIMIT = 132


@dataclass(frozen=True)
class PlanBatch:
    """Tensors of B windows, normalised: latents (B, T+1, C, h, w), path (B, T+1, 4), uv (B, T+1, 2) and the rest.

    `camera` (B,) and `hand` (B, 4), the measured start of the path, are what the networks are told beside the image.
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


class PlanBatches:
    """Makes batches of windows."""

    def __init__(self, context: TrainingContext, cache: LatentCache, scales: Scales, words: WordBank) -> None:
        self.context, self.scales = context, scales
        self._cache, self._words = cache, words

    def row(self, values: tuple[float, ...]) -> Tensor:
        """Return a per-channel scale as (C, 1, 1)."""
        return torch.tensor(values, device=self.context.device)[:, None, None]

    def make(self, windows: list[Window], *, plain_words: bool = False, jitter: bool = True) -> PlanBatch:
        """Return the batch of `windows`, colours jittered and wordings varied unless told not to."""
        context, scales, rng = self.context, self.scales, self.context.rng
        tracks = [context.tracks[w.track] for w in windows]
        raw = torch.stack([self._cache.raw(w) for w in windows]).to(context.device)
        first = (raw[:, 0] - self.row(scales.latent_mean)) / self.row(scales.latent_std)
        residual = (raw[:, 1:] - raw[:, :1] - self.row(scales.residual_mean)) / self.row(scales.residual_std)
        image = context.images(np.stack([t.frames[w.indices[0]] for t, w in zip(tracks, windows, strict=True)]))
        if jitter:
            count = len(windows)
            gain = 1 + 0.08 * context.normal((count, 3, 1, 1)).clamp(-2, 2)
            image = image * gain + 0.04 * context.normal((count, 3, 1, 1)).clamp(-2, 2)
            image = (image + 0.02 * context.normal(tuple(image.shape))).clamp(-1, 1)
            first = first + 0.05 * context.normal(tuple(first.shape))
        position = np.stack([t.position_m[w.indices] for t, w in zip(tracks, windows, strict=True)])
        opening = np.stack([t.opening[w.indices] for t, w in zip(tracks, windows, strict=True)])
        path = np.concatenate(
            [
                (position - np.array(scales.position_mean)) / np.array(scales.position_std),
                ((opening - scales.opening_mean) / scales.opening_std)[..., None],
            ],
            axis=-1,
        )
        text = np.stack([self._words.plain(t.task) if plain_words else self._words.draw(t.task, rng) for t in tracks])
        names = self._words.tasks
        hand = context.floats(path[:, 0])
        if jitter:
            hand = hand + HAND_JITTER * context.normal(tuple(hand.shape))
        return PlanBatch(
            first=first.contiguous(memory_format=torch.channels_last),
            residual=residual,
            image=image.contiguous(memory_format=torch.channels_last),
            text=context.floats(text),
            path=context.floats(path),
            uv=context.floats(np.stack([t.uv[w.indices] for t, w in zip(tracks, windows, strict=True)])),
            task=torch.tensor([names.index(t.task) for t in tracks], device=context.device),
            camera=torch.tensor([t.camera for t in tracks], device=context.device),
            hand=hand,
        )


class PlanStage:
    """Loss and measurement of the generator; `flow` adds noise levels below 1."""

    def __init__(
        self,
        batches: PlanBatches,
        network: PlanUNet,
        autoencoder: FrameAutoencoder,
        sampler: WindowSampler,
        *,
        flow: bool,
    ) -> None:
        self.network, self._batches, self._autoencoder = network, batches, autoencoder
        self._sampler, self._flow = sampler, flow
        context = batches.context
        self._windows = held_out_windows(context.tracks, context.frames, HELD_OUT_LIMIT, context.start_frame)

    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """Return the loss of a random batch of windows."""
        context = self._batches.context
        batch = self._batches.make(self._sampler.draw(context.batch))
        t = self._times(len(batch.residual))
        noise = context.normal(tuple(batch.residual.shape))
        at = t[:, None, None, None, None]
        noisy = (1 - at) * batch.residual + at * noise
        with context.autocast():
            out: PlanOutput = self.network(noisy, t, batch.first, batch.image, batch.text, batch.camera, batch.hand)
        drawn = self._drawn(out.residual, batch, t)
        path = (out.path - batch.path[:, 1:]).abs().mean()
        sketch = (out.sketch[..., :4] - batch.path[:, 1:]).abs().mean()
        aim = (out.sketch[..., 4:] - batch.uv[:, 1:]).abs().nan_to_num().mean()
        task = F.cross_entropy(out.task, batch.task)
        total = drawn + PATH_WEIGHT * path + SKETCH_WEIGHT * (sketch + 2 * aim) + TASK_WEIGHT * task
        return total, {
            "drawn": float(drawn.detach()),
            "path": float(path.detach()),
            "sketch": float(sketch.detach()),
            "aim": float(aim.detach()),
            "task": float(task.detach()),
        }

    def _times(self, count: int) -> Tensor:
        context = self._batches.context
        ones = torch.ones(count, device=context.device)
        if not self._flow:
            return ones
        t = torch.sigmoid(0.3 + context.normal((count,)))
        return torch.where(context.uniform(count) < FULL_NOISE_SHARE, ones, t)

    def _drawn(self, predicted: Tensor, batch: PlanBatch, t: Tensor) -> Tensor:
        error = predicted - batch.residual
        weight = 1 + MOVING_WEIGHT * (batch.residual.abs().mean(2, keepdim=True) > 0.5).float()
        grid = coordinates(error.shape[-2], error.shape[-1], error)
        off = (grid[:, None] - batch.uv[:, 1:, :, None, None]).square().sum(2, keepdim=True).nan_to_num(9.0)
        weight = weight + HAND_WEIGHT * torch.exp(off * (-0.5 * (8 / 1.5) ** 2))
        # At t = 1 the plan is a guess: the absolute error asks for the median and keeps fingers from being averaged.
        sure = (t < 1).float()[:, None, None, None, None]
        per_value = error.square() + (1 - sure) * error.abs()
        level = (1 / t.clamp(min=0.35))[:, None, None, None, None]
        return (per_value * weight * level).mean() / weight.mean()

    @torch.no_grad()
    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return errors of plans from held-out episodes, one step (and two once it flows)."""
        values: dict[str, float] = dict(self._measure(network, 1))
        if self._flow:
            values.update({f"{k}_2_steps": v for k, v in self._measure(network, 2).items()})
        return values

    def _measure(self, network: Any, steps: int) -> dict[str, float]:
        context, scales = self._batches.context, self._batches.scales
        errors: dict[str, list[Tensor]] = {k: [] for k in ("latent", "path", "sketch", "opening", "pixels", "mask")}
        for at in range(0, len(self._windows), 16):
            windows = self._windows[at : at + 16]
            batch = self._batches.make(windows, plain_words=True, jitter=False)
            clean, out = sample_plans(network, batch, context, steps, torch.zeros_like(batch.residual))
            errors["latent"].append((clean - batch.residual).square().mean((1, 2, 3, 4)))
            off = (out.path - batch.path[:, 1:]).abs()
            errors["path"].append((out.path - batch.path[:, 1:])[..., :3].norm(dim=-1) * scales.position_std[0])
            errors["sketch"].append(
                (out.sketch[..., :4] - batch.path[:, 1:])[..., :3].norm(dim=-1) * scales.position_std[0]
            )
            errors["opening"].append(off[..., 3] * scales.opening_std)
            self._compare_pixels(windows, batch, clean, errors)
        joined = {k: torch.cat(v) for k, v in errors.items()}
        return self._by_group(joined["path"]) | {
            "latent_mse": float(joined["latent"].mean()),
            "motion_psnr_db": psnr_db(joined["pixels"], joined["mask"]),
            "path_median_mm": float(joined["path"].median()) * 1000,
            "path_mean_mm": float(joined["path"].mean()) * 1000,
            "sketch_median_mm": float(joined["sketch"].median()) * 1000,
            "opening_error": float(joined["opening"].mean()),
        }

    def _by_group(self, path: Tensor) -> dict[str, float]:
        """Return the median error of paths (windows, frames) per camera and per task, where there are several."""
        tracks = [self._batches.context.tracks[w.track] for w in self._windows]
        groups: dict[str, list[int]] = {}
        for row, track in enumerate(tracks):
            groups.setdefault(f"camera_{track.camera}", []).append(row)
            groups.setdefault(track.task, []).append(row)
        several = len({t.camera for t in tracks}) > 1
        return {f"path_{k}_mm": float(path[rows].median()) * 1000 for k, rows in groups.items() if several}

    def _compare_pixels(
        self, windows: list[Window], batch: PlanBatch, clean: Tensor, errors: dict[str, list[Tensor]]
    ) -> None:
        context = self._batches.context
        raw = restore(clean, batch.first, self._batches)
        for k in range(0, len(windows), 4):
            track = context.tracks[windows[k].track]
            true = context.images(track.frames[windows[k].indices])
            with context.autocast():
                drawn = self._autoencoder.decode(raw[k, 1:], true[:1]).float()
            errors["pixels"].append((drawn.clamp(-1, 1) - true[1:]).square())
            errors["mask"].append(moving(true[1:], true[:1]))


def restore(residual: Tensor, first: Tensor, batches: PlanBatches) -> Tensor:
    """Return raw latents (B, T+1, C, h, w) of normalised residuals (B, T, C, h, w) and first latents."""
    scales = batches.scales
    start = first * batches.row(scales.latent_std) + batches.row(scales.latent_mean)
    future = start[:, None] + residual * batches.row(scales.residual_std) + batches.row(scales.residual_mean)
    return torch.cat([start[:, None], future], dim=1)


def sample_plans(
    network: Any, batch: PlanBatch, context: TrainingContext, steps: int, start: Tensor
) -> tuple[Tensor, PlanOutput]:
    """Return normalised residuals of plans and the network's last output."""
    last: list[PlanOutput] = []

    def predict(x: Tensor, t: float) -> Tensor:
        moment = torch.full((len(x),), t, device=x.device)
        with context.autocast():
            last.append(network(x, moment, batch.first, batch.image, batch.text, batch.camera, batch.hand))
        return last[-1].residual

    return integrate(predict, start, sigmas(steps)), last[-1]
