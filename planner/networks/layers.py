"""Building blocks shared by the planner's networks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def silence(layer: nn.Module) -> None:
    """Set a layer to zero, so that the block it ends begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ConvBlock(nn.Module):
    """Residual block without normalisation: the small auto-encoder needs none and CPUs pay dearly for it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        silence(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w) of the shape given."""
        change: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + change


class Situation(nn.Module):
    """Which camera looks and where the hand is measured to be, as a share of a condition; nothing at first."""

    def __init__(self, cameras: int, condition: int, hidden: int = 128) -> None:
        super().__init__()
        self.camera = nn.Embedding(cameras, condition)
        self.hand = nn.Sequential(nn.Linear(4, hidden), nn.SiLU(), nn.Linear(hidden, condition))
        silence(self.camera)
        silence(self.hand[-1])

    def forward(self, camera: Tensor, hand: Tensor) -> Tensor:
        """Return (B, condition) of camera numbers (B,) and normalised hand xyz and opening (B, 4)."""
        share: Tensor = self.camera(camera) + self.hand(hand)
        return share


class FilmBlock(nn.Module):
    """Residual block whose middle is scaled and shifted by a condition (FiLM, arXiv 1709.07871)."""

    def __init__(self, inputs: int, outputs: int, condition: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(condition, 2 * outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        silence(self.film)
        silence(self.second)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (B, outputs, h, w); `condition` is (B, condition), already activated."""
        hidden = self.first(F.silu(self.norm(x)))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        change: Tensor = self.second(F.silu(hidden * (1 + scale) + shift))
        kept: Tensor = self.skip(x)
        return change + kept


class Attention(nn.Module):
    """Self-attention over all places of a small map, as a residual."""

    def __init__(self, channels: int, head: int = 32, groups: int = 8) -> None:
        super().__init__()
        self.heads = channels // head
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        silence(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, h, w) of the shape given."""
        b, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).view(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        change: Tensor = self.out(mixed)
        return x + change.transpose(1, 2).reshape(b, c, h, w)


def coordinates(height: int, width: int, like: Tensor) -> Tensor:
    """Return (1, 2, h, w): x and y of the cell centres in -1..1."""
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * (2 / height) - 1
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * (2 / width) - 1
    return torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)])[None]


def soft_argmax(scores: Tensor) -> Tensor:
    """Return (B, K, 2): expected x and y in -1..1 of each of K score maps (B, K, h, w)."""
    b, k, h, w = scores.shape
    share = scores.float().flatten(2).softmax(-1)
    grid = coordinates(h, w, share).view(2, h * w)
    return torch.stack([share @ grid[0], share @ grid[1]], dim=-1).view(b, k, 2)


def time_features(t: Tensor, size: int) -> Tensor:
    """Return (B, size) sinusoids of flow time t in 0..1."""
    half = size // 2
    rates = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(1000.0) / half))
    angle = t.float()[:, None] * 100.0 * rates[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
