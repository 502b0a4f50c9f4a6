"""A hand drawn with the real projection: small, but a network can learn to read it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cascade.contracts import ArmState, CameraImage, Episode, ImageTransform, Observation, VideoPlan

SIZE = 128
K = np.array([[150.0, 0, 64], [0, 150.0, 64], [0, 0, 1.0]])
# A camera 1 m in front of the table, 0.5 m up, looking back and down at (0, 0.6, 0.1).
EYE, LOOK_AT = np.array([0.0, 1.6, 0.5]), np.array([0.0, 0.6, 0.1])


def camera_pose() -> np.ndarray:
    forward = (LOOK_AT - EYE) / np.linalg.norm(LOOK_AT - EYE)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    T[:3, 3] = EYE
    return T


T_BASE_CAM = camera_pose()


def draw(position: np.ndarray, opening: float) -> np.ndarray:
    """Two fingers, apart by the opening, and a palm; their size falls with the distance."""
    picture = np.full((SIZE, SIZE, 3), (180, 160, 140), np.uint8)
    point = T_BASE_CAM[:3, :3].T @ (position - T_BASE_CAM[:3, 3])
    u, v = (K @ point)[:2] / point[2]
    unit = 150 / point[2] * 0.02
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    for side in (-1, 1):
        middle = u + side * unit * (0.5 + 1.5 * opening)
        picture[(abs(columns - middle) < unit * 0.6) & (abs(rows - v + unit) < unit * 2)] = (30, 30, 60)
    picture[(abs(columns - u) < unit * 3) & (abs(rows - v + 4 * unit) < unit)] = (200, 30, 30)
    return picture


def play_episode(seed: int, length: int = 24) -> Episode:
    rng = np.random.default_rng(seed)
    corners = rng.uniform([-0.25, 0.45, 0.02], [0.25, 0.8, 0.3], (5, 3))
    share = np.linspace(0, 4, length)
    position = np.stack([np.interp(share, range(5), corners[:, i]) for i in range(3)], 1)
    opening = np.clip(np.interp(share, range(5), rng.uniform(0, 1, 5)), 0, 1)
    return Episode(
        frames={"corner": np.stack([draw(p, o) for p, o in zip(position, opening, strict=True)])},
        K={"corner": K},
        T_base_cam={"corner": T_BASE_CAM},
        ee_position_m=position,
        gripper_opening=opening,
        action=np.zeros((length, 8)),
        fps=80 / 3,
        instruction="play",
        task="play",
        kind="play",
        success=False,
        seed=seed,
    )


class Play:
    """An episode source in memory."""

    digest = "drawn-play"

    def __init__(self, episodes: list[Episode]) -> None:
        self._episodes = episodes

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: int) -> Episode:
        return self._episodes[index]


def observation_at(position: np.ndarray, opening: float, camera: str = "corner") -> Observation:
    T = np.eye(4)
    T[:3, :3] = np.diag([1.0, -1.0, -1.0])
    T[:3, 3] = position
    image = CameraImage(rgb=draw(position, opening), K=K, stamp_s=0.0, T_base_cam=T_BASE_CAM)
    arm = ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=opening, stamp_s=0.0)
    return Observation(images={camera: image}, arm=arm)


def plan_of(episode: Episode, frames: slice = slice(None), camera: str = "corner") -> VideoPlan:
    return VideoPlan(
        instruction="play",
        camera=camera,
        transform=ImageTransform.centre_square(SIZE, SIZE, SIZE),
        frames=episode.frames["corner"][frames],
    )


@pytest.fixture(scope="session")
def play() -> Play:
    return Play([play_episode(seed) for seed in range(12)])


@pytest.fixture(scope="session")
def scene() -> SimpleNamespace:
    """The drawing functions, for tests that cannot import this file."""
    return SimpleNamespace(
        Play=Play, play_episode=play_episode, observation_at=observation_at, plan_of=plan_of, K=K, T_BASE_CAM=T_BASE_CAM
    )


@pytest.fixture(scope="session")
def trained(play: Play, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Weights after a few seconds of training on drawn play; made once for all workers."""
    from filelock import FileLock

    from idm.plugins import TRAINER

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "idm-trained"
    with FileLock(f"{folder}.lock"):
        if not (folder / "scores.json").exists():
            TRAINER.build(TRAINER.config(steps=100, batch=12, threads=1, held_out=0.2)).train(
                play, folder, resume=False
            )
    return folder
