"""Where a candidate would take the hand: the one thing that plans of all kinds can be compared in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ActionChunk, Candidate, Observation, SpaceKind
from cascade.metrics.paths import resample

Floats = NDArray[np.float64]
COUNT = 33  # points of a path, evenly spaced along what happens


def hand_path(chunk: ActionChunk | None, start_m: Floats) -> Floats | None:
    """Return (COUNT, 3) points of the way from `start_m` through the targets, or None where there are none [m].

    They are evenly spaced along way and gripper changes, so that plans with other clocks line up.
    """
    if chunk is None or not len(chunk) or chunk.space.kind is not SpaceKind.EE_POSE:
        return None
    points = np.vstack([start_m[None], chunk.values[:, :3]])
    gripper = np.r_[chunk.gripper[:1], chunk.gripper]
    return resample(points, COUNT, opening=gripper)[0]


def hand_paths(candidates: Sequence[Candidate], observation: Observation) -> list[Floats | None]:
    """Return `hand_path` of each candidate, from where the hand is now."""
    return [hand_path(candidate.chunk, observation.arm.position_m) for candidate in candidates]


def path_distance_m(a: Floats, b: Floats) -> float:
    """Return the mean distance of two paths of `hand_path` point by point [m]."""
    return float(np.linalg.norm(a - b, axis=1).mean())
