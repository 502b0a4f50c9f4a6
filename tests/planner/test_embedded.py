from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from cascade.contracts import ConfigError, Planner, WeightsError
from planner.embedded import EmbeddedPlanner
from planner.options import EmbeddedConfig
from planner.plugins import EMBEDDED
from planner.weights import load_weights, write_sums


@pytest.fixture
def observation(episode_factory, observe_episode):
    return observe_episode(episode_factory(3, "door-open"))


@pytest.fixture(scope="session")
def loaded(weights_folder):
    return load_weights(weights_folder, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def planner(loaded):
    return EmbeddedPlanner(loaded, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="session")
def sampler(loaded):
    return EmbeddedPlanner(loaded, device=torch.device("cpu"), dtype=torch.float32, steps=3)


def test_a_plan_begins_with_what_the_camera_sees(planner, observation):
    plan = planner.plan(observation, "open the door", seed=0)[0]
    assert isinstance(planner, Planner)
    assert len(plan) == 17
    assert not plan.decoded
    np.testing.assert_array_equal(plan.frames[0], observation.image("corner").rgb)
    assert plan.frames.shape == (17, 128, 128, 3)
    assert plan.latents.values.shape == (17, 8, 16, 16)
    assert plan.latents.space.startswith("cascade-ae-1/")
    assert plan.frame_dt_s is None


def test_provenance_tells_time_per_stage_and_decoding_adds_its_own(planner, observation):
    plan = planner.plan(observation, "open the door", seed=0)[0]
    assert {"text", "encode", "denoise", "readout"} <= set(plan.provenance["ms"])
    assert "decode" not in plan.provenance["ms"]
    _ = plan.frames
    assert plan.provenance["ms"]["decode"] > 0
    json.dumps(plan.provenance)


def test_readout_is_attached_and_can_be_left_out(loaded, planner, observation):
    readout = planner.plan(observation, "open the door", seed=0)[0].readout
    assert readout.source == "planner-latents"
    assert readout.position_m.shape == (17, 3)
    assert (readout.position_std_m > 0).all()
    bare = EmbeddedPlanner(loaded, device=torch.device("cpu"), dtype=torch.float32, readout=False)
    assert bare.plan(observation, "open the door", seed=0)[0].readout is None


def test_frames_of_a_plan_differ(planner, observation):
    frames = planner.plan(observation, "open the door", seed=0)[0].latents.values
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert (steps > 1e-4).all()


def test_same_seed_same_plan_other_seed_other_plan(sampler, observation):
    one, again = (sampler.plan(observation, "open the door", seed=5)[0].latents.values for _ in range(2))
    other = sampler.plan(observation, "open the door", seed=6)[0].latents.values
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-4


def test_samples_differ_and_the_first_is_the_single_plan(sampler, observation):
    plans = sampler.plan(observation, "open the door", seed=5, samples=4)
    values = [p.latents.values for p in plans]
    assert len({p.plan_id for p in plans}) == 4
    assert all(np.abs(values[0] - v).max() > 1e-4 for v in values[1:])
    single = sampler.plan(observation, "open the door", seed=5)[0].latents.values
    np.testing.assert_allclose(values[0], single, atol=1e-4)


def test_words_and_image_change_the_plan(planner, observation, episode_factory, observe_episode):
    plan = planner.plan(observation, "open the door", seed=0)[0].latents.values
    words = planner.plan(observation, "close the door", seed=0)[0].latents.values
    image = planner.plan(observe_episode(episode_factory(9, "door-open")), "open the door", seed=0)[0].latents.values
    assert np.abs(plan[1:] - words[1:]).max() > 1e-4
    np.testing.assert_array_equal(plan[0], words[0])
    assert np.abs(plan - image).max() > 1e-4


def test_larger_images_are_scaled_and_the_transform_says_so(planner, observation):
    from dataclasses import replace

    image = observation.image("corner")
    big = replace(image, rgb=np.repeat(np.repeat(image.rgb, 2, 0), 3, 1))
    plan = planner.plan(replace(observation, images={"corner": big}), "open the door", seed=0)[0]
    assert plan.transform.crop_px == (64.0, 0.0, 256.0, 256.0)
    assert plan.frames.shape == (17, 128, 128, 3)


def test_unknown_words_without_encoder_are_refused(planner, observation):
    with pytest.raises(ConfigError, match=r"cascade-wam\[text\]"):
        planner.plan(observation, "juggle three torches", seed=0)


@pytest.mark.parametrize("text", ["", "  ?! "])
def test_no_words_are_refused(planner, observation, text):
    with pytest.raises(ConfigError, match="instruction"):
        planner.plan(observation, text, seed=0)


def test_a_goal_image_is_refused(planner, observation):
    with pytest.raises(ConfigError, match="goal"):
        planner.plan(observation, "open the door", seed=0, goal=observation.image("corner"))


def test_weights_survive_the_disk(random_weights, loaded):
    for name in ("autoencoder", "unet", "readout"):
        before, after = getattr(random_weights, name).state_dict(), getattr(loaded, name).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.allclose(before[k], after[k], atol=1e-2, rtol=1e-2) for k in before)
    assert loaded.settings == random_weights.settings


def test_the_plug_in_loads_a_folder(weights_folder, observation):
    planner = EMBEDDED.build(EmbeddedConfig(weights=weights_folder, steps=2))
    plan = planner.plan(observation, "Open the door!", seed=0)[0]
    assert plan.provenance["steps"] == 2
    assert plan.provenance["weights"]


@pytest.fixture
def broken(weights_folder, tmp_path):
    return shutil.copytree(weights_folder, tmp_path / "broken")


def load(folder):
    return load_weights(folder, dtype=torch.float32, device=torch.device("cpu"))


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(WeightsError, match="cascade train planner"):
        EMBEDDED.build(EmbeddedConfig(weights=tmp_path / "nowhere"))


def test_a_corrupt_file_is_refused(broken):
    path = broken / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="corrupt"):
        load(broken)


def test_a_missing_file_is_refused(broken):
    (broken / "text_table.safetensors").unlink()
    with pytest.raises(WeightsError, match="text_table"):
        load(broken)


def test_another_format_is_refused(broken):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "format": "cascade-planner-9"}))
    write_sums(broken)
    with pytest.raises(WeightsError, match="cascade-planner-9"):
        load(broken)


def test_truncated_networks_with_matching_sums_are_refused(broken):
    path = broken / "ae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    write_sums(broken)
    with pytest.raises(WeightsError, match="broken"):
        load(broken)
