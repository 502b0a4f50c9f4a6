"""Scores on episodes never trained on, and one factor per output that makes the stated spread honest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from idm.network import InverseDynamicsNet

TWO_SIGMA = 0.9545


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readings:
    """Raw outputs for N frames: position (N, 3), opening (N,) and their uncalibrated spreads (N,)."""

    position_m: NDArray[np.float64]
    opening: NDArray[np.float64]
    position_std_m: NDArray[np.float64]
    opening_std: NDArray[np.float64]


def read_frames(net: InverseDynamicsNet, frames: NDArray[np.uint8], *, bf16: bool, batch: int = 64) -> Readings:
    """Run the pose head over (N, H, W, 3) uint8 frames; spreads are not yet multiplied by the temperatures."""
    device = next(net.parameters()).device
    rows = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(frames), batch):
            pixels = torch.from_numpy(np.array(frames[start : start + batch])).to(device)
            pose = net.pose(net.encode(pixels.permute(0, 3, 1, 2).float() / 255))
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


def calibrate(
    readings: Readings, position_m: NDArray[np.float32], opening: NDArray[np.float32], episode: NDArray[np.int32]
) -> tuple[float, float, dict[str, float]]:
    """Fit both temperatures on every other episode and score everything else on the remaining ones.

    Returns:
        (position temperature, opening temperature, scores). With a single held-out episode both halves are that one.
    """
    error_m = readings.position_m - position_m
    error_o = readings.opening - opening
    half = np.isin(episode, np.unique(episode)[::2])
    test = ~half if (~half).any() else half
    std_m = readings.position_std_m[:, None]
    factor_m = temperature(error_m[half], std_m[half])
    factor_o = temperature(error_o[half], readings.opening_std[half])
    distance = np.linalg.norm(error_m, axis=1) * 1000
    scores = {
        "position_error_mean_mm": float(distance.mean()),
        "position_error_median_mm": float(np.median(distance)),
        "position_error_p95_mm": float(np.quantile(distance, 0.95)),
        "opening_mae": float(np.abs(error_o).mean()),
        "position_coverage_2sigma": coverage(error_m[test], factor_m * std_m[test]),
        "opening_coverage_2sigma": coverage(error_o[test], factor_o * readings.opening_std[test]),
        "position_temperature": factor_m,
        "opening_temperature": factor_o,
        "held_out_frames": float(len(distance)),
        "held_out_episodes": float(len(np.unique(episode))),
    }
    return factor_m, factor_o, {k: v if math.isfinite(v) else 0.0 for k, v in scores.items()}
