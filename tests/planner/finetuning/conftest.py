"""The tiny pipelines of the planner's tests, and a small world to fine-tune them on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import Episode
from planner.plugins import FINETUNE

NEEDED = ("transformers", "peft", "accelerate")
SMALL = {
    "width_px": 64,
    "num_frames": 9,
    "prompt_profile": "plain",
    "steps": 12,
    "batch": 2,
    "warmup_steps": 0,
    "learning_rate": 0.02,
    "rank": 4,
    "sample_every": 0,
    "device": "cpu",
    "mixed_precision": "no",
}
FIXED = {"cogvideox-i2v": {"width_px": None}}


def pytest_collection_modifyitems(items):
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        skip = pytest.mark.skip(reason='needs pip install "cascade-wam[diffusers,train]"')
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(skip)


def tiny_builders():
    path = Path(__file__).parents[1] / "diffusers_planner" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_pipelines", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.BUILDERS


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Function from a family's name to a folder that save_pretrained wrote."""
    import torch

    builders, made = tiny_builders(), {}

    def folder(name):
        if name not in made:
            torch.manual_seed(0)
            made[name] = tmp_path_factory.mktemp("models") / name
            builders[name]().save_pretrained(made[name])
        return made[name]

    return folder


class World:
    """A square that slides over a table, in three episodes."""

    digest = "0" * 64

    def __init__(self, length=20, success=(True, True, True)):
        self._length, self._success = length, success

    def __len__(self):
        return len(self._success)

    def __getitem__(self, number):
        frames = np.full((self._length, 64, 80, 3), 40 * number + 60, np.uint8)
        for k in range(self._length):
            frames[k, 20:40, 10 + 2 * k : 30 + 2 * k] = (220, 30 * number, 20)
        position = np.zeros((self._length, 3))
        position[:, 0] = np.linspace(0, 0.4, self._length)
        action = np.zeros((self._length, 8))
        return Episode(
            frames={"corner": frames},
            K={},
            T_base_cam={},
            ee_position_m=position,
            gripper_opening=np.ones(self._length),
            action=action,
            fps=20.0,
            instruction="open the door" if number % 2 else "close the door",
            task="door-open-v3",
            kind="expert",
            success=self._success[number],
            seed=number,
        )


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture
def train(tiny_model, world):
    """Function that fine-tunes a tiny pipeline, built by the plug-in as in a run, and returns its scores."""

    def go(name, output, *, resume=False, episodes=world, **more):
        values = {"model": str(tiny_model(name))} | SMALL | FIXED.get(name, {}) | more
        return FINETUNE.build(FINETUNE.config.model_validate(values)).train(episodes, output, resume=resume)

    return go
