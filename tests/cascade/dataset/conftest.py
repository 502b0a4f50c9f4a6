"""Episodes made from a formula: small, smooth, and the same every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cascade.dataset.staging import EpisodeRecording


def moving_square(count: int, size: int, seed: int) -> Any:
    """A bright square that crosses a shaded background."""
    v, u = np.mgrid[0:size, 0:size]
    background = np.stack([u * 2, v * 2, np.full_like(u, 40 + seed % 50)], axis=-1)
    frames = np.repeat(background[None], count, axis=0).astype(np.uint8)
    for t in range(count):
        left = 4 + (t * 3 + seed) % (size - 16)
        frames[t, 20:32, left : left + 12] = (220, 60, 30)
    return frames


def build_episode(task: str = "door-open", seed: int = 1000, count: int = 12, **changes: Any) -> EpisodeRecording:
    random = np.random.default_rng(seed)
    state = np.zeros((count, 8), np.float32)
    state[:, :3] = np.array([0, 0.6, 0.2]) + np.cumsum(random.normal(0, 0.01, (count, 3)), axis=0)
    state[:, 3] = 1.0
    state[:, 7] = np.linspace(1, 0, count)
    action = state + np.float32(0.001)
    calibration = {"K": np.eye(3).tolist(), "T_base_cam": np.eye(4).tolist(), "size_px": [64, 64]}
    values: dict[str, Any] = {
        "frames": {"corner": moving_square(count, 64, seed)},
        "state": state,
        "action": action,
        "action_asked": action * np.float32(1.5),
        "next_success": np.arange(count) >= count - 3,
        "capture_time_s": np.arange(count) * 0.025 + seed,
        "calibration": {"corner": calibration},
        "fps": 40.0,
        "instruction": f"do {task}",
        "task": task,
        "kind": "expert",
        "seed": seed,
        "success": seed % 2 == 0,
    }
    return EpisodeRecording(**{**values, **changes})


@pytest.fixture
def make_episode() -> Callable[..., EpisodeRecording]:
    return build_episode
