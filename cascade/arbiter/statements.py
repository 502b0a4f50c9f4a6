"""What two extractors say of one plan, in words that can be compared: contacts, paths and spreads in metres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ActionChunk, CameraImage, EeReadout, Observation, VideoPlan

Floats = NDArray[np.float64]

SHUT = 0.5  # commanded openings below this close the gripper
MOVES_PX = 3.0  # tracked points move when their median has gone this far
ALIVE = 0.1  # share of the tracked points that has to be left for a frame to count
BAR_RATIO, BAR_STD_M = 1.8, 0.015  # a thing is a bar when its points spread so far, and so much farther than across
LEAST_RMS_PX = 0.5  # no tracker is better than this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HandSays:
    """What is said of the hand.

    Attributes:
        chunk: its first targets.
        path_m: (T, 3) positions, by the reading where there is one, else the targets.
        frames: whether `path_m` has one position per plan frame.
        std_m: spread of the reading, one axis.
        closes: index of the target at which the gripper closes, or None.
    """

    chunk: ActionChunk
    path_m: Floats
    frames: bool
    std_m: float
    closes: int | None

    @property
    def closes_m(self) -> Floats | None:
        """(3,) where the gripper closes."""
        return None if self.closes is None else np.asarray(self.chunk.values[self.closes, :3], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectSays:
    """What is said of the object.

    Attributes:
        chunk: first targets towards it.
        grasps: whether it is grasped; None: not said.
        contact_m: (3,) where it is touched; only the level part of a grasp counts.
        points_m: (N, 3) of its surface as the camera sees it now, perhaps none.
        shift_px: (T, 2) how far it has moved in the plan's frames, NaN where it was lost, or None.
        metres_per_px: at its depth.
        std_m: spread of its motion, one axis; inf where it was followed in no frame.
        alive: share of frames in which it was followed, or None.
    """

    chunk: ActionChunk
    grasps: bool | None
    contact_m: Floats
    points_m: Floats
    shift_px: Floats | None
    metres_per_px: float
    std_m: float
    alive: float | None

    @property
    def along(self) -> Floats:
        """(2, 2) level covariance of where a long thing may be held: along it; zero for anything else."""
        if len(self.points_m) < 3:
            return np.zeros((2, 2))
        variance, axes = np.linalg.eigh(np.cov(self.points_m[:, :2].T))
        width, length = np.sqrt(np.maximum(variance, 0.0))
        if length < BAR_STD_M or length < BAR_RATIO * width:
            return np.zeros((2, 2))
        along: Floats = (2 * length) ** 2 * np.outer(axes[:, 1], axes[:, 1])
        return along


def closing(chunk: ActionChunk, opening: float) -> int | None:
    """Return the first target at which the gripper is told to close, having been open, else None."""
    before = np.concatenate([[opening], chunk.gripper[:-1]]) >= SHUT
    found = np.flatnonzero(before & (chunk.gripper < SHUT))
    return int(found[0]) if len(found) else None


def hand_says(
    chunk: ActionChunk, readout: EeReadout | None, observation: Observation, default_std_m: float
) -> HandSays:
    """Return the first answer of the extractor that reads the hand."""
    at = closing(chunk, observation.arm.gripper_opening)
    if readout is None:
        path = np.vstack([observation.arm.position_m[None], chunk.values[:, :3]])
        return HandSays(chunk=chunk, path_m=path, frames=False, std_m=default_std_m, closes=at)
    spread = float(np.sqrt(np.mean(readout.position_std_m**2)))
    return HandSays(chunk=chunk, path_m=readout.position_m, frames=True, std_m=spread, closes=at)


def object_says(chunk: ActionChunk, plan: VideoPlan, observation: Observation, least_std_m: float) -> ObjectSays:
    """Return the first answer of the extractor that reads the object.

    Of its provenance `mode` ('grasp' or 'push'), `contact_m`, `tracks` and `rms_px` are used where they are there. With
    no `contact_m` it is where the gripper closes, or else where the first targets lead.
    """
    told = chunk.provenance
    image = observation.image(plan.camera)
    uv, kept = _tracks(told.get("tracks"), len(plan))
    points = np.zeros((0, 3)) if uv is None else _lifted(uv[0], plan, image)
    shift, alive = (None, None) if uv is None or kept is None else _shift_px(uv, kept)
    contact = _contact(chunk, observation)
    near = np.median(points, axis=0) if len(points) else contact
    scale = _metres_per_px(near, plan, image)
    left_px = told.get("rms_px")
    std = float(np.hypot(least_std_m, scale * max(left_px, LEAST_RMS_PX) if isinstance(left_px, int | float) else 0.0))
    if alive is not None:
        std = std / np.sqrt(alive) if alive > 0 else np.inf
    return ObjectSays(
        chunk=chunk,
        grasps={"grasp": True, "push": False}.get(str(told.get("mode"))),
        contact_m=contact,
        points_m=points,
        shift_px=shift,
        metres_per_px=scale,
        std_m=float(std),
        alive=alive,
    )


def hand_px(path_m: Floats, plan: VideoPlan, image: CameraImage) -> Floats | None:
    """Return (T, 2) plan pixels of positions in the base frame; None where nobody said where the camera stands."""
    if image.T_base_cam is None:
        return None
    T = image.T_base_cam
    seen = (path_m - T[:3, 3]) @ T[:3, :3] @ plan.transform.intrinsics(image.K).T
    uv: Floats = seen[:, :2] / np.maximum(seen[:, 2:], 1e-6)
    return uv


def _contact(chunk: ActionChunk, observation: Observation) -> Floats:
    said = chunk.provenance.get("contact_m")
    if said is not None:
        return np.asarray(said, dtype=np.float64).reshape(3)
    if not len(chunk):
        return np.array(observation.arm.position_m)
    at = closing(chunk, observation.arm.gripper_opening)
    grasps = chunk.provenance.get("mode") == "grasp"
    return np.asarray(chunk.values[-1 if at is None or not grasps else at, :3], dtype=np.float64)


def _tracks(value: Any, length: int) -> tuple[Floats | None, NDArray[np.bool_] | None]:
    if not isinstance(value, Mapping):
        return None, None
    uv, kept = np.asarray(value.get("uv"), dtype=np.float64), np.asarray(value.get("kept"), dtype=bool)
    fits = uv.ndim == 3 and uv.shape[2] == 2 and kept.shape == uv.shape[:2] and len(uv) == length and uv.shape[1] > 0
    return (uv, kept) if fits else (None, None)


def _lifted(uv: Floats, plan: VideoPlan, image: CameraImage) -> Floats:
    """Return (N, 3) points of plan pixels in frame 0, those with depth."""
    if image.depth_m is None or image.T_base_cam is None:
        return np.zeros((0, 3))
    height, width = image.depth_m.shape
    at = np.floor(plan.transform.to_camera(uv)).astype(np.int64)
    found = image.points_m()[np.clip(at[:, 1], 0, height - 1), np.clip(at[:, 0], 0, width - 1)]
    points: Floats = found[np.isfinite(found).all(axis=1)]
    return points


def _shift_px(uv: Floats, kept: NDArray[np.bool_]) -> tuple[Floats, float]:
    shift = np.full((len(uv), 2), np.nan)
    enough = max(1.0, ALIVE * uv.shape[1])
    for frame, (moved, alive) in enumerate(zip(uv - uv[0], kept & kept[0], strict=True)):
        if alive.sum() >= enough:
            shift[frame] = np.median(moved[alive], axis=0)
    return shift, float(np.isfinite(shift[1:, 0]).mean()) if len(shift) > 1 else 0.0


def _metres_per_px(point_m: Floats, plan: VideoPlan, image: CameraImage) -> float:
    K = plan.transform.intrinsics(image.K)
    if image.T_base_cam is None:
        return 0.01
    away = float((point_m - image.T_base_cam[:3, 3]) @ image.T_base_cam[:3, 2])
    return max(away, 0.05) / float(K[0, 0])
