"""Auto-encoder of single frames whose decoder also sees the plan's first frame.

Whatever does not move is copied from the first frame through a blend mask, so that eight numbers per 8x8 cell are
enough for what does. All convolutions run at 32x32 and 16x16: an order of magnitude cheaper on a CPU than a stock VAE.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from planner.networks.layers import ConvBlock, soft_argmax

LATENT_SPACE = "cascade-ae-1"


class FrameAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """f8 auto-encoder: (B, 3, H, W) in -1..1 to (B, channels, H/8, W/8) and back, given the first frame."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, channels: int = 8, width: int = 64) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, width, 3, padding=1),
            ConvBlock(width),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            ConvBlock(width),
            ConvBlock(width),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        self.reference = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1), ConvBlock(width), nn.ReLU()
        )
        self.reference_down = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.coarse = nn.Sequential(ConvBlock(width), ConvBlock(width))
        self.grow = nn.Conv2d(width, width, 3, padding=1)
        self.fine = nn.Sequential(ConvBlock(width), ConvBlock(width), nn.ReLU())
        self.leave = nn.Conv2d(width, 64, 3, padding=1)

    def encode(self, frames: Tensor) -> Tensor:
        """Return latents (B, channels, H/8, W/8) of frames (B, 3, H, W) in -1..1."""
        latents: Tensor = self.encoder(frames)
        return latents

    def reference_features(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the decoder needs of first frames (B, 3, H, W), computed once per plan."""
        fine = self.reference(first)
        return fine, self.reference_down(fine)

    def decode(self, latents: Tensor, first: Tensor, features: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return frames (B, 3, H, W) in -1..1 of latents, blended over their first frame.

        `first` and `features` may hold one plan's first frame for all B latents (batch size 1).
        """
        fine, coarse = self.reference_features(first) if features is None else features
        x = self.coarse(self.enter(latents) + coarse)
        x = F.interpolate(self.grow(x), scale_factor=2.0, mode="nearest")
        x = F.pixel_shuffle(self.leave(self.fine(x + fine)), 4)
        mask = torch.sigmoid(x[:, 3:4])
        return mask * x[:, :3] + (1 - mask) * first

    def forward(self, frames: Tensor, first: Tensor) -> Tensor:
        """Return the frames after encoding and decoding."""
        return self.decode(self.encode(frames), first)


class HandReader(nn.Module):
    """Reads the hand's pixel and opening in a frame; only the auto-encoder's training uses it.

    What it reads, and its features on the way, must be the same in a decoded frame as in the true one: pixels alone
    let a few millimetres of hand and half a gripper go for nothing.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.coarse = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.context = nn.Conv2d(width, width, 3, padding=1)
        self.scores = nn.Conv2d(2 * width, 1, 1)
        self.opening = nn.Sequential(nn.Linear(2 * width, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return uv (B, 2) in -1..1, opening (B,), features (B, width, H/4, W/4)."""
        fine = self.fine(frames)
        context = F.relu(self.context(F.relu(self.coarse(F.relu(fine)))))
        both = F.relu(torch.cat([fine, F.interpolate(context, scale_factor=2.0, mode="nearest")], 1))
        scores = self.scores(both)
        uv = soft_argmax(scores)[:, 0]
        share = scores.float().flatten(2).softmax(-1)
        at_hand = (both.float().flatten(2) * share).sum(-1)
        return uv, self.opening(at_hand.to(both.dtype))[:, 0].float(), fine
