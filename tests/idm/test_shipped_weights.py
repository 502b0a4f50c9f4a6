"""The weights that ship read the simulated arm where it is."""

from collections.abc import Iterator

import numpy as np
import pytest

from cascade.config import load_rig
from cascade.contracts import ImageTransform, Rig, VideoPlan
from cascade.plugins import build_plugin
from idm.extractor import InverseDynamicsExtractor
from idm.plugins import IDM
from idm.weights import CARD_FILE, SUMS_FILE, shipped_weights


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    config = load_rig("sim")
    with build_plugin("rig", config.plugin, {**config.options, "cameras": ["corner"]}) as built:
        yield built


@pytest.fixture(scope="module")
def extractor() -> InverseDynamicsExtractor:
    return IDM.build(IDM.config(threads=1))


def test_they_are_small_and_carry_a_card_and_sums() -> None:
    assert shipped_weights()
    for folder in shipped_weights():
        assert sum(p.stat().st_size for p in folder.iterdir()) < 2.3e6
        assert (folder / CARD_FILE).is_file()
        assert (folder / SUMS_FILE).is_file()


@pytest.mark.parametrize("task", ["door-open", "basketball", "button-press"])
def test_the_hand_is_read_within_three_centimetres_on_the_way(
    task: str, rig: Rig, extractor: InverseDynamicsExtractor
) -> None:
    rig.reset(task=task, seed=42)
    start = rig.observe()
    pose = np.array([*start.arm.position_m, 0.7071068, 0, 0.7071068, 0])
    frames, truth = [start.image("corner").rgb], [(start.arm.position_m, start.arm.gripper_opening)]
    for _ in range(4):
        pose[:3] += [0.03, 0.02, -0.01]
        for _ in range(8):
            rig.arm.send(pose, 1.0)
            rig.clock.tick()
        seen = rig.observe()
        frames.append(seen.image("corner").rgb)
        truth.append((seen.arm.position_m, seen.arm.gripper_opening))
    plan = VideoPlan(
        instruction="", camera="corner", transform=ImageTransform.centre_square(128, 128, 128), frames=np.stack(frames)
    )

    readout = extractor.read(plan, start)

    error_m = np.linalg.norm(readout.position_m - np.array([p for p, _ in truth]), axis=1)
    assert error_m.max() < 0.03
    assert np.abs(readout.opening - [o for _, o in truth]).max() < 0.15
