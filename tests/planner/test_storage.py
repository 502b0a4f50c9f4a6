"""Weights in 8 bits: how far they may be off, and that a folder in that form plans like the one in 16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import WeightsError
from cascade.contracts.compact import packed, unpacked
from planner.embedded import EmbeddedPlanner
from planner.weights import load_weights, save_weights


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=30)
def test_no_weight_is_off_by_more_than_half_a_step_of_its_channel(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = size * torch.randn((40, 8, 3, 3), generator=generator) * torch.logspace(-2, 0, 40)[:, None, None, None]
    stored = packed({"w": weight})
    assert stored["w"].dtype is torch.int8
    step = stored["w:scale"][:, None, None, None]
    assert torch.all((unpacked(stored)["w"] - weight).abs() <= 0.501 * step)


def test_small_tensors_keep_their_sixteen_bits_and_empty_channels_stay_zero() -> None:
    state = {"bias": torch.randn(64), "w": torch.zeros(40, 40)}
    again = unpacked(packed(state))
    assert packed(state)["bias"].dtype is torch.float16
    torch.testing.assert_close(again["bias"], state["bias"], atol=2e-3, rtol=2e-3)
    assert not again["w"].any()


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(WeightsError, match="'w'"):
        packed({"w": torch.full((40, 40), float("nan"))})


def test_a_compact_folder_is_half_as_large_and_plans_nearly_the_same(
    tmp_path, random_weights, weights_folder, episode_factory, observe_episode
) -> None:
    save_weights(random_weights, tmp_path / "compact", card="", compact=True)

    def size(folder) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))

    assert size(tmp_path / "compact") < 0.62 * size(weights_folder)
    observation = observe_episode(episode_factory(3, "door-open"))
    plans = [
        EmbeddedPlanner(
            load_weights(folder, dtype=torch.float32, device=torch.device("cpu")),
            device=torch.device("cpu"),
            dtype=torch.float32,
        ).plan(observation, "open the door", seed=0)[0]
        for folder in (weights_folder, tmp_path / "compact")
    ]
    values = [plan.latents.values for plan in plans]
    assert np.abs(values[0] - values[1]).mean() < 0.05 * values[0].std()
    off = np.abs(plans[0].frames.astype(int) - plans[1].frames.astype(int))
    assert off.mean() < 2
