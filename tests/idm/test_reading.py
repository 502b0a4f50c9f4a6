"""Reading plans: how well, how surely, and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.contracts import EeReadout, ImageTransform, IncompatibleError, VideoPlan
from idm.plugins import IDM
from idm.reading import PlanFrameReader, fuse, progress_of
from idm.weights import load_network


def readout(position: float, std: float, source: str) -> EeReadout:
    return EeReadout(
        position_m=np.full((2, 3), position),
        opening=np.full(2, position),
        position_std_m=np.full(2, std),
        opening_std=np.full(2, std),
        source=source,
    )


@pytest.fixture
def reader(trained: Path) -> PlanFrameReader:
    return PlanFrameReader(load_network(trained), threads=1)


def test_an_unseen_episode_is_read_within_centimetres(reader: PlanFrameReader, scene: SimpleNamespace) -> None:
    episode = scene.play_episode(99)
    seen = reader.read(scene.plan_of(episode), scene.observation_at(episode.ee_position_m[0], 1.0))

    assert np.linalg.norm(seen.position_m - episode.ee_position_m, axis=1).mean() < 0.1
    assert (seen.position_std_m > 0).all()
    assert seen.progress is not None
    assert seen.progress[0] == 0
    assert seen.progress[-1] == 1
    assert (np.diff(seen.progress) > 0).all()


def test_frames_of_twice_the_size_are_read_alike(reader: PlanFrameReader, scene: SimpleNamespace) -> None:
    episode = scene.play_episode(98)
    observation = scene.observation_at(episode.ee_position_m[0], 1.0)
    large = VideoPlan(
        instruction="",
        camera="corner",
        transform=ImageTransform.centre_square(128, 128, 256),
        frames=episode.frames["corner"].repeat(2, 1).repeat(2, 2),
    )

    small_readout, large_readout = (reader.read(p, observation) for p in (scene.plan_of(episode), large))

    assert np.abs(small_readout.position_m - large_readout.position_m).max() < 0.05


def test_the_bias_seen_in_frame_0_is_taken_off_and_fades(trained: Path, scene: SimpleNamespace) -> None:
    episode = scene.play_episode(97)
    net = load_network(trained)
    observation = scene.observation_at(episode.ee_position_m[0], 1.0)
    plain = PlanFrameReader(net).read(scene.plan_of(episode), observation)
    corrected = PlanFrameReader(net, bias_frames=3).read(scene.plan_of(episode), observation)

    np.testing.assert_allclose(corrected.position_m[0], episode.ee_position_m[0], atol=1e-6)
    moved = np.linalg.norm(corrected.position_m - plain.position_m, axis=1)
    assert moved[-1] < 0.01 * moved[0] + 1e-9


def test_another_camera_is_refused(trained: Path, scene: SimpleNamespace) -> None:
    extractor = IDM.build(IDM.config(weights=trained))
    episode = scene.play_episode(0)

    with pytest.raises(IncompatibleError, match="top"):
        extractor.extract(
            scene.plan_of(episode, camera="top"), scene.observation_at(episode.ee_position_m[0], 1.0, camera="top")
        )


def test_another_field_of_view_is_refused(reader: PlanFrameReader, scene: SimpleNamespace) -> None:
    episode = scene.play_episode(0)
    plan = VideoPlan(
        instruction="",
        camera="corner",
        transform=ImageTransform(crop_px=(30, 30, 64, 64), size_px=(128, 128)),
        frames=episode.frames["corner"],
    )

    with pytest.raises(IncompatibleError, match="intrinsics"):
        reader.read(plan, scene.observation_at(episode.ee_position_m[0], 1.0))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 0.1), st.floats(0.001, 0.1))
def test_fusing_lies_between_both_and_is_surer_than_either(a: float, b: float, s: float, t: float) -> None:
    both = fuse(readout(a, s, "idm-pixels"), readout(b, t, "planner-latents"), "variance")

    assert min(a, b) - 1e-9 <= both.position_m[0, 0] <= max(a, b) + 1e-9
    assert both.position_std_m[0] <= min(s, t) + 1e-12
    assert both.source == "idm-pixels+planner-latents"


def test_one_side_can_be_chosen_and_must_be_there() -> None:
    mine, theirs = readout(0.1, 0.1, "idm-pixels"), readout(0.2, 0.1, "planner-latents")

    assert fuse(mine, theirs, "pixels") is mine
    assert fuse(mine, theirs, "latents") is theirs
    assert fuse(mine, None, "variance") is mine
    with pytest.raises(IncompatibleError, match="fuse"):
        fuse(mine, None, "latents")


def test_progress_never_stands_still() -> None:
    np.testing.assert_array_less(0, np.diff(progress_of(np.array([0.0, 0.1, -0.3, 0.2]))))
