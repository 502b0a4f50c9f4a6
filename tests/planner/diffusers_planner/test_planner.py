"""What holds for every family is shown on one: frames, seeds, progress, cancellation, memory, wrong models."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from cascade.contracts import ConfigError, DataError, OperatorStop, WeightsError
from cascade.testing import check_planner
from planner.diffusers_planner.loading import fingerprint
from planner.plugins import DIFFUSERS, DiffusersConfig

PEFT = importlib.util.find_spec("peft") is not None


def test_frame_0_is_the_observation_and_the_model_s_own_is_compared_with_it(load_tiny, observation):
    plan = load_tiny("ltx-i2v", size_px=96).plan(observation, "open the door", seed=0)[0]
    np.testing.assert_array_equal(plan.frames[0], observation.image("corner").rgb[:, 16:112])
    assert plan.transform.crop_px == (16, 0, 96, 96)
    assert plan.provenance["first_frame_error"] > 5  # random weights do not copy


def test_it_keeps_the_contract_that_plug_in_authors_are_given(load_tiny, observation):
    check_planner(load_tiny("ltx-i2v"), observation, "open the door", seed=3)


def test_plan_size_frames_and_time_follow_the_options(load_tiny, observation):
    plan = load_tiny("ltx-i2v", size_px=64, frames=5, num_frames=17, fps=8).plan(observation, "go", seed=0)[0]
    assert plan.frames.shape == (5, 64, 64, 3)
    assert plan.frame_dt_s == pytest.approx(16 / 8 / 4)
    assert plan.transform.size_px == (64, 64)
    assert load_tiny("ltx-i2v", fps=0).plan(observation, "go", seed=0)[0].frame_dt_s is None


def test_samples_differ_and_the_first_is_the_only_one(load_tiny, observation):
    planner = load_tiny("ltx-i2v")
    one = planner.plan(observation, "go", seed=5)
    two = planner.plan(observation, "go", seed=5, samples=2)
    np.testing.assert_array_equal(one[0].frames, two[0].frames)
    assert (two[0].frames != two[1].frames).any()
    assert [plan.provenance["sample"] for plan in two] == [0, 1]


def test_a_fixed_seed_takes_the_place_of_the_run_s(load_tiny, observation):
    planner = load_tiny("ltx-i2v", seed=9)
    first, second = (planner.plan(observation, "go", seed=s)[0] for s in (1, 2))
    np.testing.assert_array_equal(first.frames, second.frames)
    assert first.seed == 9


def test_progress_is_told_after_every_step(load_tiny, observation):
    planner, seen = load_tiny("ltx-i2v", steps=3), []
    planner.on_step = lambda *step: seen.append(step)
    planner.plan(observation, "go", seed=0, samples=2)
    assert seen == [(0, 1, 3), (0, 2, 3), (0, 3, 3), (1, 1, 3), (1, 2, 3), (1, 3, 3)]


@pytest.mark.parametrize("name", ["ltx-i2v", "wan22-ti2v"])
def test_cancelling_ends_within_one_step_and_the_next_plan_is_whole(name, load_tiny, observation):
    planner, seen = load_tiny(name, steps=4), []

    def on_step(sample, done, steps):
        seen.append(done)
        if done == 2:
            planner.cancel()

    planner.on_step = on_step
    with pytest.raises(OperatorStop, match="3 of 4"):
        planner.plan(observation, "go", seed=0)
    assert seen == [1, 2]
    planner.on_step = None
    after = planner.plan(observation, "go", seed=0)[0]
    fresh = load_tiny(name, steps=4).plan(observation, "go", seed=0)[0]
    np.testing.assert_array_equal(after.frames, fresh.frames)


def test_a_pipeline_without_callbacks_is_watched_at_its_scheduler():
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    from planner.diffusers_planner.watching import watching

    class Loop:
        scheduler = FlowMatchEulerDiscreteScheduler()

        def __call__(self, steps):
            self.scheduler.set_timesteps(steps)
            x = torch.ones(1, 4)
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(x, t, x, return_dict=False)[0]

    pipe, seen = Loop(), []
    with watching(pipe, lambda done, latents: seen.append((done, tuple(latents.shape)))) as more:
        pipe(3, **more)
    assert seen == [(1, (1, 4)), (2, (1, 4)), (3, (1, 4))]
    pipe(2)
    assert len(seen) == 3


def test_text_is_encoded_once_per_sentence(load_tiny, observation):
    planner = load_tiny("ltx-i2v")
    calls = []
    planner._loaded.pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    planner.plan(observation, "open the door", seed=0, samples=2)
    once = len(calls)
    planner.plan(observation, "open the door", seed=1)
    assert len(calls) == once == 2  # the words, and what not to show
    planner.plan(observation, "close the door", seed=1)
    assert len(calls) > once


@pytest.mark.parametrize("name", ["wan22-i2v-a14b", "ltx-condition", "cogvideox-i2v"])
def test_the_kept_text_is_what_the_pipeline_itself_would_have_encoded(name, load_tiny, observation):
    planner = load_tiny(name, dtype="float32", negative_prompt="fixed camera")
    kept = planner.plan(observation, "open the door", seed=0)[0]
    planner._words = lambda prompt: {"prompt": prompt, "negative_prompt": "fixed camera"}
    own = planner.plan(observation, "open the door", seed=0)[0]
    np.testing.assert_array_equal(kept.frames, own.frames)


def test_without_guidance_the_model_runs_once_per_step(load_tiny, observation):
    calls = []
    planner = load_tiny("wan22-ti2v", guidance=1.0)
    planner._loaded.pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    planner.plan(observation, "open the door", seed=0)
    assert len(calls) == 2


def test_further_arguments_reach_the_pipeline(load_tiny, observation):
    plain = load_tiny("ltx-i2v").plan(observation, "go", seed=0)[0]
    rescaled = load_tiny("ltx-i2v", call={"guidance_rescale": 0.7}).plan(observation, "go", seed=0)[0]
    assert (plain.frames != rescaled.frames).any()


@pytest.mark.parametrize(
    ("call", "match"), [({"guidance_rescal": 1}, "guidance_rescale"), ({"num_frames": 9}, "set by the planner")]
)
def test_wrong_further_arguments_are_found_when_loading(call, match, load_tiny):
    with pytest.raises(ConfigError, match=match):
        load_tiny("ltx-i2v", call=call)


def test_running_out_of_memory_says_what_to_lower(load_tiny, observation):
    planner = load_tiny("wan22-i2v-a14b", num_frames=4 * 10**9 + 1)  # no machine has these 50 TB
    with pytest.raises(ConfigError, match=r"out of memory while making 4000000001 frames of 64x64.*lower num_frames"):
        planner.plan(observation, "go", seed=0)


def test_a_model_that_makes_nan_is_caught_at_once(load_tiny, observation):
    import torch

    planner, seen = load_tiny("ltx-i2v", steps=3), []
    planner.on_step = lambda *step: seen.append(step)
    with torch.no_grad():
        next(planner._loaded.pipe.transformer.parameters()).fill_(torch.nan)
    with pytest.raises(DataError, match="NaN after step 1 of 3"):
        planner.plan(observation, "go", seed=0)
    assert seen == []


def test_half_precision_runs_and_the_decoder_stays_precise(load_tiny, observation):
    import torch

    planner = load_tiny("wan22-ti2v", dtype="bfloat16")
    assert planner._loaded.pipe.transformer.dtype == torch.bfloat16
    assert planner._loaded.pipe.vae.dtype == torch.float32
    assert planner.plan(observation, "go", seed=0)[0].provenance["dtype"] == "bfloat16"


def test_an_unknown_camera_and_an_empty_instruction_are_refused(load_tiny, observation):
    with pytest.raises(DataError, match="corner"):
        load_tiny("ltx-i2v", camera="wrist").plan(observation, "go", seed=0)
    with pytest.raises(ConfigError, match="instruction"):
        load_tiny("ltx-i2v").plan(observation, "", seed=0)


@pytest.mark.skipif(PEFT, reason="peft is installed")
def test_a_lora_says_that_it_needs_peft(load_tiny):
    with pytest.raises(ConfigError, match="pip install peft"):
        load_tiny("ltx-i2v", loras=({"path": "some/lora"},))


def save_lora(pipe, folder, seed, second=False):
    """Write a random LoRA as diffusers' training scripts do."""
    import torch
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(seed)
    transformer = pipe.transformer_2 if second else pipe.transformer
    transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    type(pipe).save_lora_weights(folder, transformer_lora_layers=get_peft_model_state_dict(transformer))
    return str(folder)


@pytest.mark.skipif(not PEFT, reason='needs peft: pip install "cascade-wam[diffusers]"')
@pytest.mark.parametrize("name", ["ltx-i2v", "wan22-i2v-a14b"])
def test_loras_change_the_plan_by_their_scale(name, load_tiny, observation, tmp_path):
    def plan(*loras):
        return load_tiny(name, dtype="float32", steps=4, loras=loras).plan(observation, "go", seed=0)[0].frames

    second = name == "wan22-i2v-a14b"
    one = save_lora(load_tiny(name)._loaded.pipe, tmp_path / "one", 1)
    two = save_lora(load_tiny(name)._loaded.pipe, tmp_path / "two", 2, second)
    bare, off = plan(), plan({"path": one, "scale": 0.0})
    np.testing.assert_array_equal(bare, off)
    first, both = plan({"path": one}), plan({"path": one}, {"path": two, "second_transformer": second})
    assert (bare != first).any()
    assert (first != both).any()
    again = plan({"path": one}, {"path": two, "second_transformer": second, "scale": 0.0})
    np.testing.assert_array_equal(first, again)


@pytest.mark.skipif(not PEFT, reason='needs peft: pip install "cascade-wam[diffusers]"')
def test_a_missing_lora_is_named(load_tiny, tmp_path):
    with pytest.raises(WeightsError, match="nothing_here"):
        load_tiny("ltx-i2v", loras=({"path": str(tmp_path / "nothing_here")},))


def test_offloading_says_that_it_needs_a_gpu(load_tiny):
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(ConfigError, match="GPU"):
        load_tiny("ltx-i2v", offload="model")


def build(**options):
    return DIFFUSERS.build(DiffusersConfig(**options))


def test_no_model_a_missing_folder_and_an_uncached_id_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="`model`"):
        build()
    with pytest.raises(WeightsError, match="Check the path"):
        build(model=str(tmp_path / "nothing"))
    with pytest.raises(WeightsError, match=r"model_index\.json"):
        build(model=str(tmp_path))
    with pytest.raises(WeightsError, match=r"local cache.*hf download nobody/no-such-model"):
        build(model="nobody/no-such-model")


@pytest.mark.parametrize(
    ("index", "error", "match"),
    [
        ("{broken", WeightsError, "broken"),
        ('{"_class_name": "StableDiffusionPipeline"}', ConfigError, "image-to-video"),
        ('{"_class_name": "WanPipeline"}', ConfigError, "sees no image"),
        ('{"_class_name": "WanImageToVideoPipeline", "vae": ["diffusers", "AutoencoderKLWan"]}', WeightsError, "Wan"),
    ],
)
def test_folders_that_hold_something_else_are_named(index, error, match, tmp_path):
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(error, match=match):
        build(model=str(tmp_path))


def test_an_adapter_must_fit_the_call(load_tiny):
    with pytest.raises(ConfigError, match=r"no argument 'first_image'"):
        load_tiny("skyreels", adapter={"image": "first_image"})


def test_the_fingerprint_follows_the_weights(model_folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model_folder("ltx-i2v"), copy)
    before = fingerprint(copy)
    assert before == fingerprint(model_folder("ltx-i2v"))
    path = next((copy / "transformer").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert fingerprint(copy) != before
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"shift": 9.0}))
    assert len({before, fingerprint(copy)}) == 2
