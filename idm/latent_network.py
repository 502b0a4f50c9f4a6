"""Inverse dynamics on a planner's latents or features: where the hand is in every plan frame, and how open it is.

Made for whatever form a planner gives: L maps of C channels, be they one per plan frame, one in four, or a single one
that holds the whole plan. Soft arg-max points (as in `idm.network`) say where things are; layers over time spread the
L maps over the plan's frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

FORMAT_VERSION = 1
LOG_VARIANCE_RANGE = (-9.0, 3.0)
OVERVIEW = 4  # side of the coarse map beside the points
GRID = 8  # cells along the shorter side of a map, about: larger maps are cut into patches


class LatentReading(NamedTuple):
    """Normalised, float32: `position` (B, T, 3), `opening` (B, T), and the logs of their variances (B, T)."""

    position: Tensor
    opening: Tensor
    position_log_var: Tensor
    opening_log_var: Tensor


class LatentInverseDynamicsNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Some 0.2 M parameters for the embedded planner's latents.

    Args:
        space: name of the latent space, as the planner gives it; latents of another name are refused.
        shape: (L, C, h, w) of the latents of a plan.
        frames: T, frames of a plan, the observation included.
        camera, image_size_px, K, T_base_cam: the view that was planned through, K of the plan's pixels.
        position_mean_m, position_std_m, opening_mean, opening_std: by which hand and readings are normalised.
        width, hidden: of the maps and of the layers over time.
        temperature_position, temperature_opening: factors that make the spreads honest (see `idm.calibration`).
        planner: name and options of the planner it learnt from, for the record.
        action_space: kind, frame and rate of the actions these readings may become.
        reads: tells these weights from those that read frames.
        format_version: of this layout of weights.
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        space: str = "",
        shape: tuple[int, int, int, int] = (17, 8, 16, 16),
        frames: int = 17,
        camera: str = "corner",
        image_size_px: int = 128,
        K: Any = None,
        T_base_cam: Any = None,
        position_mean_m: tuple[float, ...] = (0.0, 0.6, 0.2),
        position_std_m: tuple[float, ...] = (0.1, 0.1, 0.1),
        opening_mean: float = 0.5,
        opening_std: float = 0.3,
        width: int = 40,
        hidden: int = 112,
        temperature_position: float = 1.0,
        temperature_opening: float = 1.0,
        planner: Mapping[str, Any] | None = None,
        action_space: Mapping[str, Any] | None = None,
        reads: str = "latents",
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__()
        length, channels, height, wide = shape
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        points = 16 if length > 1 else 3 * frames  # a map that holds the whole plan shows the hand many times
        patch = max(1, min(height, wide) // GRID)
        self.enter = nn.Conv2d(channels * (2 if length > 1 else 1), width, patch, stride=patch)
        self.mix = nn.Conv2d(width + 2, width, 3, padding=1)
        self.more = nn.Conv2d(width, width, 3, padding=1)
        self.points = nn.Conv2d(width, points, 1)
        self.coarse = nn.Conv2d(width, 16, 1)
        self.token = nn.Linear(2 * points + width + 16 * OVERVIEW**2, hidden)
        self.whole = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, frames * hidden))
        self.hand = nn.Linear(4, 2 * hidden)
        self.before = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.after = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.head = nn.Linear(hidden, 6)
        y, x = torch.meshgrid(_centres(height // patch), _centres(wide // patch), indexing="ij")
        self.register_buffer("grid", torch.stack([x, y]), persistent=False)

    def forward(self, latents: Tensor, hand: Tensor) -> LatentReading:
        """Read latents (B, L, C, h, w); `hand` (B, 4) is the measured xyz and opening, normalised."""
        b, length = latents.shape[:2]
        x = (latents.float() - self.mean[:, None, None]) / self.std[:, None, None]
        if length > 1:
            x = torch.cat([x, x - x[:, :1]], 2)
        tokens = self._tokens(x.flatten(0, 1)).view(b, length, -1)
        frames = self.config.frames
        over_time = tokens.transpose(1, 2)
        if length != frames:
            over_time = F.interpolate(over_time, size=frames, mode="linear", align_corners=True)
        x = over_time + self.whole(tokens.mean(1)).view(b, frames, -1).transpose(1, 2)
        scale, shift = self.hand(hand)[:, :, None].chunk(2, dim=1)
        x = F.relu(x * (1 + scale) + shift)
        x = x + self.after(F.relu(self.before(x)))
        out = self.head(F.relu(x).transpose(1, 2))
        log_var = out[..., 4:].clamp(*LOG_VARIANCE_RANGE)
        return LatentReading(out[..., :3], out[..., 3], log_var[..., 0], log_var[..., 1])

    def _tokens(self, maps: Tensor) -> Tensor:
        """Return (N, hidden) of N maps (N, C, h, w)."""
        x = F.relu(self.enter(maps))
        x = x + F.relu(self.mix(torch.cat([x, self.grid.expand(len(x), -1, -1, -1)], 1)))
        x = x + F.relu(self.more(x))
        share = self.points(x).flatten(2).softmax(-1)
        places = share @ self.grid.flatten(1).T
        seen = (share[:, :1] @ x.flatten(2).transpose(1, 2))[:, 0]
        overview = F.adaptive_avg_pool2d(F.relu(self.coarse(x)), OVERVIEW)
        token: Tensor = self.token(torch.cat([places.flatten(1), seen, overview.flatten(1)], 1))
        return token


def _centres(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count * 2 - 1
