"""Every family: built, saved, loaded by the plug-in, planned with, saved and replayed."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from cascade.contracts import ConfigError, Observation, Planner
from cascade.contracts.plan_file import load_plan, save_plan
from planner.options import FileConfig
from planner.plugins import FILE

FAMILIES = {
    "wan21-i2v": 16.0,
    "wan21-flf2v": 16.0,
    "wan22-i2v-a14b": 16.0,
    "wan22-ti2v": 24.0,
    "ltx-i2v": 25.0,
    "ltx-condition": 25.0,
    "cogvideox-i2v": 8.0,
    "cogvideox15-i2v": 16.0,
    "cosmos2-v2w": 16.0,
    "cosmos25-predict": 16.0,
    "hunyuan-i2v": 24.0,
    "skyreels": None,
}


def goal_for(name, observation):
    """The model between two images cannot do without the second one."""
    return observation.image("corner") if name == "wan21-flf2v" else None


@pytest.mark.parametrize(("name", "fps"), FAMILIES.items())
def test_a_family_plans_and_its_plan_replays(name, fps, load_tiny, observation, tmp_path):
    planner = load_tiny(name)
    plan = planner.plan(observation, "open the door", seed=3, goal=goal_for(name, observation))[0]
    assert isinstance(planner, Planner)
    assert planner.family == {"skyreels": "adapter:SkyReelsV2ImageToVideoPipeline"}.get(name, name)
    assert plan.frames.shape == (17, 128, 128, 3)
    assert plan.frames[1:].std(axis=0).max() > 1  # it moves, and not only away from the observation
    made = plan.provenance["frames_made"]
    assert plan.frame_dt_s == (None if fps is None else pytest.approx((made - 1) / fps / 16))
    json.dumps(plan.provenance)
    save_plan(plan, tmp_path)
    again = FILE.build(FileConfig(path=tmp_path)).plan(observation, "open the door", seed=0)[0]
    np.testing.assert_array_equal(again.frames, plan.frames)
    assert again.transform == plan.transform
    assert load_plan(tmp_path).provenance["family"] == planner.family


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_makes_the_same_plan_and_another_one_another(name, load_tiny, observation):
    planner = load_tiny(name)
    goal = goal_for(name, observation)
    plan, again, other = (planner.plan(observation, "open the door", seed=s, goal=goal)[0] for s in (3, 3, 4))
    np.testing.assert_array_equal(plan.frames, again.frames)
    assert (plan.frames != other.frames).any()


@pytest.mark.parametrize("name", ["wan21-flf2v", "wan22-i2v-a14b", "ltx-condition"])
def test_a_goal_image_shapes_the_plan(name, load_tiny, observation):
    planner = load_tiny(name)
    image = observation.image("corner")
    goal = dataclasses.replace(image, rgb=255 - image.rgb)
    free = planner.plan(observation, "open the door", seed=3, goal=goal_for(name, observation))[0]
    aimed = planner.plan(observation, "open the door", seed=3, goal=goal)[0]
    assert (free.frames[1:] != aimed.frames[1:]).any()


@pytest.mark.parametrize("name", ["wan21-i2v", "wan22-ti2v", "ltx-i2v", "cosmos2-v2w"])
def test_a_family_without_goals_says_so(name, load_tiny, observation):
    with pytest.raises(ConfigError, match="goal"):
        load_tiny(name).plan(observation, "open the door", seed=3, goal=observation.image("corner"))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_image_and_the_words_matter(name, load_tiny, observation):
    def plan(rgb, words):
        image = dataclasses.replace(observation.image("corner"), rgb=rgb)
        seen = Observation(images={"corner": image}, arm=observation.arm)
        return planner.plan(seen, words, seed=3, goal=goal_for(name, observation))[0].frames[1:]

    planner, rgb = load_tiny(name, prompt_profile="plain"), observation.image("corner").rgb
    frames = plan(rgb, "open the door")
    assert (frames != plan(255 - rgb, "open the door")).any()
    assert (frames != plan(rgb, "close the camera")).any()


def test_both_transformers_of_a14b_work(load_tiny, observation):
    planner = load_tiny("wan22-i2v-a14b", steps=6)
    pipe = planner._loaded.pipe
    calls = {"transformer": 0, "transformer_2": 0}
    for name in calls:
        getattr(pipe, name).register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    planner.plan(observation, "open the door", seed=0)
    assert calls["transformer"] > 0
    assert calls["transformer_2"] > 0
    assert sum(calls.values()) == 12  # two per step: with and without the words


def test_cosmos_asks_its_guardrail_every_time(load_tiny, observation, guardrail):
    planner = load_tiny("cosmos2-v2w")
    before = guardrail.texts
    for _ in range(2):
        planner.plan(observation, "open the door", seed=0)
    assert guardrail.texts == before + 2


def test_cosmos_does_not_start_without_a_guardrail(load_tiny):
    with pytest.raises(ConfigError, match="guardrail"):
        load_tiny("cosmos2-v2w", safety_checker="no_such_module:Checker")


def test_the_model_between_two_images_asks_for_the_second(load_tiny, observation):
    with pytest.raises(ConfigError, match="no goal image"):
        load_tiny("wan21-flf2v").plan(observation, "open the door", seed=0)


def test_an_adapter_can_describe_where_the_goal_goes(load_tiny, observation):
    same = {"negative_prompt": "", "guidance": 5.0, "dtype": "float32"}
    known = load_tiny("wan22-i2v-a14b", **same)
    described = load_tiny("wan22-i2v-a14b", adapter={"goal": "last_image", "fps": 16.0}, **same)
    goal = observation.image("corner")
    assert described.family == "adapter:WanImageToVideoPipeline"
    np.testing.assert_array_equal(
        described.plan(observation, "go", seed=0, goal=goal)[0].frames,
        known.plan(observation, "go", seed=0, goal=goal)[0].frames,
    )


@pytest.mark.parametrize(("name", "stored"), [("wan22-ti2v", "WanPipeline"), ("ltx-i2v", "LTXPipeline")])
def test_weights_published_as_a_text_only_pipeline_plan_from_the_image(
    name, stored, model_folder, load_tiny, observation, tmp_path
):
    copy = tmp_path / name
    shutil.copytree(model_folder(name), copy)
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": stored}))
    planner = load_tiny(name, model=str(copy))
    assert planner.family == name
    plan, known = (p.plan(observation, "go", seed=0)[0] for p in (planner, load_tiny(name)))
    np.testing.assert_array_equal(plan.frames, known.frames)
