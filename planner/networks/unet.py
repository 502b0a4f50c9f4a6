"""The plan generator: a plain 2-D U-Net over 16 future latent frames stacked as channels of one map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from planner.networks.layers import (
    Attention,
    FilmBlock,
    Situation,
    coordinates,
    silence,
    soft_argmax,
    time_features,
)


@dataclass(frozen=True)
class PlanOutput:
    """What the generator says of one batch.

    Attributes:
        residual: (B, frames, C, h, w) normalised clean residual to the first frame's latent.
        sketch: (B, frames, 6) hand path guessed before any frame is drawn: xyz and opening normalised, then u and v
            in -1..1 of the image.
        path: (B, frames, 4) hand xyz and opening, normalised, read from the trunk.
        task: (B, tasks) logits of the task the words mean.
    """

    residual: Tensor
    sketch: Tensor
    path: Tensor
    task: Tensor


class Sketch(nn.Module):
    """Looks at the first frame's pixels with the words in mind and guesses where the hand will go.

    Small goals are a few pixels: points found by a soft arg-max keep their place to a fraction of a pixel.
    """

    def __init__(self, condition: int, frames: int, width: int, points: int) -> None:
        super().__init__()
        self.frames = frames
        self.unshuffle = nn.PixelUnshuffle(4)
        self.fine = nn.Conv2d(48 + 2, width, 3, padding=1)
        self.film = nn.Linear(condition, 2 * width)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.points = nn.Conv2d(width, points, 1)
        self.down = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.coarse = nn.Conv2d(width, width // 2, 3, padding=1, stride=4)
        self.hidden = nn.Sequential(
            nn.Linear(points * 3 + width // 2 * 16 + condition, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU()
        )
        self.path = nn.Linear(512, frames * 6)
        self.to_condition = nn.Linear(512, condition)
        silence(self.film)

    def forward(self, image: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features (B, width, 16, 16), the path (B, frames, 6) and its share of the condition."""
        x = self.unshuffle(image)
        x = self.fine(torch.cat([x, coordinates(x.shape[2], x.shape[3], x).expand(len(x), -1, -1, -1)], 1))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        x = F.silu(x * (1 + scale) + shift)
        x = F.silu(self.mix(x)) + x
        scores = self.points(x)
        where = soft_argmax(scores)
        share = scores.float().flatten(2)
        sure = (share.amax(-1) - share.logsumexp(-1)).exp()
        features = F.silu(self.down(x))
        coarse = F.silu(self.coarse(features)).flatten(1)
        hidden = self.hidden(torch.cat([where.flatten(1), sure, coarse, condition], dim=1).to(coarse.dtype))
        return features, self.path(hidden).view(-1, self.frames, 6).float(), self.to_condition(hidden)


def draw_path(path: Tensor, size: int) -> Tensor:
    """Return (B, 3 * frames, size, size): a soft spot at the hand in each frame, plain, times opening, times height."""
    grid = coordinates(size, size, path)
    off = grid[:, None] - path[:, :, 4:6, None, None]
    spot = torch.exp(off.square().sum(2) * (-0.5 * (size / 2) ** 2))
    return torch.cat([spot, spot * path[:, :, 3, None, None], spot * path[:, :, 2, None, None]], dim=1)


class PlanUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """x-prediction rectified flow over a whole plan in one pass; at t = 1 it is a plain regressor.

    Frames as channels is known from MCVD (arXiv 2205.09853). At t = 1 the noisy input holds no information and is
    not shown, so that one step costs no capacity and does not depend on the noise. With `cameras` above 0 it is also
    told which of them looks and where the hand is measured to be; with `strides`, how much of the task a plan covers.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        frames: int = 16,
        channels: int = 8,
        grid: int = 16,
        width: int = 80,
        multipliers: tuple[int, ...] = (1, 2, 4),
        text: int = 384,
        condition: int = 256,
        stem: int = 64,
        points: int = 32,
        tasks: int = 11,
        cameras: int = 0,
        strides: bool = False,
    ) -> None:
        super().__init__()
        widths = [width * m for m in multipliers]
        self.words = nn.Sequential(
            nn.LayerNorm(text, elementwise_affine=False),
            nn.Linear(text, condition),
            nn.SiLU(),
            nn.Linear(condition, condition),
        )
        self.task = nn.Linear(condition, tasks)
        self.situation = Situation(cameras, condition) if cameras else None
        self.stride = nn.Linear(1, condition, bias=False) if strides else None
        self.clock = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.sketch = Sketch(condition, frames, stem, points)
        self.enter = nn.Conv2d((frames + 1) * channels + 2 + stem + 3 * frames, width, 3, padding=1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for level, size in enumerate(widths):
            self.down.append(FilmBlock(size, size, condition))
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv2d(size, widths[level + 1], 3, padding=1, stride=2))
        self.down_attention = nn.ModuleList([nn.Identity() if i == 0 else Attention(s) for i, s in enumerate(widths)])
        self.middle = FilmBlock(widths[-1], widths[-1], condition)
        self.up = nn.ModuleList()
        self.up_attention = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level in reversed(range(len(widths))):
            size = widths[level]
            self.up.append(nn.ModuleList([FilmBlock(2 * size, size, condition), FilmBlock(size, size, condition)]))
            self.up_attention.append(nn.Identity() if level == 0 else Attention(size))
            if level:
                self.grow.append(nn.Conv2d(size, widths[level - 1], 3, padding=1))
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, frames * channels, 3, padding=1))
        self.path = nn.Sequential(nn.Linear(widths[-1] * 16 // 4, 256), nn.SiLU(), nn.Linear(256, frames * 4))
        self.path_in = nn.Conv2d(widths[-1], widths[-1] // 4, 1)
        silence(self.leave[-1])
        silence(self.path[-1])
        if self.stride is not None:
            silence(self.stride)

    def look(
        self,
        image: Tensor,
        text: Tensor,
        camera: Tensor | None = None,
        hand: Tensor | None = None,
        stride: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
        """Return what the first frame tells before anything is drawn, a fifth of the whole computation.

        Returns:
            (B, condition) of words and situation; what `Sketch` returns; (B, tasks) logits of the task.
        """
        words = self.words(text)
        known = words
        if self.situation is not None and camera is not None and hand is not None:
            known = words + self.situation(camera, hand)
        if self.stride is not None and stride is not None:
            known = known + self.stride(stride[:, None].to(words.dtype))
        return known, self.sketch(image, F.silu(known)), self.task(F.silu(words)).float()

    def forward(
        self,
        noisy: Tensor,
        t: Tensor,
        first: Tensor,
        image: Tensor,
        text: Tensor,
        camera: Tensor | None = None,
        hand: Tensor | None = None,
        stride: Tensor | None = None,
    ) -> PlanOutput:
        """Predict the clean plan.

        Args:
            noisy: (B, frames, C, h, w) normalised residuals mixed with noise.
            t: (B,) flow time, 1 = noise, 0 = data.
            first: (B, C, h, w) normalised latent of the first frame.
            image: (B, 3, H, W) first frame's pixels in -1..1.
            text: (B, text) sentence embedding.
            camera: (B,) number of the camera; networks that were made for several need it and `hand`.
            hand: (B, 4) measured hand xyz and opening, normalised.
            stride: (B,) see `planner.strides.fineness`; without it a plan covers the whole task.
        """
        b, frames, channels, h, w = noisy.shape
        known, (features, sketch, seen), task = self.look(image, text, camera, hand, stride)
        condition = known + self.clock(time_features(t, 64).to(known.dtype))
        condition = F.silu(condition + seen)
        shown = ((1 - t) * 4).clamp(max=1.0).to(noisy.dtype)[:, None, None, None]
        spots = draw_path(sketch.detach(), h).to(first.dtype)
        x = torch.cat(
            [
                noisy.flatten(1, 2) * shown,
                first,
                coordinates(h, w, first).expand(b, -1, -1, -1),
                features.to(first.dtype),
                spots,
            ],
            1,
        )
        x = self.enter(x)
        kept = []
        for level, block in enumerate(self.down):
            x = self.down_attention[level](block(x, condition))
            kept.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        x = self.middle(x, condition)
        path = self.path(self.path_in(x).flatten(1)).view(b, frames, 4).float() + sketch[..., :4].detach()
        for index, pair in enumerate(self.up):
            blocks: Any = pair
            x = blocks[0](torch.cat([x, kept[len(kept) - 1 - index]], 1), condition)
            x = blocks[1](self.up_attention[index](x), condition)
            if index < len(self.grow):
                x = self.grow[index](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        residual = self.leave(x).view(b, frames, channels, h, w)
        return PlanOutput(residual=residual.float(), sketch=sketch, path=path, task=task)
