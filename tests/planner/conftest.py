"""A tiny world: a white hand goes to the red or to the blue goal, as the words say, and closes there."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def make_wide_episode(seed: int, task: str) -> Episode:
    """The same from two cameras with images of 192 x 128; the second stands upside down."""
    plain = make_episode(seed, task)
    wide = np.pad(plain.frames["corner"], ((0, 0), (0, 0), (32, 32), (0, 0)), constant_values=90)
    wide_K = K + np.array([[0, 0, 32.0], [0, 0, 0], [0, 0, 0]])
    turned = T_BASE_CAM @ np.diag([-1.0, -1, 1, 1])
    return replace(
        plain,
        frames={"corner": wide, "side": wide[:, ::-1, ::-1].copy()},
        K={"corner": wide_K, "side": wide_K},
        T_base_cam={"corner": T_BASE_CAM, "side": turned},
    )


@pytest.fixture(scope="session")
def wide_factory():
    return make_wide_episode


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


def observe(episode: Episode, index: int = 0, cameras: tuple[str, ...] = ("corner",)) -> Observation:
    T = np.eye(4)
    T[:3, 3] = episode.ee_position_m[index]
    images = {
        name: CameraImage(
            rgb=episode.frames[name][index], K=episode.K[name], stamp_s=0.0, T_base_cam=episode.T_base_cam[name]
        )
        for name in cameras
    }
    state = ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=1.0, stamp_s=0.0)
    return Observation(images=images, arm=state)


@pytest.fixture(scope="session")
def observe_episode():
    return observe


def tiny_weights(seed: int = 0):
    """Random weights of the right form: what they imagine is nonsense, but all of the path is real."""
    import torch

    from planner.networks.autoencoder import FrameAutoencoder
    from planner.networks.readout import LatentReadout
    from planner.networks.unet import PlanUNet
    from planner.phrases import normalised
    from planner.text import PhraseTable
    from planner.weights import PlannerWeights, Scales, Settings

    torch.manual_seed(seed)
    unet = PlanUNet(width=16, condition=32, stem=16, points=4, tasks=2)
    for parameter in unet.parameters():  # layers that begin at zero would make every plan the same
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    table = PhraseTable({normalised(p): r for p, r in zip(INSTRUCTIONS.values(), rows, strict=True)})
    eight = (0.0,) * 8, (1.0,) * 8
    scales = Scales(*eight, *eight, (0.0, 0.6, 0.1), (0.1, 0.1, 0.1), 0.7, 0.3)
    settings = Settings("corner", SIZE, 16, 1, scales, tuple(INSTRUCTIONS), provenance={"data": "none"})
    return PlannerWeights(FrameAutoencoder(width=16), unet, LatentReadout(width=8), table, settings, "")


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory):
    from planner.training.card import model_card
    from planner.weights import save_weights

    folder = tmp_path_factory.mktemp("weights") / "embedded"
    weights = tiny_weights()
    save_weights(weights, folder, card=model_card(weights.settings))
    return folder


@pytest.fixture(scope="session")
def random_weights():
    return tiny_weights()
