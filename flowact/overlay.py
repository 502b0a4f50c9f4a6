"""Drawing what was followed onto a plan's frames, for reports."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Observation, VideoPlan
from flowact.articulation import reprojection_error
from flowact.reading import PlanReading, read_plan
from flowact.rigid import project
from flowact.scene import base_pose
from flowact.settings import FlowConfig

KEPT, DROPPED, FITTED = (60, 220, 90), (235, 60, 60), (255, 210, 40)
KEPT_WITHIN_PX = 2.0


def overlay(plan: VideoPlan, observation: Observation, config: FlowConfig | None = None) -> NDArray[np.uint8]:
    """Return (T, H, W, 3) uint8 plan frames with tracks drawn: green kept, red dropped, yellow the fitted path.

    Args:
        plan: the plan.
        observation: what its first frame was made from, with depth.
        config: options of the extractor; its defaults when left out.

    Raises:
        DataError: the object could not be followed.
    """
    config = config or FlowConfig()
    image = observation.image(plan.camera)
    reading = read_plan(plan, image, np.asarray(observation.arm.position_m), config)
    return draw(plan.frames, reading, plan.transform.intrinsics(image.K), base_pose(image))


def draw(
    frames: NDArray[np.uint8], reading: PlanReading, K: NDArray[np.float64], T_base_cam: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return a copy of (T, H, W, 3) frames with the reading's tracks and fitted path drawn in."""
    tracks = reading.tracks
    error = reprojection_error(reading.motion, tracks, K, T_base_cam)
    path, _ = project(K, T_base_cam, reading.motion.path(reading.view.surface_m))
    drawn = frames.copy()
    for t in range(len(frames)):
        kept = (tracks.weight[t] > 0) & (np.nan_to_num(error[t], nan=np.inf) < KEPT_WITHIN_PX)
        _dots(drawn[t], tracks.uv[t][~kept], DROPPED)
        _dots(drawn[t], tracks.uv[t][kept], KEPT)
        _dots(drawn[t], path[: t + 1], FITTED)
    return drawn


def track_record(
    reading: PlanReading, K: NDArray[np.float64], T_base_cam: NDArray[np.float64], *, most: int = 40
) -> dict[str, Any]:
    """Return the tracks as JSON values, for reports: `uv` (T, N, 2) plan pixels, `kept` (T, N) 0 or 1.

    Args:
        reading: of a plan.
        K: of the plan image.
        T_base_cam: camera pose.
        most: how many points at most.
    """
    tracks = reading.tracks
    error = np.nan_to_num(reprojection_error(reading.motion, tracks, K, T_base_cam), nan=np.inf)
    count = tracks.uv.shape[1]
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
    kept = (tracks.weight > 0) & (error < KEPT_WITHIN_PX)
    uv = np.nan_to_num(tracks.uv[:, chosen])
    return {"uv": uv.round(1).tolist(), "kept": kept[:, chosen].astype(int).tolist()}


def _dots(image: NDArray[np.uint8], uv: NDArray[np.float64], colour: tuple[int, int, int]) -> None:
    uv = uv[np.isfinite(uv).all(axis=1)]
    columns, rows = np.floor(uv[:, 0]).astype(int), np.floor(uv[:, 1]).astype(int)
    inside = (rows >= 0) & (columns >= 0) & (rows < image.shape[0]) & (columns < image.shape[1])
    image[rows[inside], columns[inside]] = colour
