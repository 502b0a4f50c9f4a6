"""How far away a held object is, from how much the image of the hand that holds it has grown or shrunk.

The hand does not turn while it carries, so that its image only shifts and scales. Points around it are followed from
the frame in which it closes; those that go with the hand give a scale, and the scale a depth. Arms bend and backgrounds
creep in, hence this is evidence beside other evidence, not a measurement to rely on alone.
"""

from __future__ import annotations

import numpy as np

from flowact.rigid import Floats
from flowact.tracking import FlowField, TrackSettings, follow_flow

BESIDE_M, ABOVE_M, BELOW_M = 0.07, 0.085, 0.07  # the patch around the hand
WITH_HAND_PX = 5.0  # points that have left the hand by more are not part of it
FEWEST = 20


def depth_by_growth(
    field: FlowField, hand_px: Floats, first: int, depth_m: float, focal_px: float, settings: TrackSettings
) -> Floats:
    """Return (T,) z-depths [m] of the hand, NaN where they are not known; `depth_m` in frame `first` and before.

    Args:
        field: flow of the plan.
        hand_px: (T, 2) where the hand is seen.
        first: frame in which the gripper closes.
        depth_m: z-depth of the hand then.
        focal_px: focal length of the frames.
        settings: how points are followed.
    """
    depth = np.full(len(field.grey), np.nan)
    depth[: first + 1] = depth_m
    if first >= len(field.grey) - 1:
        return depth
    px = focal_px / depth_m
    u, v = np.meshgrid(np.arange(-BESIDE_M * px, BESIDE_M * px + 0.5), np.arange(-ABOVE_M * px, BELOW_M * px + 0.5))
    start = hand_px[first] + np.stack([u.ravel(), v.ravel()], axis=1)
    height, width = field.soft.shape[1:3]
    start = start[((start > 0) & (start < [width, height])).all(axis=1)]
    if len(start) < FEWEST:
        return depth
    uv, weight = follow_flow(field.since(first), start, settings)
    moved = hand_px[first:] - hand_px[first]
    for t in range(1, len(uv)):
        beside = np.linalg.norm(uv[t] - uv[0] - moved[t], axis=1) < WITH_HAND_PX
        good = (weight[t] > 0) & beside
        if int(good.sum()) >= FEWEST:
            depth[first + t] = depth_m / _scale(uv[0, good], uv[t, good])
    return depth


def _scale(before_px: Floats, after_px: Floats) -> float:
    """Return by how much (N, 2) points have spread, robustly, without a turn."""
    keep = np.ones(len(before_px), dtype=bool)
    scale = 1.0
    for _ in range(4):
        a = before_px[keep] - before_px[keep].mean(axis=0)
        b = after_px[keep] - after_px[keep].mean(axis=0)
        scale = float((a * b).sum() / max(float((a**2).sum()), 1e-9))
        centre = after_px[keep].mean(axis=0) - scale * before_px[keep].mean(axis=0)
        error = np.linalg.norm(after_px - scale * before_px - centre, axis=1)
        keep = error < max(0.5, 2 * float(np.median(error[keep])))
        if int(keep.sum()) < 3:
            break
    return min(max(scale, 0.5), 2.0)
