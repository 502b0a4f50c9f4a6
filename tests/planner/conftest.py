"""A tiny world: a white hand goes to the red or to the blue goal, as the words say, and closes there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from cascade.contracts import ArmState, CameraImage, Episode, Observation

SIZE = 128
# The camera looks straight down on a plane one metre away; 100 px are one metre, the axes of the image are x and y.
K = np.array([[100.0, 0, 64], [0, 100.0, 64], [0, 0, 1]])
T_BASE_CAM = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]])
INSTRUCTIONS = {"door-open": "open the door", "door-close": "close the door"}


def draw(frame: np.ndarray, xy_m: np.ndarray, half_px: int, colour: tuple[int, int, int]) -> None:
    u, v = round(64 + 100 * xy_m[0]), round(64 - 100 * xy_m[1])
    frame[max(v - half_px, 0) : v + half_px, max(u - half_px, 0) : u + half_px] = colour


def make_episode(seed: int, task: str, *, length: int = 24, kind: str = "expert", success: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    red, blue = rng.uniform(-0.45, -0.1, 2), rng.uniform(0.1, 0.45, 2)
    goal = red if task == "door-open" else blue
    along = np.clip(np.linspace(0, 1.3, length), 0, 1)[:, None]
    xy = (1 - along) * np.array([0.0, 0.0]) + along * goal
    opening = np.where(np.linspace(0, 1.3, length) < 1.1, 1.0, 0.2)
    frames = np.full((length, SIZE, SIZE, 3), 90, np.uint8)
    frames[:, ::16] = 110
    for i in range(length):
        draw(frames[i], red, 6, (220, 30, 30))
        draw(frames[i], blue, 6, (30, 30, 220))
        draw(frames[i], xy[i], 5 + round(5 * opening[i]), (250, 250, 250))
    position = np.concatenate([xy, np.zeros((length, 1))], axis=1)
    action = np.concatenate([position, np.tile([1.0, 0, 0, 0], (length, 1)), opening[:, None]], axis=1)
    return Episode(
        frames={"corner": frames},
        K={"corner": K},
        T_base_cam={"corner": T_BASE_CAM},
        ee_position_m=position,
        gripper_opening=opening,
        action=action,
        fps=40.0,
        instruction=INSTRUCTIONS[task],
        task=task,
        kind=kind,
        success=success,
        seed=seed,
    )


@dataclass(frozen=True)
class TinySource:
    """Episodes made when asked for."""

    count: int
    digest: str = "tiny"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Episode:
        return make_episode(index, ("door-open", "door-close")[index % 2])


@pytest.fixture(scope="session")
def episode_factory():
    return make_episode


@pytest.fixture(scope="session")
def source_factory():
    return TinySource


def observe(episode: Episode, index: int = 0) -> Observation:
    T = np.eye(4)
    T[:3, 3] = episode.ee_position_m[index]
    image = CameraImage(rgb=episode.frames["corner"][index], K=K, stamp_s=0.0, T_base_cam=T_BASE_CAM)
    state = ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=1.0, stamp_s=0.0)
    return Observation(images={"corner": image}, arm=state)


@pytest.fixture(scope="session")
def observe_episode():
    return observe
