"""Pictures of a board whose pose is known, drawn through the same lens model that has to be found again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_io.calibration.board import board_image
from robot_io.calibration.config import BoardConfig
from robot_io.calibration.files import to_opencv

SIZE = (640, 480)
LENS = np.array([[610.0, 0, 322.5], [0, 608.0, 237.5], [0, 0, 1]])
BOARD = BoardConfig()


def pose(xyz: Sequence[float], rotvec: Sequence[float]) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec(rotvec).as_matrix(), xyz
    return T


@lru_cache(maxsize=4)
def _texture(board: BoardConfig, n: int) -> np.ndarray:
    return np.pad(board_image(board, n), n, constant_values=255)


def draw_board(
    T_cam_board: np.ndarray, K: np.ndarray = LENS, distortion: Sequence[float] = (), board: BoardConfig = BOARD
) -> np.ndarray:
    """Return (H, W, 3) uint8: every pixel looks up where its ray meets the board."""
    import cv2

    n = 80
    texture = _texture(board, n)
    if not np.any(distortion):
        to_texture = np.array([[n / board.square_m, 0, n - 0.5], [0, n / board.square_m, n - 0.5], [0, 0, 1]])
        through = to_opencv(K) @ T_cam_board[:3, [0, 1, 3]] @ np.linalg.inv(to_texture)
        image = cv2.warpPerspective(texture, through, SIZE, borderValue=120)
        return np.repeat(cv2.GaussianBlur(image, (0, 0), 0.6)[..., None], 3, axis=2)
    u, v = np.meshgrid(np.arange(SIZE[0], dtype=np.float64), np.arange(SIZE[1], dtype=np.float64))
    pixels = np.stack([u.ravel(), v.ravel()], axis=-1)[:, None]
    rays = cv2.undistortPoints(pixels, to_opencv(K), np.asarray(distortion, dtype=np.float64))[:, 0]
    rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    R, t = T_cam_board[:3, :3], T_cam_board[:3, 3]
    depth = (R[:, 2] @ t) / (rays @ R[:, 2])
    on_board = (rays * depth[:, None] - t) @ R / board.square_m * n + n - 0.5
    image = cv2.remap(
        texture,
        on_board[:, 0].reshape(SIZE[::-1]).astype(np.float32),
        on_board[:, 1].reshape(SIZE[::-1]).astype(np.float32),
        cv2.INTER_LINEAR,
        borderValue=120,
    )
    return np.repeat(cv2.GaussianBlur(image, (0, 0), 0.6)[..., None], 3, axis=2)


def board_poses(count: int, seed: int = 0) -> list[np.ndarray]:
    """T_cam_board all over the picture, tilted, with the whole board in view."""
    rng = np.random.default_rng(seed)
    centre = pose([-BOARD.columns * BOARD.square_m / 2, -BOARD.rows * BOARD.square_m / 2, 0], [0, 0, 0])
    spots = [(x, y) for y in (-0.06, 0.06) for x in (-0.09, 0, 0.09)]
    made = []
    for n in range(count):
        x, y = spots[n % len(spots)]
        tilt = rng.uniform(-0.45, 0.45, 3)
        made.append(pose([x, y, rng.uniform(0.38, 0.5)], tilt) @ centre)
    return made


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    return draw_board
