"""The closed loop: two readings of a goal combined, how far a plan has got, and chunks that say so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cascade.contracts import ConfigError, EeReadout, IncompatibleError
from idm.closed_loop import STEPS, ClosedLoop, combined
from idm.network import InverseDynamicsNet
from idm.plugins import IDM
from idm.reading import Motions, PlanFrameReader
from idm.weights import load_network, save_network

FRAMES = 9
LINE = np.linspace([0.0, 0.6, 0.2], [0.3, 0.6, 0.2], FRAMES)


def straight() -> EeReadout:
    return EeReadout(
        position_m=LINE,
        opening=np.ones(FRAMES),
        position_std_m=np.full(FRAMES, 0.006),
        opening_std=np.full(FRAMES, 0.1),
        progress=np.linspace(0.0, 1.0, FRAMES),
        source="drawn",
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, scene: SimpleNamespace) -> Path:
    """Weights that have learnt nothing: the plan tells where its hand is, and they only say something."""
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(0)
    net = InverseDynamicsNet(camera="corner", K=scene.K.tolist(), T_base_cam=scene.T_BASE_CAM.tolist())
    net.register_to_config(action_space={"kind": "ee_pose", "frame": "base", "rate_hz": None})
    save_network(net, folder, "untrained")
    return folder


@pytest.fixture
def reader(weights: Path) -> PlanFrameReader:
    return PlanFrameReader(load_network(weights), threads=1)


@given(off=st.floats(-0.05, 0.05), std=st.floats(0.001, 0.05), frame=st.integers(0, FRAMES - 1))
def test_the_combined_goal_lies_between_both_readings_and_is_surer_than_either(
    off: float, std: float, frame: int
) -> None:
    relative = np.add(LINE, [0.0, off, 0.0])
    shift, spread = combined(LINE, np.full(FRAMES, std), relative, np.zeros((FRAMES, 3)), frame)

    assert 0 <= shift[1] * np.sign(off) <= abs(off)
    assert np.abs(shift[[0, 2]]).max() < 1e-12
    assert spread < std


def test_motions_that_disagree_about_a_goal_count_less() -> None:
    agreeing = np.add(LINE, [0.0, 0.02, 0.0])
    scattered = agreeing + np.array([[0, 0.03, 0], [0, 0, 0], [0, -0.03, 0]])[np.arange(FRAMES) % 3]
    still = np.zeros((FRAMES, 3))
    sure, _ = combined(LINE, np.full(FRAMES, 0.006), agreeing, still, 4)
    unsure, _ = combined(LINE, np.full(FRAMES, 0.006), scattered, still, 4)
    assert 0 < unsure[1] < 0.5 * sure[1]
    far, _ = combined(LINE, np.full(FRAMES, 0.006), agreeing, np.add(still, [0.3, 0, 0]), 4)
    assert 0 < far[1] < 0.5 * sure[1], "and so do long ones"


def test_over_many_readings_the_combination_is_nearer_the_truth_than_either() -> None:
    rng, errors = np.random.default_rng(0), []
    for _ in range(300):
        absolute, relative = LINE + rng.normal(0, 0.006, LINE.shape), LINE + rng.normal(0, 0.005, LINE.shape)
        shift, _ = combined(absolute, np.full(FRAMES, 0.006), relative, np.zeros_like(LINE), 4)
        errors.append([np.square(p - LINE[4]).sum() for p in (absolute[4], relative[4], absolute[4] + shift)])
    one, other, both = np.sqrt(np.mean(errors, axis=0))
    assert both < 0.95 * min(one, other)


@pytest.mark.parametrize("frame", range(FRAMES))
def test_progress_is_that_of_the_frame_the_present_is_like(
    reader: PlanFrameReader, scene: SimpleNamespace, frame: int
) -> None:
    episode = scene.play_episode(5)
    plan = scene.plan_of(episode, slice(FRAMES))
    loop, observation = ClosedLoop(reader, plan, straight()), scene.observation_at(LINE[frame], 1.0)
    seconds = 0.05 * np.abs(np.arange(FRAMES) - frame)
    present = loop.present(Motions(LINE[frame], LINE - LINE[frame], seconds), observation)

    assert present.frame == frame
    assert present.progress == pytest.approx(frame / (FRAMES - 1), abs=0.01)
    assert present.spread < 0.05

    between = scene.observation_at(LINE[[frame, max(frame - 1, 0)]].mean(axis=0), 1.0)
    back = loop.present(Motions(LINE[frame], LINE, np.zeros(FRAMES)), between)
    assert back.frame >= frame, "a plan does not go back"
    if frame:
        assert back.spread > present.spread, "between two frames it is less sure"


def test_each_chunk_holds_a_few_targets_and_says_how_far_the_plan_is(weights: Path, scene: SimpleNamespace) -> None:
    episode = scene.play_episode(5)
    extractor = IDM.build(IDM.config(weights=weights, closed_loop=True, threads=1))
    plan, frame, chunks = scene.plan_of(episode), 0, []
    n = len(plan)
    plan.readout = EeReadout(
        position_m=episode.ee_position_m,
        opening=np.ones(n),
        position_std_m=np.full(n, 0.001),
        opening_std=np.full(n, 0.001),
        source="planner-latents",
    )
    while not chunks or not chunks[-1].final:
        here = scene.observation_at(episode.ee_position_m[frame], float(episode.gripper_opening[frame]))
        chunks.append(extractor.extract(plan, here))
        word = extractor.watch(plan, here)
        assert word.verdict == "on"
        assert word.progress is not None
        assert 0 <= word.progress <= 1
        frame = chunks[-1].provenance["frames"][-1]

    assert all(1 <= len(chunk) <= STEPS for chunk in chunks)
    assert extractor.watch_hz is not None
    reached = [chunk.provenance["present_frame"] for chunk in chunks]
    assert reached == sorted(reached)
    assert reached[-1] > reached[0]
    assert all(len(chunk.provenance["target_std_m"]) == len(chunk) for chunk in chunks)
    assert extractor.watch(scene.plan_of(episode), here).progress is None, "it follows another plan"


def test_targets_depend_on_what_is_seen_now(weights: Path, scene: SimpleNamespace) -> None:
    episode = scene.play_episode(5)
    plan, values = scene.plan_of(episode), {}
    for closed in (False, True):
        for place in (0, 6):
            extractor = IDM.build(IDM.config(weights=weights, closed_loop=closed, fuse="pixels", threads=1, steps=3))
            seen = scene.observation_at(episode.ee_position_m[place], float(episode.gripper_opening[place]))
            chunk = extractor.extract(plan, seen)
            values[closed, place] = chunk.values[:, :3]
    np.testing.assert_array_equal(values[False, 0], values[False, 6])
    assert np.abs(values[True, 0] - values[True, 6]).max() > 1e-4


def test_without_pixels_there_is_no_closed_loop() -> None:
    with pytest.raises(ConfigError, match="closed_loop"):
        IDM.build(IDM.config(closed_loop=True, fuse="latents"))
    with pytest.raises(IncompatibleError, match="closed_loop"):
        IDM.build(IDM.config(closed_loop=True, weights=Path("vpp")))
