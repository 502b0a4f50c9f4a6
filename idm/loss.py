"""What the network is punished for: hand position, opening, tool centre in the image, motion to a goal, spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from idm.network import Encoding, InverseDynamicsNet, Motion, Pose

POSITION_UNIT_M = 0.02  # errors below this are punished quadratically, above linearly
OPENING_UNIT = 0.1


@dataclass(frozen=True, slots=True)
class PairTarget:
    """Labels of the pair head: (P, 3), (P, 3), (P,) and (P,)."""

    to_goal_m: Tensor
    next_m: Tensor
    goal_opening: Tensor
    seconds: Tensor


def pose_loss(net: InverseDynamicsNet, encoding: Encoding, pose: Pose, position_m: Tensor, opening: Tensor) -> Tensor:
    """Huber on position and opening, cross-entropy of the tool-centre map, likelihood of the (detached) errors."""
    place, _ = net.project(position_m, encoding.view)
    position = F.smooth_l1_loss(pose.position_m / POSITION_UNIT_M, position_m / POSITION_UNIT_M)
    fingers = F.smooth_l1_loss(pose.opening / OPENING_UNIT, opening / OPENING_UNIT)
    spread = _likelihood(pose.position_m, position_m, pose.log_std_m) + _likelihood(
        pose.opening, opening, pose.log_std_opening
    )
    return position + fingers + 0.1 * _heat_loss(net, encoding, place) + 0.05 * spread


def pair_loss(motion: Motion, target: PairTarget) -> Tensor:
    """Huber on everything the pair head says."""
    return (
        F.smooth_l1_loss(motion.to_goal_m / POSITION_UNIT_M, target.to_goal_m / POSITION_UNIT_M)
        + F.smooth_l1_loss(motion.next_m / POSITION_UNIT_M, target.next_m / POSITION_UNIT_M)
        + F.smooth_l1_loss(motion.goal_opening / OPENING_UNIT, target.goal_opening / OPENING_UNIT)
        + F.smooth_l1_loss(motion.seconds / 0.1, target.seconds / 0.1)
    )


def _likelihood(value: Tensor, truth: Tensor, log_std: Tensor) -> Tensor:
    """Gaussian negative log-likelihood that teaches the spread only, never the mean."""
    error = (value - truth).detach()
    return (0.5 * (error * torch.exp(-log_std)) ** 2 + log_std).mean()


def _heat_loss(net: InverseDynamicsNet, encoding: Encoding, place: Tensor) -> Tensor:
    """Cross-entropy against a Gaussian of one cell around the projected tool centre, where it is in the image."""
    inside = (place.abs() < 1).all(1)
    if not bool(inside.any()):
        return place.sum() * 0
    cell = 8 / net.config.image_size_px
    squared = ((net.grid[None] - place[inside][:, None]) ** 2).sum(-1)
    wanted = torch.softmax(-0.5 * squared / cell**2, 1)
    return -(wanted * encoding.heat[inside]).sum(1).mean()
