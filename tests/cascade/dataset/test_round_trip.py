"""What is written is what is read."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from cascade.contracts import DataError
from cascade.dataset.merge import finalize
from cascade.dataset.reader import LeRobotDataset, open_datasets
from cascade.dataset.staging import write_episode


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


@pytest.fixture
def recordings(make_episode):
    return [make_episode("door-open", 1001), make_episode("button-press", 1000, 7), make_episode("door-open", 1000)]


@pytest.fixture
def dataset(tmp_path, recordings):
    for episode in recordings:
        write_episode(tmp_path / "set", episode)
    finalize(tmp_path / "set")
    return LeRobotDataset(tmp_path / "set")


def test_episodes_come_in_canonical_order_whatever_order_they_were_recorded_in(dataset):
    found = [(dataset[i].task, dataset[i].seed) for i in range(len(dataset))]
    assert found == [("button-press", 1000), ("door-open", 1000), ("door-open", 1001)]


def test_numbers_and_labels_are_exact(dataset, recordings):
    written = recordings[2]
    read = dataset[1]
    np.testing.assert_array_equal(read.ee_position_m, written.state[:, :3].astype(np.float64))
    np.testing.assert_array_equal(read.gripper_opening, written.state[:, 7].astype(np.float64))
    np.testing.assert_array_equal(read.action, written.action.astype(np.float64))
    np.testing.assert_array_equal(read.K["corner"], np.eye(3))
    assert (read.instruction, read.kind, read.success, read.fps) == ("do door-open", "expert", True, 40.0)
    assert dataset[2].success is False


def test_video_is_close_to_the_pixels_before_encoding(dataset, recordings):
    decoded = dataset[1].frames["corner"]
    assert decoded.shape == (12, 64, 64, 3)
    assert psnr(decoded, recordings[2].frames["corner"]) > 35


def test_staged_episodes_read_like_finalised_ones(tmp_path, dataset, recordings):
    for episode in recordings:
        write_episode(tmp_path / "open", episode)
    still_open = LeRobotDataset(tmp_path / "open")
    assert still_open.digest == dataset.digest
    np.testing.assert_array_equal(still_open[0].action, dataset[0].action)


def test_pixels_are_decoded_only_when_looked_at(dataset):
    shutil.rmtree(dataset.root / "videos")
    episode = dataset[0]
    assert list(episode.frames) == ["corner"]
    assert episode.ee_position_m.shape == (7, 3)
    with pytest.raises(DataError, match=r"file-000\.mp4: expected a video file, found none"):
        episode.frames["corner"]


def test_an_unknown_camera_is_named(dataset):
    with pytest.raises(KeyError, match="Known: corner"):
        dataset[0].frames["wrist"]


def test_several_sets_read_as_one(tmp_path, dataset, make_episode):
    write_episode(tmp_path / "play", make_episode("hammer", 5, 6, kind="play"))
    both = open_datasets([dataset.root, tmp_path / "play"])
    assert len(both) == 4
    assert both[3].kind == both[-1].kind == "play"
    assert both.digest not in (dataset.digest, open_datasets([tmp_path / "play"]).digest)
    with pytest.raises(IndexError):
        both[4]


def test_a_dataset_can_be_sent_to_worker_processes(dataset):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset))[0].action, dataset[0].action)
    episode = pickle.loads(pickle.dumps(dataset[1]))
    np.testing.assert_array_equal(episode.frames["corner"], dataset[1].frames["corner"])


def test_calibration_of_an_episode_that_differs_is_kept(tmp_path, make_episode):
    moved = np.eye(4)
    moved[:3, 3] = (0.1, 0.2, 0.3)
    other = {"corner": {"K": np.eye(3).tolist(), "T_base_cam": moved.tolist(), "size_px": [64, 64]}}
    write_episode(tmp_path, make_episode(seed=1))
    write_episode(tmp_path, make_episode(seed=2, calibration=other))
    finalize(tmp_path)
    read = LeRobotDataset(tmp_path)
    np.testing.assert_array_equal(read[0].T_base_cam["corner"], np.eye(4))
    np.testing.assert_array_equal(read[1].T_base_cam["corner"], moved)


def test_a_set_opened_while_it_was_recorded_stays_readable_once_merged(tmp_path, make_episode):
    write_episode(tmp_path, make_episode(seed=2))
    dataset = LeRobotDataset(tmp_path)
    digest, early = dataset.digest, dataset[0]
    write_episode(tmp_path, make_episode(seed=1))
    finalize(tmp_path)
    assert len(early.frames["corner"]) == 12
    assert (len(dataset), dataset[0].seed, dataset.digest) == (1, 2, digest)
    np.testing.assert_array_equal(dataset[0].action, make_episode(seed=2).action.astype(np.float64))
