"""All frames encoded once, and the scales by which latents and targets are normalised."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from planner.networks.autoencoder import FrameAutoencoder
from planner.training.context import TrainingContext
from planner.training.data import Window, WindowSampler, batches
from planner.weights import Scales


class LatentCache:
    """Raw latents of the demonstrations, (N, C, h, w) float16 per track; a track is encoded when first asked for."""

    def __init__(self, context: TrainingContext, autoencoder: FrameAutoencoder) -> None:
        self._context, self._autoencoder = context, autoencoder
        self._known: dict[int, Tensor] = {}

    def raw(self, window: Window) -> Tensor:
        """Return (frames + 1, C, h, w) float32 of a window."""
        if window.track not in self._known:
            self._known[window.track] = self._encoded(window.track)
        return self._known[window.track][torch.from_numpy(window.indices)].float()

    @torch.no_grad()
    def _encoded(self, track: int) -> Tensor:
        frames, context = self._context.tracks[track].frames, self._context
        rows = []
        for part in batches(len(frames), 64):
            with context.autocast():
                rows.append(self._autoencoder.encode(context.images(frames[part])).to("cpu", torch.float16))
        return torch.cat(rows)


def measure_scales(context: TrainingContext, cache: LatentCache, sampler: WindowSampler) -> Scales:
    """Return means and deviations over random training windows; one scale for all three axes of positions.

    Windows of videos count for latents only.
    """
    windows = sampler.draw(256)
    raw = torch.stack([cache.raw(w) for w in windows])
    residual = raw[:, 1:] - raw[:, :1]
    tracks = context.tracks
    known = [w for w in windows if tracks[w.track].labelled]
    position = np.concatenate([tracks[w.track].position_m[w.indices] for w in known])
    opening = np.concatenate([tracks[w.track].opening[w.indices] for w in known])
    spread = float(position.std(axis=0).mean())

    def row(values: Tensor) -> tuple[float, ...]:
        return tuple(float(v) for v in values)

    return Scales(
        latent_mean=row(raw.mean(dim=(0, 1, 3, 4))),
        latent_std=row(raw.std(dim=(0, 1, 3, 4)).clamp(min=1e-4)),
        residual_mean=row(residual.mean(dim=(0, 1, 3, 4))),
        residual_std=row(residual.std(dim=(0, 1, 3, 4)).clamp(min=1e-4)),
        position_mean=tuple(float(v) for v in position.mean(axis=0)),
        position_std=(max(spread, 1e-3),) * 3,
        opening_mean=float(opening.mean()),
        opening_std=max(float(opening.std()), 0.05),
    )
