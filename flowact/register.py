"""Where the object is now: its surface of frame 0 laid over the surface seen now, by shift or along its joint.

The gripper hides part of the object while it handles it, so the mask's centre wanders; matching surfaces does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowact.articulation import JointKind, Motion
from flowact.rigid import Floats, rotation_about

TRIM = 0.8  # share of the seen points that must fit


def shift_between(model_m: Floats, seen_m: Floats, *, start_m: Floats, iterations: int = 15) -> Floats:
    """Return the (3,) shift that lays `model_m` (N, 3) over `seen_m` (M, 3): trimmed ICP without turning.

    Args:
        model_m: surface of the object at rest.
        seen_m: part of the surface seen now.
        start_m: (3,) first guess of the shift.
        iterations: at most this many.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(model_m)
    starts = (start_m, np.median(seen_m, axis=0) - np.median(model_m, axis=0))
    found = [settled_shift(tree, model_m, seen_m, np.asarray(s, dtype=np.float64), iterations) for s in starts]
    # All that is seen must lie on the object, so the untrimmed distance decides between the two.
    return min(found, key=lambda shift: float(tree.query(seen_m - shift)[0].mean()))


def settled_shift(tree: Any, model_m: Floats, seen_m: Floats, shift: Floats, iterations: int) -> Floats:
    """Return where trimmed ICP from one start ends; `tree` is the k-d tree of `model_m`."""
    for _ in range(iterations):
        distance, index = tree.query(seen_m - shift)
        near = distance <= np.quantile(distance, TRIM)
        step = (seen_m[near] - shift - model_m[index[near]]).mean(axis=0)
        shift = shift + step
        if float(np.linalg.norm(step)) < 2e-4:
            break
    return np.asarray(shift, dtype=np.float64)


def joint_now(motion: Motion, model_m: Floats, seen_m: Floats, *, low: float, high: float, steps: int = 41) -> float:
    """Return the joint position in [low, high] at which the seen surface fits the resting one best.

    Args:
        motion: a PRISMATIC or REVOLUTE motion.
        model_m: (N, 3) surface at rest (q = 0).
        seen_m: (M, 3) surface seen now.
        low: lowest joint position to consider.
        high: highest joint position to consider.
        steps: how finely the range is searched.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(model_m)
    candidates = np.linspace(low, high, steps)
    cost = []
    for q in candidates:
        distance = tree.query(undone(motion, seen_m, float(q)))[0]
        cost.append(np.sort(distance)[: max(1, int(TRIM * len(distance)))].mean())
    best = int(np.argmin(cost))
    return float(candidates[best])


def undone(motion: Motion, points: Floats, q: float) -> Floats:
    """Return points (M, 3) seen at joint position q as they were at rest."""
    if motion.kind is JointKind.PRISMATIC:
        return np.asarray(points - q * motion.axis, dtype=np.float64)
    R = rotation_about(motion.axis, q)
    return np.asarray((points - motion.origin_m) @ R + motion.origin_m, dtype=np.float64)
