"""Where the hand begins, and what else the AVDC protocol changes in Meta-World's layouts.

'stock' is Meta-World as released: the hand always begins at the same place. 'avdc' draws it anew for every layout, as
the benchmark of Ko et al. (Learning to Act from Actionless Videos, arXiv 2310.08576) does in its copy of Meta-World.
"""

from __future__ import annotations

import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Starts = Literal["stock", "avdc"]
Floats = NDArray[np.float64]

_HAND_OFFSET_M = ((-0.30, -0.30, 0.0), (0.30, 0.30, 0.10))
_HAND_OFFSETS_M = {
    "basketball": ((-0.15, -0.15, 0.0), (0.15, 0.15, 0.10)),
    "assembly": ((-0.30, -0.30, 0.0), (0.30, 0.30, 0.20)),
}
_OBJECT_RANGES_M = {"basketball": ((-0.3, 0.4), (0.3, 0.8))}
_SUCCESS_WITHIN_M = {"button-press-topdown": 0.02}  # 0.024 in Meta-World 3


def hand_offset_m(task: str, seed: int) -> Floats:
    """(3,) by which layout (task, seed) moves the hand's stock start under 'avdc', uniform in the task's box."""
    low, high = _HAND_OFFSETS_M.get(task, _HAND_OFFSET_M)
    return np.random.default_rng([int(seed), zlib.crc32(task.encode())]).uniform(low, high)


def prepare(env: Any, task: str, seed: int, starts: Starts) -> None:
    """Set up a Meta-World environment so that its next reset begins as `starts` says.

    Its objects stay where 'stock' has them, except the basketball, which 'avdc' spreads over a wider range.
    """
    if starts == "stock":
        return
    env.hand_init_pos = np.asarray(env.init_config["hand_init_pos"], dtype=np.float64) + hand_offset_m(task, seed)
    if task in _OBJECT_RANGES_M:
        low, high = _OBJECT_RANGES_M[task]
        space = env._random_reset_space
        space.low[:2], space.high[:2] = low, high


def reached(task: str, info: dict[str, Any], starts: Starts) -> bool:
    """Whether the goal is reached, by what Meta-World's step tells."""
    if starts == "avdc" and task in _SUCCESS_WITHIN_M:
        return bool(info["obj_to_target"] <= _SUCCESS_WITHIN_M[task])
    return bool(info["success"] > 0)
