"""What makes a large model smaller or quicker: 8-bit weights, kept embeddings, few-step LoRAs."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from cascade.contracts import ConfigError
from planner.diffusers_planner.options import LoraConfig
from planner.diffusers_planner.planner import carried


@pytest.mark.parametrize("name", ["wan21-i2v", "wan22-i2v-a14b", "ltx-i2v"])
def test_float8_weights_take_a_quarter_and_still_plan(name, load_tiny, observation):
    import torch

    planner = load_tiny(name, quantise="float8", dtype="float32")
    network = planner._loaded.pipe.transformer
    kept = [p.dtype for n, p in network.named_parameters() if ".to_q.weight" in n]
    assert set(kept) == {torch.float8_e4m3fn}
    plan, whole = (p.plan(observation, "go", seed=0)[0] for p in (planner, load_tiny(name, dtype="float32")))
    assert plan.provenance["quantise"] == "float8"
    difference = np.abs(plan.frames.astype(float) - whole.frames).mean()
    assert 0 < difference < 20  # other arithmetic, the same video


HAS_TORCHAO = importlib.util.find_spec("torchao") is not None  # make test runs this file without it, then with it


@pytest.mark.skipif(not HAS_TORCHAO, reason="run with torchao afterwards")
@pytest.mark.parametrize("name", ["wan22-i2v-a14b", "ltx-i2v"])
def test_int8_weights_still_plan(name, load_tiny, observation):
    plan, whole = (
        load_tiny(name, dtype="float32", **more).plan(observation, "go", seed=0)[0]
        for more in ({"quantise": "int8"}, {})
    )
    assert 0 < np.abs(plan.frames.astype(float) - whole.frames).mean() < 20


without_torchao = pytest.mark.skipif(HAS_TORCHAO, reason="runs without torchao")


@pytest.mark.parametrize("quantise", ["bnb-int8", "bnb-nf4", pytest.param("int8", marks=without_torchao)])
def test_a_missing_package_or_gpu_is_named(quantise, load_tiny):
    with pytest.raises(ConfigError, match="float8"):
        load_tiny("wan21-i2v", quantise=quantise, device="cpu")


def test_embeddings_survive_the_process(load_tiny, observation, tmp_path):
    first = load_tiny("ltx-i2v", prompt_cache=tmp_path)
    plan = first.plan(observation, "open the door", seed=0)[0]
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == 1
    second = load_tiny("ltx-i2v", prompt_cache=tmp_path)
    second._loaded.pipe.text_encoder = None  # not needed any more
    np.testing.assert_array_equal(second.plan(observation, "open the door", seed=0)[0].frames, plan.frames)
    files[0].write_bytes(b"cut off")
    third = load_tiny("ltx-i2v", prompt_cache=tmp_path)
    np.testing.assert_array_equal(third.plan(observation, "open the door", seed=0)[0].frames, plan.frames)


def test_a_few_step_lora_brings_its_steps_and_guidance():
    loras = [LoraConfig(path="a", steps=4, guidance=1.0), LoraConfig(path="b", steps=8), LoraConfig(path="c")]
    assert carried(loras, "steps") == 8
    assert carried(loras, "guidance") == 1.0
    assert carried([], "steps") is None
