"""How pixels move: whether at all, dense flow, and point tracks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from cascade.metrics.arrays import Bools, Floats, Frames

MIN_CHANGE_LEVELS = 8.0  # mean change of the most changed 5 % of pixels below which a video counts as still
CHANGED_SHARE = 0.05
FORWARD_BACKWARD_PX = 1.0
WORKING_PX = 256  # smaller frames are enlarged to this width for tracking, so that small objects have corners
STILL = "the video hardly moves"


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Dense flow of T frames, (T-1, H, W, 2) float32 [px]: `forward` from t to t+1, `backward` from t+1 to t."""

    forward: NDArray[np.float32]
    backward: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Points followed through T frames.

    Attributes:
        points_px: (T, N, 2) positions; of a lost track the last one known.
        alive: (T, N) whether the track passed every forward-backward check so far.
    """

    points_px: Floats
    alive: Bools


def check_frames(name: str, frames: Frames) -> Frames:
    """Return (T >= 2, H, W, 3) uint8 frames; raises DataError for anything else."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) < 2:
        raise DataError(f"{name}: expected (T >= 2, H, W, 3) uint8, found {frames.shape} {frames.dtype}.")
    return frames


def change_levels(frames: Frames) -> float:
    """Return the largest change against frame 0 [grey levels], mean over the most changed 5 % of pixels."""
    first = check_frames("frames", frames)[0].astype(np.int16)
    share = max(1, int(CHANGED_SHARE * first.shape[0] * first.shape[1]))
    changes = [np.abs(frame - first).mean(axis=-1).ravel() for frame in frames[1:].astype(np.int16)]
    return max(float(np.partition(change, -share)[-share:].mean()) for change in changes)


def moves(frames: Frames) -> bool:
    """Return whether enough changes in a video for a score to mean anything."""
    return change_levels(frames) >= MIN_CHANGE_LEVELS


def grey(frames: Frames) -> Frames:
    """Return (T, H, W) uint8 luma of (T, H, W, 3) frames."""
    import cv2

    return np.stack([np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8) for frame in frames])


def dense_flow(frames: Frames) -> Flow:
    """Return dense inverse search flow (Kroeger et al., 2016) both ways between consecutive frames."""
    return Flow(forward_flow(frames), forward_flow(frames[::-1])[::-1])


def forward_flow(frames: Frames) -> NDArray[np.float32]:
    """Return (T-1, H, W, 2) dense inverse search flow from each frame to the next [px]."""
    import cv2

    images = grey(check_frames("frames", frames))
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(0)  # at half resolution, its default, the speed of small objects comes out too low
    return np.stack([estimator.calc(a, b, None) for a, b in itertools.pairwise(images)]).astype(np.float32)


def sample(image: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `image` looked up at every pixel plus `flow` (H, W, 2), bilinear, edges repeated."""
    import cv2

    height, width = flow.shape[:2]
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    warped = cv2.remap(image, u + flow[..., 0], v + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.float32)


def track(frames: Frames, mask: Bools | None = None, *, max_points: int = 100) -> Tracks:
    """Follow corners of frame 0 by pyramidal Lucas-Kanade with a forward-backward check at every step.

    Args:
        frames: (T, H, W, 3) uint8.
        mask: (H, W) where in frame 0 to look for corners, None for everywhere.
        max_points: corners at most; N may be 0 where there is no texture.
    """
    import cv2

    scale = max(1.0, WORKING_PX / check_frames("frames", frames).shape[2])
    images = [cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for image in grey(frames)]
    where = None
    if mask is not None:
        size = images[0].shape[1::-1]
        where = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_NEAREST)
    found = cv2.goodFeaturesToTrack(images[0], max_points, 0.01, 3, mask=where, blockSize=5)
    if found is None or not len(found):
        return Tracks(np.zeros((len(images), 0, 2)), np.zeros((len(images), 0), dtype=np.bool_))
    here = np.asarray(found, dtype=np.float32).reshape(-1, 1, 2)
    points, alive = [here.reshape(-1, 2)], [np.ones(len(here), dtype=np.bool_)]
    settings: dict[str, Any] = {"winSize": (15, 15), "maxLevel": 3}
    for before, after in itertools.pairwise(images):
        there, ok, _ = cv2.calcOpticalFlowPyrLK(before, after, here, None, **settings)
        back, ok_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **settings)
        error = np.linalg.norm((back - here).reshape(-1, 2), axis=1)
        good = (ok.ravel() > 0) & (ok_back.ravel() > 0) & (error < FORWARD_BACKWARD_PX * scale) & alive[-1]
        here = np.where(good[:, None, None], there, here).astype(np.float32)
        points.append(here.reshape(-1, 2))
        alive.append(good)
    return Tracks(np.stack(points).astype(np.float64) / scale, np.stack(alive))
