from __future__ import annotations

import numpy as np
import pytest

from cascade.contracts import ConfigError, DataError, Planner
from cascade.contracts.plan_file import save_plan
from cascade.contracts.video import write_mp4
from planner.options import FileConfig, HoldConfig
from planner.plugins import FILE, HOLD


@pytest.fixture
def episode(episode_factory):
    return episode_factory(3, "door-open", length=40)


@pytest.fixture
def observation(episode, observe_episode):
    return observe_episode(episode)


def file_plan(observation, **options):
    return FILE.build(FileConfig(**options)).plan(observation, "open the door", seed=0)[0]


def test_hold_repeats_the_image(observation):
    planner = HOLD.build(HoldConfig())
    plans = planner.plan(observation, "anything", seed=1, samples=2)
    assert isinstance(planner, Planner)
    assert len(plans) == 2
    assert len(plans[0]) == 17
    assert (plans[0].frames == observation.image("corner").rgb).all()


def test_hold_scales_to_the_asked_size(observation):
    plan = HOLD.build(HoldConfig(size_px=64)).plan(observation, "anything", seed=1)[0]
    assert plan.frames.shape == (17, 64, 64, 3)
    assert plan.transform.scale == (0.5, 0.5)


def test_a_video_becomes_a_plan_from_its_first_to_its_last_frame(episode, observation, tmp_path):
    frames = episode.frames["corner"]
    write_mp4(tmp_path / "v.mp4", frames, 20.0, exact_colour=True, crf=4)
    plan = file_plan(observation, path=tmp_path / "v.mp4")
    assert plan.frames.shape == (17, 128, 128, 3)
    assert np.abs(plan.frames[0].astype(int) - frames[0]).mean() < 4
    assert np.abs(plan.frames[-1].astype(int) - frames[-1]).mean() < 4
    assert plan.frame_dt_s == pytest.approx(39 / 16 / 20.0)


def test_part_of_a_video_can_be_used(episode, observation, tmp_path):
    frames = episode.frames["corner"]
    write_mp4(tmp_path / "v.mp4", frames, 20.0, exact_colour=True, crf=4)
    plan = file_plan(observation, path=tmp_path / "v.mp4", start_frame=10, frame_count=11, frames=3)
    assert np.abs(plan.frames[0].astype(int) - frames[10]).mean() < 4
    assert np.abs(plan.frames[-1].astype(int) - frames[20]).mean() < 4


def test_wide_videos_are_cropped_to_their_centre(observation, tmp_path):
    wide = np.zeros((6, 64, 96, 3), np.uint8)
    wide[:, :, 16:80] = 200
    write_mp4(tmp_path / "wide.mp4", wide, 10.0)
    plan = file_plan(observation, path=tmp_path / "wide.mp4", size_px=32)
    assert plan.frames.shape == (17, 32, 32, 3)
    assert plan.frames[:, :, 2:-2].mean() > 190


def test_a_saved_plan_comes_back_as_it_was(observation, tmp_path):
    plan = HOLD.build(HoldConfig(frames=5)).plan(observation, "close the door", seed=4)[0]
    save_plan(plan, tmp_path / "plan")
    for path in (tmp_path, tmp_path / "plan", tmp_path / "plan" / "plan.safetensors"):
        again = file_plan(observation, path=path)
        np.testing.assert_array_equal(again.frames, plan.frames)
        assert again.transform == plan.transform


def test_a_saved_plan_of_another_size_is_scaled(observation, tmp_path):
    plan = HOLD.build(HoldConfig(frames=5)).plan(observation, "close the door", seed=4)[0]
    save_plan(plan, tmp_path)
    again = file_plan(observation, path=tmp_path, size_px=64)
    assert again.frames.shape == (5, 64, 64, 3)
    assert again.transform.crop_px == plan.transform.crop_px


@pytest.mark.parametrize("name", ["missing.mp4", "broken.mp4", "broken.safetensors", "empty_folder"])
def test_bad_files_are_data_errors(name, observation, tmp_path):
    path = tmp_path / name
    if name == "empty_folder":
        path.mkdir()
    elif name.startswith("broken"):
        path.write_bytes(b"not a video at all" * 100)
    with pytest.raises(DataError, match=name):
        file_plan(observation, path=path)


def test_a_video_of_one_frame_is_too_short(observation, tmp_path):
    write_mp4(tmp_path / "one.mp4", np.zeros((1, 32, 32, 3), np.uint8), 10.0)
    with pytest.raises(DataError, match="2 frames"):
        file_plan(observation, path=tmp_path / "one.mp4")


def test_no_path_is_a_config_error():
    with pytest.raises(ConfigError, match="path"):
        FILE.build(FileConfig())


def test_another_camera_is_named(observation):
    with pytest.raises(DataError, match="corner"):
        HOLD.build(HoldConfig(camera="wrist")).plan(observation, "x", seed=0)
