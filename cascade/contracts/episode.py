"""One recorded episode as trainers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """One recorded episode as trainers see it; N frames at `fps`.

    Attributes:
        frames: camera -> (N, H, W, 3) uint8; may be a lazy mapping that decodes when asked.
        K, T_base_cam: camera -> (3, 3), (4, 4).
        ee_position_m: (N, 3) measured; gripper_opening: (N,) measured 0..1.
        action: (N, 8) as sent: xyz, quaternion wxyz, gripper opening.
        instruction: task text; task: suite name of the task; kind: 'expert' or 'play'.
        success: whether the episode reached the task's goal at any time (False for play).
    """

    frames: Mapping[str, Image]
    K: Mapping[str, Floats]
    T_base_cam: Mapping[str, Floats]
    ee_position_m: Floats
    gripper_opening: Floats
    action: Floats
    fps: float
    instruction: str
    task: str
    kind: str
    success: bool
    seed: int
