"""The hand's path by optical flow: a second reading of a plan that shares nothing with the learned one but the pixels.

From where the arm's own encoders put the hand in frame 0, flow carries it from frame to frame. One camera's flow has no
depth, so the two readings are compared in the picture; lengths are brought to metres at the hand's distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from cascade.metrics.agreement import Agreement, event_f1
from cascade.metrics.arrays import Floats
from cascade.metrics.paths import MIN_PATH_M, check_path, extent, path_length
from cascade.metrics.result import Status

PATCH_SHARE = 0.0625  # half-width of the patch around the hand, of the image's width
FASTEST_SHARE = 0.3  # of the patch's pixels: the hand is what moves there, not the table beside it


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Where a plan looks from: `K` (3, 3) of the plan image [px], `T_base_cam` (4, 4)."""

    K: Floats
    T_base_cam: Floats

    def pixels(self, points_m: Floats) -> Floats:
        """Return (N, 2) pixels of (N, 3) points in the base frame.

        Raises:
            DataError: a point lies behind the camera.
        """
        points = (np.asarray(points_m, dtype=np.float64) - self.T_base_cam[:3, 3]) @ self.T_base_cam[:3, :3]
        if (points[:, 2] < 1e-6).any():
            raise DataError("hand: expected points before the camera, found some behind it.", "Check the extrinsics.")
        rays = points @ self.K.T
        return np.asarray(rays[:, :2] / rays[:, 2:], dtype=np.float64)

    def metres_per_px(self, points_m: Floats) -> float:
        """Return the size of a pixel at the mean distance of (N, 3) points."""
        depth = (np.asarray(points_m) - self.T_base_cam[:3, 3]) @ self.T_base_cam[:3, 2]
        return float(depth.mean() / self.K[0, 0])


def hand_by_flow(flow: NDArray[np.float32], start_px: Floats) -> Floats:
    """Return the (T, 2) path of the hand in pixels, carried by dense flow from where it is in frame 0.

    Each step is the median flow of the fastest pixels of a patch around the hand, less the median flow of the picture:
    nothing where the camera stands still; where the imagined one drifts, the hand is not said to move with it.

    Args:
        flow: (T-1, H, W, 2) from each frame to the next [px].
        start_px: (2,) the hand in frame 0, from the arm's encoders.
    """
    seen = np.asarray(start_px, dtype=np.float64)
    path = [seen]
    for step in flow:
        motion = _patch_motion(step, seen)
        seen = seen + motion
        path.append(path[-1] + motion - np.median(step.reshape(-1, 2), axis=0))
    return np.stack(path)


def _patch_motion(step: NDArray[np.float32], centre: Floats) -> Floats:
    height, width = step.shape[:2]
    radius = max(2, round(PATCH_SHARE * width))
    u, v = np.rint(centre).astype(int)
    u, v = int(np.clip(u, radius, width - radius - 1)), int(np.clip(v, radius, height - radius - 1))
    patch = step[v - radius : v + radius + 1, u - radius : u + radius + 1].reshape(-1, 2)
    speed = np.linalg.norm(patch, axis=1)
    count = max(5, int(FASTEST_SHARE * len(patch)))
    return np.asarray(np.median(patch[np.argpartition(speed, -count)[-count:]], axis=0), dtype=np.float64)


def hand_agreement(
    hand_m: Floats,
    flow: NDArray[np.float32],
    view: View,
    start_m: Floats,
    *,
    opening: Floats | None = None,
    other_opening: Floats | None = None,
    min_path_m: float = MIN_PATH_M,
) -> Agreement:
    """A: compare the hand an extractor reads in a plan with the hand that flow carries along.

    Args:
        hand_m: (T, 3) path by the extractor, base frame.
        flow: (T-1, H, W, 2) from each frame to the next [px].
        view: of the plan.
        start_m: (3,) measured hand in frame 0.
        opening: (T,) gripper openings by the extractor.
        other_opening: (T,) by a second reader, such as the planner's own.
        min_path_m: a hand that gets no further does not move.

    Raises:
        DataError: lengths differ.
    """
    hand = check_path("hand", hand_m)
    if len(hand) != len(flow) + 1:
        raise DataError(f"hand: expected {len(flow) + 1} positions, found {len(hand)}.")
    read_px = view.pixels(hand)
    flow_px = hand_by_flow(flow, view.pixels(np.asarray(start_m)[None])[0])
    scale = view.metres_per_px(hand)
    length_px = (path_length(read_px) + path_length(flow_px)) / 2
    if min(extent(hand), extent(flow_px) * scale) < min_path_m:
        return Agreement(status=Status.NO_MOTION, length_m=length_px * scale)
    rms = float(np.sqrt(((read_px - flow_px) ** 2).sum(1).mean()))
    both = opening is not None and other_opening is not None
    return Agreement(
        status=Status.MEASURED,
        position=rms / max(length_px, min_path_m / scale),
        grip=1 - event_f1(opening, other_opening) if both else None,  # type: ignore[arg-type]
        rms_m=rms * scale,
        length_m=length_px * scale,
    )
