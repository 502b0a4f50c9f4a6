import numpy as np
import pytest

from cascade.config import load_recipe, load_rig
from cascade.contracts import IncompatibleError
from cascade.episodes import episode_row
from cascade.failures import Examiner, Witness
from cascade.failures.expert import need_of
from cascade.pipeline import build_stages
from cascade.plugins import build_plugin

TASK, SEED = "button-press-topdown", 400


@pytest.fixture(scope="module")
def config():
    return load_rig("sim", ["options.arm_process=false"])


@pytest.fixture(scope="module")
def rig(config):
    with build_plugin("rig", config.plugin, config.options) as rig:
        yield rig


def test_the_expert_of_a_layout_presses_what_lies_there(rig):
    found = need_of(rig, TASK, SEED)
    assert found.succeeded
    assert not found.lifts
    assert found.travel_m[2] < -0.05  # the button goes down
    assert abs(found.travel_m[:2]).max() < 0.01
    assert np.linalg.norm(found.contact_m[:2] - found.object_m[0, :2]) < 0.05


def test_an_episode_whose_plan_goes_nowhere_is_diagnosed_with_a_picture(rig, config, tmp_path):
    import cv2

    gate = ["gate.motion=false", "execution.replans=0"]
    recipe = load_recipe("unipi", ["planner.name=hold", "extractor.options.fuse=pixels", *gate])
    witness = Witness(rig)
    row = episode_row(rig, build_stages(recipe), task=TASK, seed=SEED, recorder=witness)
    assert not row["success"]
    assert len(witness.account.moments) == row["steps"] > 0
    found = Examiner(rig, config, recipe).examine(witness.account, row, tmp_path)
    assert found["class"] == "plan wrong", found
    assert found["perfect_plan"] is True
    assert found["expert_succeeds"] is True
    assert not found["attempt"]["touched"]
    assert found["attempt"]["contact_error_m"] > 0.03
    picture = cv2.imread(str(tmp_path / found["picture"]))
    assert picture.shape == (384, 960, 3)
    assert picture[:192].std() > 10
    assert picture[192:].std() > 10


def test_what_cannot_be_looked_into_is_said_and_stops_nothing(rig, config, tmp_path):
    recipe = load_recipe("unipi", ["planner.name=hold"])
    witness = Witness(rig)
    found = Examiner(rig, config, recipe).examine(witness.account, {"task": TASK}, tmp_path)
    assert found["class"] == "other"
    assert "could not be looked into: KeyError" in found["reason"]


def test_a_rig_without_a_world_is_refused():
    config = load_rig("ur5e-loopback")
    with pytest.raises(IncompatibleError, match="expected a simulated rig"):
        Examiner(build_plugin("rig", config.plugin, config.options), config, load_recipe("unipi"))
