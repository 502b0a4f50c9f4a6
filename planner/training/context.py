"""What all stages of training share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from planner.compute import fast_bfloat16
from planner.training.data import Track


@dataclass(frozen=True)
class TrainingContext:
    """Data, randomness and the machine.

    Attributes:
        tracks: all episodes. rng: of batches and augmentation. generator: of noise on tensors.
        device: where to compute. size_px: of plan frames. frames: future frames of a plan. batch: plans per step.
        start_frame: where windows from an episode's start begin.
    """

    tracks: list[Track]
    rng: np.random.Generator
    generator: torch.Generator
    device: torch.device
    size_px: int
    frames: int
    batch: int
    start_frame: int = 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Return bfloat16 arithmetic where the machine has it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast_bfloat16(self.device))

    def images(self, frames: NDArray[np.uint8]) -> Tensor:
        """Return (B, 3, H, W) in -1..1 of (B, H, W, 3) uint8."""
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2)
        return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    def floats(self, values: NDArray[Any]) -> Tensor:
        """Return a float32 tensor on the device."""
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.device)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Return normal noise."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def uniform(self, count: int) -> Tensor:
        """Return (count,) numbers in 0..1."""
        return torch.rand(count, generator=self.generator, device=self.device)


def psnr_db(error: Tensor, weight: Tensor | None = None) -> float:
    """Return the peak signal-to-noise ratio of squared errors of images in -1..1, where `weight` is not 0."""
    mean = error.mean() if weight is None else (error * weight).sum() / weight.expand_as(error).sum().clamp(min=1)
    return float(10 * torch.log10(4 / mean.clamp(min=1e-10)))


def moving(frames: Tensor, first: Tensor, threshold: float = 0.12) -> Tensor:
    """Return (B, 1, H, W): 1 where frames (-1..1) differ from the first frame, grown by two pixels."""
    differs = ((frames - first).abs().mean(1, keepdim=True) > threshold).float()
    return torch.nn.functional.max_pool2d(differs, 5, stride=1, padding=2)
