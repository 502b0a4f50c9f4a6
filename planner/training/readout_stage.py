"""Stage 4: reads the hand in planned latents, and learns how far to trust itself.

Plans for training episodes are better than plans for new ones, so they are worsened: mixed with their neighbours in
time (unsure timing is how plans blur), noised, and joined by the true latents. The spread is then scaled on held-out
episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from planner.networks.readout import LatentReadout, Reading
from planner.networks.unet import PlanUNet
from planner.training.data import Window, WindowSampler, held_out_windows
from planner.training.plan_batches import PlanBatch, PlanBatches
from planner.training.plan_stage import sample_plans

HELD_OUT_LIMIT = 200
STEPS = (1, 1, 1, 2)
REUSE = 6  # steps that one batch of plans serves, worsened anew each time: planning costs more than reading


class ReadoutStage:
    """Loss and measurement of the readout."""

    def __init__(self, batches: PlanBatches, unet: PlanUNet, sampler: WindowSampler, cameras: int = 0) -> None:
        context = batches.context
        self._batches, self._unet, self._sampler = batches, unet.eval(), sampler
        channels = batches.row(batches.scales.latent_mean).shape[0]
        network: Any = LatentReadout(channels=channels, cameras=cameras)
        self.network: LatentReadout = network.to(device=context.device, memory_format=torch.channels_last)
        self._kept: tuple[PlanBatch, Tensor] | None = None
        self._uses = 0
        self._windows = held_out_windows(context.tracks, context.frames, HELD_OUT_LIMIT, context.start_frame)

    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """Return the negative log-likelihood of the true hand given worsened plans."""
        context = self._batches.context
        batch, planned = self._plans()
        residual = self._worsened(planned, batch.residual)
        with context.autocast():
            reading = self.network(self._latents(residual, batch.first), batch.camera, batch.hand)
        position, opening = _likelihood(reading, batch.path)
        return position + 0.5 * opening, {"position": float(position.detach()), "opening": float(opening.detach())}

    def _plans(self) -> tuple[PlanBatch, Tensor]:
        """Return a batch and the plans for it; one from a few steps ago while it is fresh enough."""
        context = self._batches.context
        self._uses += 1
        if self._kept is None or self._uses >= REUSE:
            batch = self._batches.make(self._sampler.draw(context.batch))
            steps = STEPS[int(context.rng.integers(len(STEPS)))]
            planned = self._planned(batch, steps, context.normal(tuple(batch.residual.shape)))
            self._kept, self._uses = (batch, planned), 0
        return self._kept

    def _planned(self, batch: PlanBatch, steps: int, start: Tensor) -> Tensor:
        with torch.no_grad():
            return sample_plans(self._unet, batch, self._batches.context, steps, start)[0]

    def _latents(self, residual: Tensor, first: Tensor) -> Tensor:
        scales, row = self._batches.scales, self._batches.row
        future = first[:, None] + (residual * row(scales.residual_std) + row(scales.residual_mean)) / row(
            scales.latent_std
        )
        return torch.cat([first[:, None], future], dim=1)

    def _worsened(self, planned: Tensor, true: Tensor) -> Tensor:
        context, count = self._batches.context, len(planned)

        def per_plan(values: Tensor) -> Tensor:
            return values[:, None, None, None, None]

        pick = context.uniform(count)
        share = torch.where(pick < 0.25, torch.ones_like(pick), torch.where(pick < 0.5, context.uniform(count), 0.0))
        mixed = per_plan(share) * true + per_plan(1 - share) * planned
        neighbour = torch.roll(mixed, 1 if context.rng.random() < 0.5 else -1, dims=1)
        edge = 0 if context.rng.random() < 0.5 else -1
        neighbour[:, edge] = mixed[:, edge]
        blur = 0.5 * context.uniform(count) * (context.uniform(count) < 0.4)
        mixed = (1 - per_plan(blur)) * mixed + per_plan(blur) * neighbour
        level = 0.3 * context.uniform(count) * (context.uniform(count) < 0.5)
        return mixed + per_plan(level) * context.normal(tuple(mixed.shape))

    @torch.no_grad()
    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return errors on held-out plans at 1, 2 and 4 steps, and the factors that would calibrate the spread."""
        values: dict[str, float] = {}
        for steps in (1, 2, 4):
            suffix = "" if steps == 1 else f"_{steps}_steps"
            values.update({f"{k}{suffix}": v for k, v in self._measure(network, steps).items()})
        return values

    def _measure(self, network: Any, steps: int) -> dict[str, float]:
        context, scales = self._batches.context, self._batches.scales
        position, opening, z_position, z_opening = [], [], [], []
        generator = torch.Generator(context.device).manual_seed(0)
        for at in range(0, len(self._windows), 16):
            windows: list[Window] = self._windows[at : at + 16]
            batch = self._batches.make(windows, plain_words=True, jitter=False)
            start = torch.randn(batch.residual.shape, generator=generator, device=context.device)
            reading = network(self._latents(self._planned(batch, steps, start), batch.first), batch.camera, batch.hand)
            off = reading.position - batch.path[..., :3]
            wide = reading.opening - batch.path[..., 3]
            position.append(off.norm(dim=-1)[:, 1:] * scales.position_std[0] * 1000)
            opening.append(wide.abs()[:, 1:] * scales.opening_std)
            z_position.append((off.square().mean(-1) / reading.position_log_var.exp())[:, 1:])
            z_opening.append((wide.square() / reading.opening_log_var.exp())[:, 1:])
        return {
            "position_median_mm": float(torch.cat(position).median()),
            "position_mean_mm": float(torch.cat(position).mean()),
            "opening_error": float(torch.cat(opening).mean()),
            "position_temperature": float(torch.cat(z_position).mean().sqrt()),
            "opening_temperature": float(torch.cat(z_opening).mean().sqrt()),
        }


def _likelihood(reading: Reading, path: Tensor) -> tuple[Tensor, Tensor]:
    off = (reading.position - path[..., :3]).abs().mean(-1)
    wide = (reading.opening - path[..., 3]).abs()
    # A Laplace likelihood (plus a plain error for the mean's sake) is not led astray by the few plans that are wrong.
    scale = (-reading.position_log_var / 2).exp()
    position = (off * scale + reading.position_log_var / 2).mean() + off.mean()
    scale = (-reading.opening_log_var / 2).exp()
    opening = (wide * scale + reading.opening_log_var / 2).mean() + wide.mean()
    return position, opening
