"""Spoiled frames keep their size and range, and report their shift truly."""

import numpy as np
import torch

from idm.augmentation import _shift, spoil


def test_spoiled_images_stay_images() -> None:
    rng = np.random.default_rng(0)
    images = torch.rand(16, 3, 128, 128)
    for _ in range(10):
        result, moved = spoil(images, images.flip(0), rng)

        assert result.shape == images.shape
        assert float(result.min()) >= -1e-6
        assert float(result.max()) <= 1 + 1e-6
        assert moved.shape == (16, 2)
        assert float(moved.abs().max()) <= 2 * 2 / 128 + 1e-6


def test_the_reported_shift_is_the_shift() -> None:
    rng = np.random.default_rng(3)
    images = torch.zeros(1, 3, 128, 128)
    images[..., 60, 40] = 1
    for _ in range(20):
        result, moved = _shift(images, rng, 2)
        row, column = np.unravel_index(int(result[0, 0].argmax()), (128, 128))

        assert (column - 40, row - 60) == (round(float(moved[0]) * 64), round(float(moved[1]) * 64))
