"""Training on drawn play: learns, resumes, mixes extra frames, refuses bad data."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cascade.contracts import DataError, WeightsError
from idm.frames import load_extra, load_play, load_views, sample_pairs, split_by_episode
from idm.plugins import TRAINER
from idm.training import CHECKPOINT
from idm.weights import load_network, save_network


def train(play: Any, folder: Path, *, resume: bool = False, **options: Any) -> dict[str, Any]:
    options = {"steps": 6, "threads": 1, "held_out": 0.2, "batch": 8, **options}
    return dict(TRAINER.build(TRAINER.config(**options)).train(play, folder, resume=resume))


def test_a_few_seconds_beat_the_best_constant_guess(trained: Path, play: Any) -> None:
    scores = json.loads((trained / "scores.json").read_text())
    data, _ = load_play(play, "corner", 128)
    constant_mm = 1000 * np.linalg.norm(data.position_m - data.position_m.mean(0), axis=1).mean()

    assert scores["position_error_mean_mm"] < 0.5 * constant_mm
    assert scores["opening_mae"] < 0.15
    assert 0.6 < scores["position_coverage_2sigma"] <= 1


def test_weights_card_and_sums_are_written(trained: Path) -> None:
    assert {"config.json", "diffusion_pytorch_model.safetensors", "MODEL_CARD.md", "SHA256SUMS"} <= {
        p.name for p in trained.iterdir()
    }
    assert (trained / "diffusion_pytorch_model.safetensors").stat().st_size < 2.2e6
    assert "held-out" in (trained / "MODEL_CARD.md").read_text()


def test_compact_weights_are_half_as_large_and_read_nearly_the_same(trained: Path, play: Any, tmp_path: Path) -> None:
    save_network(load_network(trained), tmp_path / "compact", "# card", compact=True)

    net, small = load_network(trained), load_network(tmp_path / "compact")
    frames = torch.from_numpy(np.array(play[0].frames["corner"][:4])).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        far_m = (net.pose(net.encode(frames)).position_m - small.pose(small.encode(frames)).position_m).norm(dim=1)
    sizes = [next(folder.glob("*.safetensors")).stat().st_size for folder in (trained, tmp_path / "compact")]

    assert sizes[1] < 0.6 * sizes[0]
    assert float(far_m.max()) < 0.01
    (tmp_path / "compact" / "diffusion_pytorch_model.int8.safetensors").write_bytes(b"broken")
    with pytest.raises(WeightsError, match="SHA-256"):
        load_network(tmp_path / "compact")


def test_a_compact_training_scores_what_it_stores(play: Any, tmp_path: Path) -> None:
    train(play, tmp_path, compact=True)

    assert "8 bits" in (tmp_path / "MODEL_CARD.md").read_text()
    assert not (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    load_network(tmp_path)


def test_a_resumed_run_goes_on_where_it_stopped(play: Any, tmp_path: Path) -> None:
    first = train(play, tmp_path)
    again = train(play, tmp_path, resume=True, steps=10)

    assert (first["steps"], again["steps"]) == (6, 10)
    assert again["frames_seen"] == 10 * 8
    assert again["minutes"] > first["minutes"]


def test_a_run_by_the_clock_ends(play: Any, tmp_path: Path) -> None:
    assert train(play, tmp_path, steps=None, minutes=0.001)["steps"] >= 1


def test_a_broken_checkpoint_is_one_clear_error(play: Any, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")

    with pytest.raises(WeightsError, match="checkpoint"):
        train(play, tmp_path, resume=True)


def test_extra_frames_are_mixed_in_and_weights_fine_tuned(trained: Path, play: Any, tmp_path: Path) -> None:
    data, _ = load_play(play, "corner", 128)
    arrays = {"frames": data.frames, "position_m": data.position_m, "opening": data.opening, "episode": data.episode}
    np.savez(tmp_path / "extra.npz", **arrays)
    before = json.loads((trained / "scores.json").read_text())["position_error_mean_mm"]

    scores = train(play, tmp_path / "out", init=trained, extra_frames=tmp_path / "extra.npz", learning_rate=1e-5)

    assert scores["extra_frames"] == scores["training_frames"]
    assert scores["extra_held_out_frames"] == scores["held_out_frames"]
    assert "extra" in (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert scores["position_error_mean_mm"] < 1.5 * before


@pytest.mark.parametrize(
    "arrays",
    [
        {"frames": np.zeros((2, 64, 64, 3), np.uint8), "position_m": np.zeros((2, 3)), "opening": np.zeros(2)},
        {"frames": np.zeros((2, 128, 128, 3), np.uint8), "position_m": np.full((2, 3), np.nan), "opening": np.zeros(2)},
        {"frames": np.zeros((2, 128, 128, 3), np.uint8)},
    ],
)
def test_extra_frames_of_another_form_are_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "extra.npz", **arrays)

    with pytest.raises(DataError, match=r"extra\.npz"):
        load_extra(tmp_path / "extra.npz", 128)


def test_expert_episodes_are_not_trained_on(scene: SimpleNamespace, tmp_path: Path) -> None:
    expert = scene.Play([dataclasses.replace(scene.play_episode(s), kind="expert") for s in range(3)])

    with pytest.raises(DataError, match="play"):
        train(expert, tmp_path)


def test_a_camera_that_moved_between_episodes_is_refused(scene: SimpleNamespace, tmp_path: Path) -> None:
    pose = scene.T_BASE_CAM.copy()
    pose[0, 3] += 0.1
    moved = dataclasses.replace(scene.play_episode(1), T_base_cam={"corner": pose})

    with pytest.raises(DataError, match="not where it was"):
        train(scene.Play([scene.play_episode(0), moved]), tmp_path)


def test_pairs_stay_inside_their_episode_and_whole_episodes_are_held_out(play: Any) -> None:
    data, _ = load_play(play, "corner", 128)
    fit, held = split_by_episode(data, 0.2, 0)
    pairs = sample_pairs(data, fit, 500, np.random.default_rng(0), reach_s=0.35, next_s=0.075)

    assert not set(data.episode[fit]) & set(data.episode[held])
    assert (data.episode[pairs.current] == data.episode[pairs.goal]).all()
    assert (pairs.current <= pairs.soon).all()
    assert (pairs.soon <= pairs.goal).all()
    assert pairs.seconds.max() <= 0.35 + 1e-6


def both_cameras(scene: SimpleNamespace, seed: int) -> Any:
    """Play that a second camera saw too: mirrored, and twice as wide as it is high."""
    episode = scene.play_episode(seed)
    mirrored = np.repeat(episode.frames["corner"][:, :, ::-1], 2, axis=2)
    K = scene.K.copy()
    K[0] = [-2 * K[0, 0], 0, 2 * (128 - K[0, 2])]
    return dataclasses.replace(
        episode,
        frames={**episode.frames, "mirror": mirrored},
        K={**episode.K, "mirror": K},
        T_base_cam={**episode.T_base_cam, "mirror": scene.T_BASE_CAM},
    )


@pytest.mark.slow
def test_one_network_learns_several_views_from_wherever_one_left_off(
    trained: Path, scene: SimpleNamespace, tmp_path: Path
) -> None:
    play = scene.Play([both_cameras(scene, s) for s in range(12)])

    scores = train(play, tmp_path, cameras=("corner", "mirror"), init=trained, steps=60, batch=16)

    assert scores["held_out_frames"] == scores["corner_held_out_frames"] + scores["mirror_held_out_frames"]
    assert scores["corner_held_out_episodes"] == scores["held_out_episodes"]
    assert scores["mirror_position_error_mean_mm"] < 120
    assert "mirror" in (tmp_path / "MODEL_CARD.md").read_text()


def test_wide_frames_are_squeezed_whole_with_their_intrinsics(scene: SimpleNamespace) -> None:
    data, views = load_views(scene.Play([both_cameras(scene, s) for s in range(2)]), ("corner", "mirror"), 128)
    count = len(data) // 2

    assert data.frames.shape[1:] == (128, 128, 3)
    assert views[1].K[0, 0] == pytest.approx(-scene.K[0, 0])
    np.testing.assert_allclose(data.frames[:count, :, ::-1].astype(int), data.frames[count:], atol=1)
    np.testing.assert_array_equal(data.position_m[:count], data.position_m[count:])
    assert (data.first[count:] >= count).all()


def test_extra_frames_of_too_few_views_are_refused(scene: SimpleNamespace, tmp_path: Path) -> None:
    play = scene.Play([both_cameras(scene, s) for s in range(2)])

    with pytest.raises(DataError, match="each of 2 views"):
        train(play, tmp_path, cameras=("corner", "mirror"), extra_frames=tmp_path / "one.npz")
