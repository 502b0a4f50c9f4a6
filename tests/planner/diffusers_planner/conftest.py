"""Tiny pipelines of every family: random weights, real classes, saved as the published ones are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tiny_pipelines import BUILDERS, OPTIONS, TINY, PermissiveGuardrail

from cascade.contracts import ArmState, CameraImage, Observation


def pytest_collection_modifyitems(items):
    if importlib.util.find_spec("transformers") is None:
        skip = pytest.mark.skip(reason='needs transformers: pip install "cascade-wam[diffusers]"')
        for item in items:
            if item.path.parent == Path(__file__).parent and item.path.name != "test_families.py":
                item.add_marker(skip)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Function from a family's name to a folder that save_pretrained wrote."""
    import torch

    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("models") / name
            BUILDERS[name]().save_pretrained(path)
            made[name] = path
        return made[name]

    return folder


@pytest.fixture(scope="session")
def observation():
    rows, columns = np.mgrid[0:96, 0:128]
    rgb = np.stack([rows * 2, columns * 2 - 1, np.full_like(rows, 90)], axis=-1).clip(0, 255).astype(np.uint8)
    K = np.array([[100.0, 0, 64], [0, 100.0, 48], [0, 0, 1]])
    image = CameraImage(rgb=rgb, K=K, stamp_s=0.0, T_base_cam=np.eye(4))
    arm = ArmState(q=np.zeros(7), T_base_ee=np.eye(4), gripper_opening=1.0, stamp_s=0.0)
    return Observation(images={"corner": image}, arm=arm)


@pytest.fixture(scope="session")
def load_tiny(model_folder):
    """Function from a family's name and options to a planner, built by the plug-in as in a run."""
    from planner.plugins import DIFFUSERS

    def load(name: str, **more):
        values = {"model": str(model_folder(name))} | TINY | OPTIONS.get(name, {}) | more
        return DIFFUSERS.build(DIFFUSERS.config.model_validate(values))

    return load


@pytest.fixture(scope="session")
def guardrail():
    return PermissiveGuardrail
