"""Stages 2 and 3: the plan generator, first as a regressor, then as a rectified flow that starts from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from planner.networks.autoencoder import FrameAutoencoder
from planner.networks.layers import coordinates
from planner.networks.unet import PlanOutput, PlanUNet
from planner.sampling import integrate, sigmas
from planner.strides import WHOLE
from planner.training.context import TrainingContext, moving, psnr_db
from planner.training.data import Window, WindowSampler, held_out_windows
from planner.training.plan_batches import PlanBatch, PlanBatches
from planner.training.sketch_stage import HELD_OUT_LIMIT, frame_weights, mean_error, medians, sketch_losses

MOVING_WEIGHT, HAND_WEIGHT = 3.0, 4.0
PATH_WEIGHT = 0.5
FULL_NOISE_SHARE = 0.25


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
        kept = context.tracks, context.frames, HELD_OUT_LIMIT, context.start_frame
        self._windows = held_out_windows(*kept)
        self._videos = held_out_windows(*kept, labelled=False)
        self._finer = {s: held_out_windows(*kept, stride=s) for s in sampler.strides if s != WHOLE}

    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """Return the loss of a random batch of windows."""
        context = self._batches.context
        batch = self._batches.make(self._sampler.draw(context.batch))
        t = self._times(len(batch.residual))
        noise = context.normal(tuple(batch.residual.shape))
        at = t[:, None, None, None, None]
        noisy = (1 - at) * batch.residual + at * noise
        with context.autocast():
            out: PlanOutput = self.network(
                noisy, t, batch.first, batch.image, batch.text, batch.camera, batch.hand, batch.stride
            )
        drawn = self._drawn(out.residual, batch, t)
        path = mean_error(out.path, batch.path[:, 1:], frame_weights(batch.path))
        sketched, parts = self._sketched(out, batch)
        total = drawn + PATH_WEIGHT * path + sketched
        return total, {"drawn": float(drawn.detach()), "path": float(path.detach()), **parts}

    def _sketched(self, out: PlanOutput, batch: PlanBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the sketch's loss: on these windows, or on looks, which show more layouts."""
        looks, context = self._batches.looks, self._batches.context
        if looks is None:
            return sketch_losses(out.sketch, out.task, batch)
        other = self._batches.look(looks, looks.draw(context.batch, context.rng))
        with context.autocast():
            _, (_, sketch, _), task = self.network.look(other.image, other.text, other.camera, other.hand, other.stride)
        return sketch_losses(sketch, task, other)

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
        errors = self._errors(network, self._windows, steps)
        tracks = [self._batches.context.tracks[w.track] for w in self._windows]
        values = medians(errors["path"], [(t.camera, t.task) for t in tracks], "path") | {
            "latent_mse": float(errors["latent"].mean()),
            "motion_psnr_db": psnr_db(errors["pixels"], errors["mask"]),
            "path_median_mm": float(errors["path"].median()) * 1000,
            "path_mean_mm": float(errors["path"].mean()) * 1000,
            "path_end_median_mm": float(errors["path"][:, -1].median()) * 1000,
            "sketch_median_mm": float(errors["sketch"].median()) * 1000,
            "opening_error": float(errors["opening"].mean()),
        }
        if self._videos:  # of which nothing but pixels is known
            errors = self._errors(network, self._videos, steps)
            values["video_latent_mse"] = float(errors["latent"].mean())
            values["video_motion_psnr_db"] = psnr_db(errors["pixels"], errors["mask"])
        for stride, windows in self._finer.items():
            values[f"path_{stride}_median_mm"] = float(self._errors(network, windows, steps)["path"].median()) * 1000
        return values

    def _errors(self, network: Any, chosen: list[Window], steps: int) -> dict[str, Tensor]:
        context, scales = self._batches.context, self._batches.scales
        errors: dict[str, list[Tensor]] = {k: [] for k in ("latent", "path", "sketch", "opening", "pixels", "mask")}
        for at in range(0, len(chosen), 16):
            windows = chosen[at : at + 16]
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
        return {k: torch.cat(v) for k, v in errors.items()}

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
            situation = (batch.camera, batch.hand, batch.stride)
            last.append(network(x, moment, batch.first, batch.image, batch.text, *situation))
        return last[-1].residual

    return integrate(predict, start, sigmas(steps)), last[-1]
