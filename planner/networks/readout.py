"""Reads hand positions and gripper opening from planned latents, without decoding a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from planner.networks.layers import Situation, coordinates, soft_argmax


@dataclass(frozen=True)
class Reading:
    """Per frame: position (B, T, 3) and opening (B, T), both normalised, with log-variances (B, T)."""

    position: Tensor
    opening: Tensor
    position_log_var: Tensor
    opening_log_var: Tensor


class LatentReadout(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A small network over single latent frames, then over time.

    With `cameras` above 0 it is told which of them looks and where the hand is measured to be at the plan's start.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, channels: int = 8, width: int = 48, points: int = 16, hidden: int = 128, cameras: int = 0
    ) -> None:
        super().__init__()
        self.situation = Situation(cameras, 2 * hidden) if cameras else None
        self.enter = nn.Conv2d(2 * channels + 2, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.where = nn.Conv2d(width, points, 1)
        self.shrink = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.shrink_more = nn.Conv2d(width, 48, 3, padding=1, stride=2)
        self.frame = nn.Linear(48 * 16 + 2 * points, hidden)
        self.before = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.after = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.head = nn.Linear(hidden, 6)

    def forward(self, latents: Tensor, camera: Tensor | None = None, hand: Tensor | None = None) -> Reading:
        """Read normalised latents (B, T, C, h, w), frame 0 being the observation's; the rest as for `PlanUNet`."""
        b, frames, c, h, w = latents.shape
        first = latents[:, :1].expand(-1, frames, -1, -1, -1)
        x = torch.cat([latents, latents - first], dim=2).view(b * frames, 2 * c, h, w)
        x = F.relu(self.enter(torch.cat([x, coordinates(h, w, x).expand(len(x), -1, -1, -1)], 1)))
        x = F.relu(self.mix(x)) + x
        where = soft_argmax(self.where(x)).flatten(1)
        x = F.relu(self.shrink_more(F.relu(self.shrink(x)))).flatten(1)
        x = self.frame(torch.cat([x, where.to(x.dtype)], 1)).view(b, frames, -1)
        if self.situation is not None and camera is not None and hand is not None:
            scale, shift = self.situation(camera, hand)[:, None].chunk(2, dim=-1)
            x = x * (1 + scale) + shift
        x = F.relu(x).transpose(1, 2)
        x = x + self.after(F.relu(self.before(x)))
        out = self.head(x.transpose(1, 2)).float()
        log_var = out[..., 4:].clamp(-9.0, 3.0)
        return Reading(
            position=out[..., :3],
            opening=out[..., 3],
            position_log_var=log_var[..., 0],
            opening_log_var=log_var[..., 1],
        )
