"""Inverse dynamics learnt on the latents of a diffusers family: trained, loaded and used without a pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_pipelines import TINY

from cascade.contracts import Episode, IncompatibleError
from idm.latent_data import observe
from idm.plugins import IDM, LATENT_TRAINER

FAMILY = "wan21-i2v"
STEPS = 30
HANDED_ON = {
    "finished": {"output": "latent"},
    "unfinished": {"stop_at": 0.9},
    "tapped": {"tap": "transformer.blocks.1"},
}
WORDS = ("open the door", "close the door")


def episode(seed: int) -> Episode:
    """A hand that goes to a goal, seen as a bright half of the picture."""
    goal = np.random.default_rng(seed).uniform(-0.12, 0.12, 3)
    image = np.full((48, 48, 3), 60, np.uint8)
    image[:, : int(200 * (goal[0] + 0.12))] = 250
    return Episode(
        frames={"corner": np.repeat(image[None], STEPS, 0)},
        K={"corner": np.array([[100.0, 0, 24], [0, 100.0, 24], [0, 0, 1]])},
        T_base_cam={"corner": np.diag([1.0, -1, -1, 1])},
        ee_position_m=np.linspace(0, 1, STEPS)[:, None] * goal,
        gripper_opening=np.where(np.arange(STEPS) < 22, 1.0, 0.2),
        action=np.zeros((STEPS, 8)),
        fps=20.0,
        instruction=WORDS[seed % 2],
        task="door-open",
        kind="expert",
        success=True,
        seed=seed,
    )


class Demonstrations:
    """Eight of them."""

    digest = "drawn"

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Episode:
        return episode(index)


@pytest.fixture(scope="module", params=["finished", "tapped", pytest.param("unfinished", marks=pytest.mark.slow)])
def handed_on(request):
    return {**TINY, "width_px": 32, "size_px": 32, "steps": 3, **HANDED_ON[request.param]}


@pytest.fixture(scope="module")
def learnt(handed_on, model_folder, tmp_path_factory):
    """Folders of weights after one step and after many, from the same plans."""
    folder = tmp_path_factory.mktemp("latent-idm")
    planner = {"name": "diffusers", "options": {"model": str(model_folder(FAMILY)), **handed_on}}

    def train(steps: int) -> None:
        config = LATENT_TRAINER.config.model_validate(
            {
                "planner": planner,
                "steps": steps,
                "windows": 1,
                "threads": 1,
                "batch": 7,
                "ema": 0.0,
                "width": 16,
                "hidden": 32,
                "learning_rate": 6e-3,
            }
        )
        LATENT_TRAINER.build(config).train(Demonstrations(), folder / str(steps), resume=False)

    train(1)
    (folder / "80").mkdir()
    (folder / "1" / "plans").rename(folder / "80" / "plans")
    train(80)
    return folder


def loss(weights, plans, *, others: bool = False) -> float:
    """Of a network on plans; `others`: with every plan's latents taken from the next one."""
    from safetensors.numpy import load_file

    from idm.latent_training import latent_loss
    from idm.weights import load_latent_network

    net = load_latent_network(weights)
    (path,) = plans.glob("*.safetensors")
    stored = load_file(path)
    mean = np.array([*net.config.position_mean_m, net.config.opening_mean])
    std = np.array([*net.config.position_std_m, net.config.opening_std])
    truth = torch.from_numpy(((stored["path"] - mean) / std).astype(np.float32))
    latents = np.roll(stored["latents"], 1, axis=0) if others else stored["latents"]
    with torch.no_grad():
        return float(latent_loss(net(torch.from_numpy(latents.astype(np.float32)), truth[:, 0]), truth))


def test_the_loss_falls_and_the_latents_are_what_is_read(learnt):
    after = loss(learnt / "80", learnt / "80" / "plans")

    assert after < loss(learnt / "1", learnt / "80" / "plans") - 0.3
    assert after < loss(learnt / "80", learnt / "80" / "plans", others=True) - 0.05


def test_a_plan_of_that_planner_becomes_targets_without_a_pixel(learnt, handed_on, load_tiny):
    stage = IDM.build(IDM.config(weights=learnt / "80", threads=1))
    seen = observe(episode(20), "corner", 0)
    plan = load_tiny(FAMILY, **handed_on).plan(seen, WORDS[0], seed=5)[0]
    chunk = stage.extract(plan, seen)

    assert not plan.decoded
    assert stage.needs.latent_space == plan.latents.space
    assert chunk.provenance["readout"] == "idm-latents"
    assert len(chunk) > 1
    assert np.isfinite(chunk.values).all()
    scores = json.loads((learnt / "80" / "scores.json").read_text())
    assert scores["space"] == plan.latents.space


def test_latents_read_elsewhere_or_of_other_weights_are_refused_with_both_sides_named(learnt, handed_on, load_tiny):
    stage = IDM.build(IDM.config(weights=learnt / "80", threads=1))
    seen = observe(episode(20), "corner", 0)
    options = {name: value for name, value in handed_on.items() if name not in ("output", "stop_at", "tap")}
    other = load_tiny(FAMILY, **options, tap="transformer.blocks.0").plan(seen, WORDS[0], seed=5)[0]

    with pytest.raises(IncompatibleError) as caught:
        stage.extract(other, seen)
    assert repr(stage.needs.latent_space) in caught.value.problem
    assert repr(other.latents.space) in caught.value.problem
