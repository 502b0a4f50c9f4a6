"""The embedded planner's latents: named, partly denoised, tapped in a pass that ends there, decoded when looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cascade.contracts import ConfigError
from planner.embedded import EmbeddedPlanner
from planner.latents import Handover
from planner.sampling import integrate, sigmas
from planner.weights import load_weights


@pytest.fixture(scope="module")
def observation(episode_factory, observe_episode):
    return observe_episode(episode_factory(3, "door-open"))


@pytest.fixture(scope="module")
def make(weights_folder):
    loaded = load_weights(weights_folder, dtype=torch.float32, device=torch.device("cpu"))

    def planner(**more):
        handover = Handover(stop_at=more.pop("stop_at", None), tap=more.pop("tap", None))
        return EmbeddedPlanner(loaded, device=torch.device("cpu"), dtype=torch.float32, handover=handover, **more)

    return planner


def plan(planner, observation, seed=5):
    return planner.plan(observation, "open the door", seed=seed)[0]


def test_the_space_names_weights_reading_and_level(make, observation):
    spaces = [
        plan(make(**options), observation).latents.space
        for options in ({}, {"stop_at": 0.5}, {"tap": "middle"}, {"tap": "middle", "stop_at": 0.5, "steps": 2})
    ]
    whole = spaces[0]
    assert whole.startswith("cascade-ae-1/")
    assert spaces[1:] == [f"{whole}/latent@0.5", f"{whole}/middle@1", f"{whole}/middle@0.5"]


def test_partly_denoised_latents_lie_between_noise_and_the_finished_plan(make, observation):
    finished = plan(make(), observation).latents.values
    parts = [plan(make(stop_at=level), observation).latents.values for level in (0.2, 0.8)]
    near, far = (np.abs(part[1:] - finished[1:]).mean() for part in parts)
    assert 0 < near < far
    np.testing.assert_array_equal(parts[0][0], finished[0])  # what was seen is not denoised
    assert near / far == pytest.approx(0.25, rel=0.01)  # one step goes straight


def test_an_unfinished_plan_shows_the_finished_one_it_expected(make, observation):
    unfinished = plan(make(stop_at=0.5), observation)
    assert not unfinished.decoded
    np.testing.assert_array_equal(unfinished.frames, plan(make(), observation).frames)


def test_a_tapped_pass_ends_at_the_tap_and_is_finished_when_looked_at(make, observation):
    planner = make(tap="middle")
    calls = []
    last = planner._weights.unet.leave.register_forward_hook(lambda *_: calls.append(1))
    tapped = plan(planner, observation)
    assert calls == []
    assert tapped.latents.values.shape == (1, 64, 4, 4)
    np.testing.assert_array_equal(tapped.frames, plan(make(), observation).frames)
    assert calls == [1, 1]
    last.remove()


def test_a_tap_leaves_no_readout_and_no_hook(make, observation):
    planner = make(tap="middle")
    assert plan(planner, observation).readout is None
    assert not planner._weights.unet.middle._forward_hooks


def test_the_readout_of_an_unfinished_plan_is_that_of_its_estimate(make, observation):
    readout, known = (plan(make(**o), observation).readout for o in ({"stop_at": 0.5}, {}))
    np.testing.assert_allclose(readout.position_m, known.position_m, atol=1e-6)


@pytest.mark.parametrize(("tap", "match"), [("midle", "middle"), ("task", "maps"), ("time", "no module")])
def test_a_tap_that_gives_no_maps_is_refused(tap, match, make, observation):
    with pytest.raises(ConfigError, match=match):
        plan(make(tap=tap), observation)


def test_integration_stops_at_the_level_asked_for():
    clean, start = torch.zeros(3), torch.ones(3)
    asked = []

    def predict(_x, level):
        asked.append(level)
        return clean

    x = integrate(predict, start, sigmas(4), 0.4)
    assert asked == [1.0, 0.75, 0.5]
    torch.testing.assert_close(x, torch.full((3,), 0.4))
