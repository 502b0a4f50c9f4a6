"""One network for the three policies of a comparison, so that they differ in nothing but what imagination does.

`bc` knows actions only. `cotrained` shares its trunk with a video head while it learns and leaves that head out when
it acts (Fast-WAM, arXiv 2603.16666). `joint` predicts the latents of future frames and reads its actions from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from planner.networks.layers import FilmBlock, silence, soft_argmax
from planner.policies.options import Kind

PATCH_PX = 8
GRID = 16  # cells along each side of a 128 px image


@dataclass(frozen=True)
class PolicyOutput:
    """What a policy says of B states.

    Attributes:
        actions: (B, H, 4): offset of the hand's targets from where it is, in units of the weights' scale; opening.
        video: (B, frames, channels, h, w) normalised change of the latents, or None when it does not imagine.
    """

    actions: Tensor
    video: Tensor | None


class PolicyNetwork(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Image, sentence and measured hand to a chunk of targets, and where the kind wants it to future latents.

    Args:
        kind: what it imagines, see the module.
        horizon: targets of a chunk. frames, channels: of the imagined latents.
        width: channels of the trunk. keypoints: maps by which places in the image become numbers.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        kind: str = "bc",
        horizon: int = 8,
        frames: int = 4,
        channels: int = 8,
        width: int = 32,
        keypoints: int = 16,
        text: int = 384,
        condition: int = 64,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3 * PATCH_PX**2, width, 1)
        self.place = nn.Parameter(torch.zeros(1, width, GRID, GRID))
        self.words = nn.Linear(text, condition)
        self.hand = nn.Sequential(nn.Linear(4, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.trunk = nn.ModuleList([FilmBlock(width, width, condition) for _ in range(2)])
        if kind != "bc":
            self.dream = FilmBlock(width, width, condition)
            self.video = nn.Conv2d(width, frames * channels, 3, padding=1)
            silence(self.video)
        if kind == "joint":
            self.recall = nn.Conv2d(frames * channels, width, 3, padding=1)
        self.attention = nn.Conv2d(width, keypoints, 1)
        self.told_by = nn.Conv2d(width, 8, 1)
        seen = keypoints * (2 + 8) + 2 * condition
        self.head = nn.Sequential(
            nn.Linear(seen, 192), nn.SiLU(), nn.Linear(192, 192), nn.SiLU(), nn.Linear(192, horizon * 4)
        )
        self.kind, self.horizon, self.frames, self.channels = cast(Kind, kind), horizon, frames, channels

    def forward(self, image: Tensor, words: Tensor, hand: Tensor) -> PolicyOutput:
        """Return actions, and the imagined video where this kind has one; a cotrained policy only while it learns.

        Args:
            image: (B, 3, 128, 128) in -1..1.
            words: (B, 384) of the sentence.
            hand: (B, 4) normalised position and opening.
        """
        told = torch.cat([self.words(words), self.hand(hand)], dim=1)
        condition = F.silu(told[:, : told.shape[1] // 2] + told[:, told.shape[1] // 2 :])
        x = self.patches(F.pixel_unshuffle(image, PATCH_PX)) + self.place
        for block in self.trunk:
            x = block(x, condition)
        video = None
        if self.kind == "joint" or (self.kind == "cotrained" and self.training):
            flat = self.video(self.dream(x, condition))
            video = flat.unflatten(1, (self.frames, self.channels))
            if self.kind == "joint":
                x = x + self.recall(flat)
        x = F.silu(x)
        scores = self.attention(x)
        seen = scores.flatten(2).softmax(-1) @ self.told_by(x).flatten(2).transpose(1, 2)
        features = torch.cat([soft_argmax(scores).flatten(1), seen.flatten(1), told], dim=1)
        return PolicyOutput(self.head(features).unflatten(1, (self.horizon, 4)), video)
