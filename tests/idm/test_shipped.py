"""Several sets of weights: the one that knows the plan's camera and field of view reads it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cascade.contracts import IncompatibleError, WeightsError
from idm.reading import PlanFrameReader
from idm.shipped import ShippedReader
from idm.weights import SUMS_FILE, load_network


def moved_copy(trained: Path, folder: Path, **changes: object) -> Path:
    """The same weights under a configuration with other values."""
    shutil.copytree(trained, folder)
    (folder / SUMS_FILE).unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def load(folder: Path) -> PlanFrameReader:
    return PlanFrameReader(load_network(folder), weights=folder.name)


def test_each_plan_is_read_by_the_set_that_knows_its_view(
    trained: Path, scene: SimpleNamespace, tmp_path: Path
) -> None:
    wide = moved_copy(trained, tmp_path / "wide", K=(0.7 * scene.K).tolist())
    side = moved_copy(trained, tmp_path / "side", camera="side")
    reader = ShippedReader((wide, side, trained), load)
    episode = scene.play_episode(3)
    used = []

    for camera in ("corner", "side", "corner"):
        observation = scene.observation_at(episode.ee_position_m[0], 1.0, camera=camera)
        read = reader.read(scene.plan_of(episode, camera=camera), observation)
        used.append(reader.weights)
        assert np.isfinite(read.position_m).all()

    assert reader.cameras == ("corner", "side")
    assert used == [trained.name, "side", trained.name]


def test_where_none_fits_it_says_what_each_lacks(trained: Path, scene: SimpleNamespace, tmp_path: Path) -> None:
    wide = moved_copy(trained, tmp_path / "wide", K=(0.7 * scene.K).tolist())
    side = moved_copy(trained, tmp_path / "side", camera="side")
    episode = scene.play_episode(3)
    observation = scene.observation_at(episode.ee_position_m[0], 1.0)

    with pytest.raises(IncompatibleError, match=r"wide: .*intrinsics.* side: .*camera"):
        ShippedReader((wide, side), load).read(scene.plan_of(episode), observation)


def test_a_broken_configuration_is_one_clear_error(trained: Path, tmp_path: Path) -> None:
    folder = moved_copy(trained, tmp_path / "broken")
    (folder / "config.json").write_text("{")

    with pytest.raises(WeightsError, match="config"):
        ShippedReader((folder,), load)
