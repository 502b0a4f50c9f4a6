from __future__ import annotations

import numpy as np
import pytest

from cascade.contracts import DataError, IncompatibleError
from robot_io.sim.plugins import EXPERT, PLAY
from robot_io.sim.rig import SimRig
from robot_io.sim.tasks import METAWORLD_11


@pytest.mark.parametrize("task", METAWORLD_11)
def test_the_expert_solves_each_task_and_its_object_is_in_view(rig: SimRig, task: str) -> None:
    steps = list(EXPERT.build(EXPERT.config()).demonstrate(rig, task=task, seed=1, every=1000))
    assert steps[-1].success
    assert sum(s.success for s in steps) == 11
    image = steps[0].observation.image("corner")
    for segment in ("object", "arm", "gripper"):
        assert image.mask(segment).any(), segment
    assert not (image.mask("object") & (image.mask("arm") | image.mask("gripper"))).any()


def test_images_come_on_every_nth_step_and_actions_are_targets(rig: SimRig) -> None:
    steps = list(EXPERT.build(EXPERT.config()).demonstrate(rig, task="hammer", seed=1, every=7))
    assert [s.observation is not None for s in steps] == [i % 7 == 0 for i in range(len(steps))]
    low, high = rig.arm.spec.limits.workspace_m
    for s in steps:
        assert s.action_sent.shape == s.action_asked.shape == (8,)
        assert np.all((s.action_sent[:3] >= low) & (s.action_sent[:3] <= high))
    stamps = [s.stamp_s for s in steps]
    assert np.all(np.diff(stamps) > 0)


def test_noise_changes_the_expert_and_the_seed_repeats_it(rig: SimRig) -> None:
    def path(noise: float) -> np.ndarray:
        demo = EXPERT.build(EXPERT.config(noise=noise)).demonstrate(rig, task="button-press", seed=1, every=1000)
        return np.array([s.state.position_m for s in demo])

    np.testing.assert_array_equal(path(0.1), path(0.1))
    assert not np.array_equal(path(0.1), path(0.0))


def test_play_repeats_with_its_seed_and_differs_between_seeds(rig: SimRig) -> None:
    def path(seed: int, every: int) -> np.ndarray:
        demo = PLAY.build(PLAY.config(steps=60)).demonstrate(rig, task="basketball", seed=seed, every=every)
        return np.array([np.append(s.state.position_m, s.state.gripper_opening) for s in demo])

    first = path(3, 20)
    np.testing.assert_array_equal(first, path(3, 1000))
    assert first.shape == (60, 4)
    assert not np.array_equal(first, path(4, 1000))


def test_play_goes_everywhere_and_uses_all_openings(rig: SimRig) -> None:
    play = PLAY.build(PLAY.config())
    steps = [s for seed in range(6) for s in play.demonstrate(rig, task="shelf-place", seed=seed, every=1000)]
    where = np.array([s.state.position_m for s in steps])
    assert np.all(np.ptp(where, axis=0) > (0.5, 0.35, 0.3))
    assert where[:, 2].min() < 0.03
    opening = np.array([s.state.gripper_opening for s in steps])
    assert (opening < 0.4).mean() > 0.1
    assert (opening > 0.9).mean() > 0.1
    assert ((opening > 0.45) & (opening < 0.85)).mean() > 0.05


def test_images_on_every_zeroth_step_are_refused(rig: SimRig) -> None:
    with pytest.raises(DataError, match="every"):
        next(EXPERT.build(EXPERT.config()).demonstrate(rig, task="hammer", seed=0, every=0))


def test_demonstrators_need_the_simulated_rig() -> None:
    class OtherRig:
        name = "real"

    with pytest.raises(IncompatibleError, match="sim"):
        next(PLAY.build(PLAY.config()).demonstrate(OtherRig(), task="hammer", seed=0))
