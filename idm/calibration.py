"""Scores on episodes never trained on, and one factor per output that makes the stated spread honest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from idm.frames import ExtraFrames
from idm.network import InverseDynamicsNet

TWO_SIGMA = 0.9545


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readings:
    """Raw outputs for N frames: position (N, 3), opening (N,) and their uncalibrated spreads (N,)."""

    position_m: NDArray[np.float64]
    opening: NDArray[np.float64]
    position_std_m: NDArray[np.float64]
    opening_std: NDArray[np.float64]


def read_frames(
    net: InverseDynamicsNet, frames: NDArray[np.uint8], view: NDArray[np.int64], *, bf16: bool, batch: int = 64
) -> Readings:
    """Run the pose head over (N, H, W, 3) uint8 frames seen through views (N,); spreads are not yet calibrated."""
    device = next(net.parameters()).device
    rows = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(frames), batch):
            pixels = torch.from_numpy(np.array(frames[start : start + batch])).to(device)
            through = torch.from_numpy(np.array(view[start : start + batch])).to(device)
            pose = net.pose(net.encode(pixels.permute(0, 3, 1, 2).float() / 255, through))
            spread = pose.log_std_m.exp().square().mean(1).sqrt()
            columns = [pose.position_m, pose.opening[:, None], spread[:, None], pose.log_std_opening.exp()[:, None]]
            rows.append(torch.cat(columns, 1).double().cpu().numpy())
    table = np.concatenate(rows)
    return Readings(
        position_m=table[:, :3],
        opening=np.clip(table[:, 3], 0, 1),
        position_std_m=table[:, 4],
        opening_std=table[:, 5],
    )


def temperature(error: NDArray[np.float64], std: NDArray[np.float64]) -> float:
    """Return the factor on `std` at which 95.45 % of |error| lie within two of them."""
    ratio = np.sort(np.abs(error / std).ravel())
    return max(float(np.quantile(ratio, TWO_SIGMA)) / 2, 1e-3)


def coverage(error: NDArray[np.float64], std: NDArray[np.float64]) -> float:
    """Share of |error| within two standard deviations; 0.9545 is ideal."""
    return float((np.abs(error) <= 2 * std).mean())


def calibrate(sets: Mapping[str, tuple[Readings, ExtraFrames]]) -> tuple[float, float, dict[str, float]]:
    """Fit both temperatures on every other episode of all sets together and score them on the remaining ones.

    Args:
        sets: prefix of the scores' names -> readings of held-out frames and their labels.

    Returns:
        (position temperature, opening temperature, scores). With a single held-out episode both halves are that one.
    """
    halves = {name: np.isin(truth.episode, np.unique(truth.episode)[::2]) for name, (_, truth) in sets.items()}
    errors = {name: (r.position_m - t.position_m, r.opening - t.opening) for name, (r, t) in sets.items()}
    spreads = {name: (np.repeat(r.position_std_m[:, None], 3, 1), r.opening_std) for name, (r, _) in sets.items()}
    factors = [
        temperature(
            np.concatenate([errors[name][i][half].ravel() for name, half in halves.items()]),
            np.concatenate([spreads[name][i][half].ravel() for name, half in halves.items()]),
        )
        for i in (0, 1)
    ]
    scores: dict[str, float] = {"position_temperature": factors[0], "opening_temperature": factors[1]}
    for name, half in halves.items():
        test = ~half if (~half).any() else half
        distance = np.linalg.norm(errors[name][0], axis=1) * 1000
        scores |= {
            f"{name}position_error_mean_mm": float(distance.mean()),
            f"{name}position_error_median_mm": float(np.median(distance)),
            f"{name}position_error_p95_mm": float(np.quantile(distance, 0.95)),
            f"{name}opening_mae": float(np.abs(errors[name][1]).mean()),
            f"{name}position_coverage_2sigma": coverage(errors[name][0][test], factors[0] * spreads[name][0][test]),
            f"{name}opening_coverage_2sigma": coverage(errors[name][1][test], factors[1] * spreads[name][1][test]),
            f"{name}held_out_frames": float(len(distance)),
            f"{name}held_out_episodes": float(len(np.unique(sets[name][1].episode))),
        }
    return factors[0], factors[1], scores
