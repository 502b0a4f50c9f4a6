"""Drawn clips: a textured block that moves over a textured table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

SIZE = 64
BLOCK = 18


def texture(seed: int, height: int, width: int, low: int, high: int) -> np.ndarray:
    import cv2

    noise = np.random.default_rng(seed).uniform(low, high, (height, width)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 1.2)


def table() -> np.ndarray:
    grey = np.clip((texture(0, SIZE, SIZE, 0, 255) - 127) * 2.5 + 110, 40, 180)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def block() -> np.ndarray:
    light = np.clip((texture(1, BLOCK, BLOCK, 0, 255) - 127) * 3 + 190, 120, 255)
    return np.stack([light, light * 0.25, light * 0.1], axis=-1).astype(np.uint8)


def draw(places: np.ndarray, *, face: np.ndarray | None = None, visible: np.ndarray | None = None) -> np.ndarray:
    """(T, 2) upper left corners (x, y) -> (T, H, W, 3) frames."""
    frames = np.repeat(table()[None], len(places), axis=0)
    for t, (x, y) in enumerate(np.asarray(places, dtype=int)):
        if visible is None or visible[t]:
            frames[t, y : y + BLOCK, x : x + BLOCK] = block() if face is None else face
    return frames


def straight(count: int = 9, step: int = 3, y: int = 20) -> np.ndarray:
    return np.column_stack([4 + step * np.arange(count), np.full(count, y)])


@pytest.fixture
def moving() -> np.ndarray:
    return draw(straight())


@pytest.fixture
def frozen() -> np.ndarray:
    return draw(np.tile(straight()[:1], (9, 1)))


@pytest.fixture
def mask() -> np.ndarray:
    found = np.zeros((SIZE, SIZE), dtype=bool)
    found[20 : 20 + BLOCK, 4 : 4 + BLOCK] = True
    return found


@pytest.fixture
def inside(mask: np.ndarray) -> np.ndarray:
    """The block without its rim, whose corners belong half to the table."""
    found = np.zeros_like(mask)
    found[24:34, 8:18] = True
    return found


@pytest.fixture
def drawn() -> Callable[..., np.ndarray]:
    return draw


@pytest.fixture
def places() -> Callable[..., np.ndarray]:
    return straight
