"""Makes recorded frames look as a generator might have drawn them, so that generated pixels do not throw the reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

GROUPS = 4  # samples of a batch share a blur, a scale and a shift by group; cheaper than one each
CLEAN_SHARE = 0.2


def spoil(images: Tensor, backgrounds: Tensor, rng: np.random.Generator, *, shift_px: int = 2) -> tuple[Tensor, Tensor]:
    """Blur, rescale, compress, recolour, blend and shift a batch; about a fifth of it stays as it is.

    Args:
        images: (B, 3, H, W) float in 0..1.
        backgrounds: (B, 3, H, W) other first frames, for a decoder-like blend.
        rng: source of all randomness.
        shift_px: largest shift; the caller moves its labels by what is returned.

    Returns:
        The spoiled images and (B, 2) shifts in image units (-1..1 across the image), right and down.
    """
    order = np.array_split(rng.permutation(len(images)), GROUPS)
    result, shifts = torch.empty_like(images), torch.zeros(len(images), 2)
    for members in order:
        if not len(members):
            continue
        picture = images[members]
        if rng.random() > CLEAN_SHARE:
            picture = _blend(picture, backgrounds[members], rng)
            picture = _soften(picture, rng)
            picture = _recolour(picture, rng)
        picture, moved = _shift(picture, rng, shift_px)
        result[members] = picture
        shifts[members] = moved
    return result, shifts


def _blend(images: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Mix with other frames through a smooth mask, as a decoder with a blend mask does when it is unsure."""
    count = len(images)
    coarse = torch.from_numpy(rng.random((count, 1, 4, 4), dtype=np.float32))
    strength = torch.from_numpy((rng.random((count, 1, 1, 1)) ** 2 * 0.45).astype(np.float32))
    mask = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False) * strength
    return images + (other - images) * mask


def _soften(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Gaussian blur up to 1.5 px, or half resolution, or compression."""
    choice = rng.random()
    if choice < 0.55:
        return _blur(images, float(rng.uniform(0.2, 1.5)))
    if choice < 0.75:
        size = images.shape[-1]
        small = F.interpolate(images, size=int(size * rng.uniform(0.45, 0.8)), mode="area")
        return F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    if choice < 0.9:
        return _compress(images, int(rng.integers(25, 80)))
    return images


def _blur(images: Tensor, sigma: float) -> Tensor:
    radius = max(1, round(2.5 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).float() / sigma) ** 2)
    line = (line / line.sum()).repeat(3, 1, 1, 1)
    padded = F.pad(images, [radius] * 4, mode="replicate")
    across: Tensor = F.conv2d(padded, line, groups=3)
    return F.conv2d(across, line.transpose(2, 3), groups=3)


def _compress(images: Tensor, quality: int) -> Tensor:
    import cv2

    pixels = (images.permute(0, 2, 3, 1) * 255).clamp(0, 255).byte().numpy()
    result: list[NDArray[Any]] = []
    for picture in pixels:
        _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        result.append(np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR)))
    return torch.from_numpy(np.stack(result)).permute(0, 3, 1, 2).float() / 255


def _recolour(images: Tensor, rng: np.random.Generator) -> Tensor:
    count = len(images)

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32))

    images = (images - 0.5) * draw(0.8, 1.2) * draw(0.92, 1.08, 3) + 0.5 + draw(-0.1, 0.1)
    seed = int(rng.integers(2**31))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + noise * draw(0.0, 0.04)).clamp(0, 1)


def _shift(images: Tensor, rng: np.random.Generator, limit_px: int) -> tuple[Tensor, Tensor]:
    """Move the whole picture by whole pixels, repeating its border."""
    right, down = (int(v) for v in rng.integers(-limit_px, limit_px + 1, 2))
    height, width = images.shape[-2:]
    padded = F.pad(images, [limit_px] * 4, mode="replicate")
    top, left = limit_px - down, limit_px - right
    moved = padded[..., top : top + height, left : left + width]
    return moved, torch.tensor([2 * right / width, 2 * down / height])
