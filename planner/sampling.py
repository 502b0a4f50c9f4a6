"""Rectified flow with x-prediction: from noise to a plan in a handful of steps.

Convention of diffusers: t = 1 is noise, t = 0 data, x_t = (1 - t) x_0 + t e. Our own loop, because stock schedulers
given a small number of steps waste the last one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def sigmas(steps: int) -> NDArray[np.float64]:
    """Return the (steps,) noise levels at which the network is asked, from 1 down to 1 / steps."""
    return np.linspace(1.0, 1.0 / steps, steps)


def noise(shape: tuple[int, ...], samples: int, seed: int) -> NDArray[np.float32]:
    """Return (samples, *shape) normal noise; sample k is the same however many are drawn."""
    draws = [np.random.default_rng([seed & 0xFFFFFFFF, k]).standard_normal(shape, np.float32) for k in range(samples)]
    return np.stack(draws)


def integrate(
    predict: Callable[[Tensor, float], Tensor], start: Tensor, levels: NDArray[np.float64], stop: float = 0.0
) -> Tensor:
    """Follow the straight paths from noise `start` to data, or as far as the noise level `stop`.

    Args:
        predict: (x_t, t) -> estimate of the clean x_0.
        start: noise.
        levels: decreasing noise levels, the first 1; the last step goes to `stop`, levels at or below it fall away.
        stop: 0 for data; at 1 nothing happens.
    """
    x = start
    passed = [*levels[levels > stop], stop]
    for here, there in itertools.pairwise(passed):
        clean = predict(x, float(here))
        x = clean + (x - clean) * (float(there) / float(here))
    return x
