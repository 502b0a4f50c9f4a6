"""Stage 1: the auto-encoder, told to care about what moves and about the hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from planner.networks.autoencoder import FrameAutoencoder, HandReader
from planner.networks.layers import coordinates
from planner.training.context import TrainingContext, moving, psnr_db

MOVING_WEIGHT, HAND_WEIGHT = 5.0, 10.0
HAND_RADIUS = 12 / 64  # of the image's half width: a disc of 24 px at 128 px
LATENT_NOISE = 0.08  # in standard deviations: planned latents are never exact
HELD_OUT_FRAMES = 192


class AutoencoderStage:
    """Loss and measurement of the auto-encoder."""

    def __init__(self, context: TrainingContext, width: int, batch: int) -> None:
        self._context, self._batch = context, batch
        network: Any = nn.ModuleDict({"autoencoder": FrameAutoencoder(width=width), "reader": HandReader()})
        self.network: nn.ModuleDict = network.to(device=context.device, memory_format=torch.channels_last)
        self._training = [i for i, t in enumerate(context.tracks) if not t.held_out]
        self._held_out = [i for i, t in enumerate(context.tracks) if t.held_out] or self._training

    def loss(self) -> tuple[Tensor, Mapping[str, float]]:
        """Return the loss of a random batch of frames."""
        frames, first, uv, opening = self._draw(self._batch, self._training, jitter=True)
        autoencoder: Any = self.network["autoencoder"]
        reader: Any = self.network["reader"]
        with self._context.autocast():
            latents = autoencoder.encode(frames)
            spread = latents.detach().float().std()
            shaken = latents + self._context.normal(tuple(latents.shape)).to(latents.dtype) * (LATENT_NOISE * spread)
            decoded = autoencoder.decode(shaken, first)
            seen_uv, seen_opening, features = reader(frames)
            reader.requires_grad_(False)
            again_uv, again_opening, again = reader(decoded)
            reader.requires_grad_(True)
        weight = self._weight(frames, first, uv)
        pixels = _pixel_loss(decoded.float(), frames, weight)
        known = torch.isfinite(uv).all(1)
        hand = _hand_loss(seen_uv, seen_opening, uv, opening, known)
        same = (
            2.0 * (again_uv - seen_uv.detach()).abs().mean()
            + (again_opening - seen_opening.detach()).abs().mean()
            + 0.2 * (again.float() - features.detach().float()).abs().mean()
        )
        small = 1e-4 * latents.float().square().mean()
        return pixels + 0.5 * hand + 0.5 * same + small, {
            "pixels": float(pixels.detach()),
            "hand": float(hand.detach()),
            "hand_kept": float(same.detach()),
        }

    @torch.no_grad()
    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Return PSNR and how far the hand moves through the auto-encoder, on held-out episodes."""
        parts: Any = network
        rng = np.random.default_rng(0)
        frames, first, uv, _ = self._draw(HELD_OUT_FRAMES, self._held_out, jitter=False, rng=rng)
        errors, masks, shift, read, opening_shift = [], [], [], [], []
        for at in range(0, len(frames), 32):
            part, ref = frames[at : at + 32], first[at : at + 32]
            with self._context.autocast():
                decoded = parts["autoencoder"](part, ref).float()
                true_uv, true_opening, _ = parts["reader"](part)
                again_uv, again_opening, _ = parts["reader"](decoded)
            errors.append((decoded - part).square())
            masks.append(moving(part, ref))
            half = self._context.size_px / 2
            shift.append((again_uv - true_uv).norm(dim=1) * half)
            read.append((true_uv - uv[at : at + 32]).norm(dim=1) * half)
            opening_shift.append((again_opening - true_opening).abs())
        error, mask = torch.cat(errors), torch.cat(masks)
        return {
            "psnr_db": psnr_db(error),
            "motion_psnr_db": psnr_db(error, mask),
            "hand_shift_px": float(torch.cat(shift).mean()),
            "hand_read_px": float(torch.cat(read).nan_to_num().mean()),
            "opening_shift": float(torch.cat(opening_shift).mean()),
        }

    def _draw(
        self, count: int, tracks: list[int], *, jitter: bool, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = rng or self._context.rng
        frames, first, uv, opening = [], [], [], []
        for _ in range(count):
            track = self._context.tracks[tracks[int(rng.integers(len(tracks)))]]
            at = int(rng.integers(len(track.frames)))
            start = 0 if rng.random() < 0.65 else int(rng.integers(at + 1))
            frames.append(track.frames[at])
            first.append(track.frames[start])
            uv.append(track.uv[at])
            opening.append(track.opening[at])
        images, ref = self._context.images(np.stack(frames)), self._context.images(np.stack(first))
        if jitter:
            gain = 1 + 0.1 * self._context.normal((count, 3, 1, 1)).clamp(-2, 2)
            lift = 0.05 * self._context.normal((count, 3, 1, 1)).clamp(-2, 2)
            images, ref = ((x * gain + lift).clamp(-1, 1) for x in (images, ref))
        return (
            images.contiguous(memory_format=torch.channels_last),
            ref.contiguous(memory_format=torch.channels_last),
            self._context.floats(np.stack(uv)),
            self._context.floats(np.array(opening)),
        )

    def _weight(self, frames: Tensor, first: Tensor, uv: Tensor) -> Tensor:
        weight = 1 + (MOVING_WEIGHT - 1) * moving(frames, first)
        grid = coordinates(frames.shape[2], frames.shape[3], frames)
        near = ((grid - uv[:, :, None, None]).square().sum(1, keepdim=True) < HAND_RADIUS**2).float()
        return torch.maximum(weight, HAND_WEIGHT * near)


def _pixel_loss(decoded: Tensor, frames: Tensor, weight: Tensor) -> Tensor:
    error = decoded - frames
    per_pixel = error.abs() + error.square()
    across = (error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]
    total = weight.mean()
    return ((per_pixel * weight).mean() + 0.5 * (across.mean() + down.mean())) / total


def _hand_loss(seen_uv: Tensor, seen_opening: Tensor, uv: Tensor, opening: Tensor, known: Tensor) -> Tensor:
    inside = known & (uv.nan_to_num(2.0).abs().amax(1) < 1)
    share = inside.float()
    where = ((seen_uv - uv.nan_to_num()).abs().sum(1) * share).sum() / share.sum().clamp(min=1)
    off = F.smooth_l1_loss(seen_opening, opening.nan_to_num(), beta=0.1, reduction="none")
    return where + (off * share).sum() / share.sum().clamp(min=1)
