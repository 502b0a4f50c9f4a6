"""Latents in place of videos: every family stops where it is told, hands on what it holds, decodes when looked at."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cascade.contracts import ConfigError
from cascade.contracts.plan_file import load_plan, save_plan

BLOCKS = {"wan": "transformer.blocks.0"}
FAMILIES = (
    "wan21-i2v",
    "wan22-i2v-a14b",
    "wan22-ti2v",
    "ltx-i2v",
    "ltx-condition",
    "cogvideox-i2v",
    "cogvideox15-i2v",
    "cosmos2-v2w",
    "cosmos25-predict",
    "hunyuan-i2v",
)
# One of each scheduler by default, the others where there is time.
KINDS = {"wan21-i2v", "ltx-condition", "cogvideox-i2v", "cosmos2-v2w", "hunyuan-i2v"}
STOPPED = [name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
EXACT = sorted(set(FAMILIES) - {"ltx-condition"})  # it lays fresh noise on the given image in every step


@pytest.fixture(scope="module")
def made(load_tiny):
    """Function from a family and options to a planner; a family's pipeline is loaded once."""
    from planner.diffusers_planner.latent_planner import LatentDiffusersPlanner
    from planner.diffusers_planner.planner import DiffusersPlanner

    loaded = {}

    def make(name, **more):
        if name not in loaded:
            planner = load_tiny(name, output="latent", steps=2)
            assert isinstance(planner, LatentDiffusersPlanner)
            loaded[name] = planner
        options = loaded[name]._options.model_copy(update=more)
        kind = DiffusersPlanner if more.get("output") == "video" else LatentDiffusersPlanner
        return kind(options, loaded[name]._loaded)

    return make


def tap(name):
    return BLOCKS.get(name[:3], "transformer.transformer_blocks.0")


def plan(planner, observation, seed=3):
    return planner.plan(observation, "open the door", seed=seed)[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_latents_are_handed_on_and_decode_to_the_video_that_would_have_been(name, made, observation):
    latent, video = plan(made(name), observation), plan(made(name, output="video"), observation)

    assert not latent.decoded
    assert latent.latents.values.ndim == 4
    assert latent.latents.space.startswith(f"{name}/")
    if name != "hunyuan-i2v":  # it makes 4 frames fewer than asked for, of which only its video tells
        assert latent.frame_dt_s == pytest.approx(video.frame_dt_s, rel=0.2)
    off = np.abs(latent.frames.astype(int) - video.frames)
    assert off.max() <= 1 if name in EXACT else off.mean() < 5
    assert "decode" in latent.provenance["ms"]
    json.dumps(latent.provenance)


@pytest.mark.parametrize("name", STOPPED)
def test_denoising_stops_at_the_level_asked_for_and_shows_what_it_expected(name, made, observation):
    part = plan(made(name, stop_at=0.9, steps=4), observation)
    whole = plan(made(name, steps=4), observation)

    assert 1 <= part.provenance["steps_done"] < 4
    assert 0 < part.provenance["stopped_at"] <= 0.9
    assert part.latents.values.shape == whole.latents.values.shape
    assert part.latents.space == f"{whole.latents.space}/latent@{round(part.provenance['stopped_at'], 3):.3g}"
    assert not np.allclose(part.latents.values, whole.latents.values, atol=1e-3)
    assert part.frames.shape == (17, 128, 128, 3)
    assert (part.frames[0] == whole.frames[0]).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_block_is_tapped_in_the_first_pass(name, made, observation):
    planner = made(name, tap=tap(name))
    passes = []
    hook = planner._loaded.pipe.transformer.register_forward_pre_hook(lambda *_: passes.append(1))
    tapped = plan(planner, observation)
    hook.remove()

    assert len(passes) == 1
    length, width, height, wide = tapped.latents.values.shape
    assert min(length, height, wide) >= 1
    assert width >= 8
    before, _, level = tapped.latents.space.partition(f"/{tap(name)}@")
    assert before.startswith(f"{name}/")
    assert float(level) > 0.5  # schedules of few steps may begin below pure noise
    assert np.abs(tapped.latents.values - plan(planner, observation, seed=4).latents.values).max() > 1e-4
    np.testing.assert_array_equal(tapped.latents.values, plan(planner, observation).latents.values)


def test_a_tapped_plan_can_be_looked_at_and_saved(made, observation, tmp_path):
    tapped = plan(made("wan21-i2v", tap="transformer.blocks.1"), observation)

    assert not tapped.decoded
    stored = load_plan(save_plan(tapped, tmp_path))
    assert stored.frames.shape == (17, 128, 128, 3)
    np.testing.assert_array_equal(stored.latents.values, tapped.latents.values)
    assert stored.latents.space == tapped.latents.space


def test_a_tap_at_a_level_hears_the_pass_that_comes_there(made, observation):
    planner = made("wan21-i2v", tap="transformer.blocks.1", stop_at=0.9, steps=4)
    late, early = plan(planner, observation), plan(made("wan21-i2v", tap="transformer.blocks.1"), observation)

    assert 1 <= late.provenance["steps_done"] < 4
    assert early.provenance["steps_done"] == 0
    assert late.latents.space != early.latents.space


@pytest.mark.parametrize("path", ["transformer.blocks.99", "blocks.0", "vae.encoder"])
def test_a_tap_that_is_not_there_is_refused_at_once(path, made):
    with pytest.raises(ConfigError, match="tap"):
        made("wan21-i2v", tap=path)


def test_the_scheduler_is_left_as_it_was(made, observation):
    planner = made("wan21-i2v")
    plan(planner, observation).frames  # noqa: B018
    assert "step" not in vars(planner._loaded.pipe.scheduler)
