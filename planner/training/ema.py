"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """Keeps a slowly following copy of a network.

    Args:
        network: what to follow.
        decay: how much of the copy stays at each step, reached gradually.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._followed = network
        self._decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Follow by one step."""
        self.steps += 1
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        mine = [p.detach() for p in self.network.parameters()]
        torch._foreach_lerp_(mine, [p.detach() for p in self._followed.parameters()], 1 - decay)
