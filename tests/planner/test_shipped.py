"""Which shipped weights plan: by the image's shape and the camera."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from planner.embedded import EmbeddedPlanner
from planner.networks.unet import PlanUNet
from planner.options import EmbeddedConfig
from planner.plugins import EMBEDDED
from planner.shipped import FOLDER, SQUARE, WIDE, ShippedPlanner, shipped_folder


@pytest.fixture
def loaded(random_weights):
    """What was loaded, and a loader of small random weights: of one square view, and of three wide ones."""
    folders: list[Path] = []

    def load(camera):
        def of(folder: Path) -> EmbeddedPlanner:
            folders.append(folder)
            weights = random_weights
            if folder == WIDE:
                unet = PlanUNet(width=16, condition=32, stem=16, points=4, tasks=2, cameras=3)
                settings = replace(weights.settings, cameras=("corner", "corner2", "corner3"), view="whole")
                weights = replace(weights, unet=unet, readout=None, settings=settings, digest="wide")
            return EmbeddedPlanner(weights, device=torch.device("cpu"), dtype=torch.float32, camera=camera)

        return of

    return folders, load


def test_square_images_get_the_first_set_and_wide_ones_the_second(
    loaded, episode_factory, wide_factory, observe_episode
) -> None:
    folders, load = loaded
    planner = ShippedPlanner(load("corner"), "corner")
    assert planner.needs.cameras == ("corner",)
    assert folders == [SQUARE]
    square = planner.plan(observe_episode(episode_factory(1, "door-open")), "open the door", seed=0)[0]
    assert folders == [SQUARE]
    assert square.transform.crop_px == (0, 0, 128, 128)
    for _ in range(2):
        wide = planner.plan(observe_episode(wide_factory(1, "door-open")), "open the door", seed=0)[0]
        assert wide.transform.crop_px == (0, 0, 192, 128)
    assert folders == [SQUARE, WIDE]  # each once
    assert wide.provenance["weights"] == "wide"


def test_views_that_only_the_second_set_knows_load_it_at_once_and_others_never(
    loaded, wide_factory, observe_episode
) -> None:
    folders, load = loaded
    ShippedPlanner(load("corner2"), "corner2")
    assert folders == [WIDE]
    folders.clear()
    planner = ShippedPlanner(load("side"), "side")  # a view of somebody's own: as before, its centred square
    plan = planner.plan(observe_episode(wide_factory(1, "door-open"), cameras=("side",)), "open the door", seed=0)[0]
    assert folders == [SQUARE]
    assert plan.transform.crop_px == (32, 0, 128, 128)


def test_a_shipped_set_may_be_named(tmp_path) -> None:
    assert shipped_folder(Path("embedded-1")) == FOLDER / "embedded-1"
    assert shipped_folder(tmp_path) == tmp_path
    assert shipped_folder(Path("embedded-99")) == Path("embedded-99")


@pytest.mark.parametrize("camera", ["corner", "corner2", "corner3"])
def test_the_shipped_sets_plan_for_wide_images_of_every_camera(camera, observe_episode, wide_factory) -> None:
    episode = wide_factory(1, "door-open")
    named = replace(episode, frames={camera: episode.frames["side"]}, K={camera: episode.K["side"]})
    named = replace(named, T_base_cam={camera: episode.T_base_cam["side"]})
    planner = EMBEDDED.build(EmbeddedConfig(camera=camera))
    plan = planner.plan(observe_episode(named, cameras=(camera,)), "open the door", seed=0)[0]
    assert plan.frames.shape == (17, 128, 128, 3)
    assert plan.transform.crop_px == (0, 0, 192, 128)
    assert plan.readout is not None
    assert np.abs(plan.readout.position_m[0] - episode.ee_position_m[0]).max() < 0.1


def test_all_weights_of_the_planner_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 37e6
