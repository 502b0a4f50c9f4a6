"""Interrupted and damaged sets: nothing complete is lost, nothing broken is read silently."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import DataError
from cascade.dataset import merge
from cascade.dataset.merge import finalize
from cascade.dataset.reader import LeRobotDataset
from cascade.dataset.staging import write_episode

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import conftest
from cascade.dataset.staging import write_episode
for seed in range(1000):
    write_episode(Path({root!r}), conftest.build_episode(seed=seed, count=60))
"""


@pytest.fixture
def root(tmp_path, make_episode):
    for seed in (1, 2):
        write_episode(tmp_path / "set", make_episode(seed=seed))
    finalize(tmp_path / "set")
    return tmp_path / "set"


def test_a_killed_writer_loses_at_most_the_episode_it_was_writing(tmp_path, make_episode):
    script = WRITER.format(tests=str(Path(__file__).parent), root=str(tmp_path / "set"))
    writer = subprocess.Popen([sys.executable, "-c", script])
    staged = tmp_path / "set" / "staged"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and writer.poll() is None:
        done = [path for path in staged.glob("*") if not path.name.endswith(".partial")]
        if len(done) >= 3 and list(staged.glob("*.partial/*")):
            break
        time.sleep(0.001)
    os.kill(writer.pid, signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    complete = sorted(path.name for path in staged.glob("*") if not path.name.endswith(".partial"))
    assert len(complete) >= 3
    before = LeRobotDataset(tmp_path / "set")
    finalize(tmp_path / "set")
    after = LeRobotDataset(tmp_path / "set")
    assert [entry.key for entry in before.entries] == [entry.key for entry in after.entries] == complete
    assert not staged.exists()
    for index, episode in enumerate(after):
        assert len(episode.frames["corner"]) == len(episode.action)
        np.testing.assert_array_equal(episode.action, before_action(make_episode, index))


def before_action(make_episode, seed):
    return make_episode(seed=seed, count=60).action.astype(np.float64)


@pytest.mark.parametrize("killed_in", ["_write_new", "_place_videos"])
def test_a_merge_killed_before_its_end_changes_nothing(root, make_episode, monkeypatch, killed_in):
    write_episode(root, make_episode(seed=3))
    original = getattr(merge, killed_in)

    def dies(*args):
        original(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(merge, killed_in, dies)
        with pytest.raises(KeyboardInterrupt):
            finalize(root)
    assert len(LeRobotDataset(root)) == 3
    finalize(root)
    assert [episode.seed for episode in LeRobotDataset(root)] == [1, 2, 3]
    assert sorted(path.name for path in root.iterdir()) == ["data", "meta", "videos"]


def test_a_merge_killed_in_its_swap_is_carried_on(root, make_episode, monkeypatch):
    write_episode(root, make_episode(seed=3))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", _dies_at_meta(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            finalize(root)
    with pytest.raises(DataError, match=r"interrupted merge.*--recover"):
        LeRobotDataset(root)
    finalize(root)
    assert [len(episode.frames["corner"]) for episode in LeRobotDataset(root)] == [12, 12, 12]


def _dies_at_meta(original):
    def rmtree(path, **options):
        if Path(path).name == "meta":
            raise KeyboardInterrupt
        original(path, **options)

    return rmtree


def test_a_set_recorded_in_two_parts_equals_one_recorded_at_once(tmp_path, root, make_episode):
    write_episode(root, make_episode(seed=0))
    in_parts = finalize(root)
    for seed in (2, 0, 1):
        write_episode(tmp_path / "once", make_episode(seed=seed))
    at_once = finalize(tmp_path / "once")
    assert in_parts == at_once
    assert len(in_parts["digest"]) == 64
    for mine, other in zip(LeRobotDataset(root), LeRobotDataset(tmp_path / "once"), strict=True):
        np.testing.assert_array_equal(mine.frames["corner"], other.frames["corner"])


def test_the_digest_follows_the_content(tmp_path, make_episode):
    digests = set()
    for number, changes in enumerate(({}, {"seed": 7}, {"success": False}, {"count": 11})):
        write_episode(tmp_path / str(number), make_episode(**{"seed": 2, **changes}))
        digests.add(finalize(tmp_path / str(number))["digest"])
    pixels = {"corner": make_episode(seed=2).frames["corner"].copy()}
    pixels["corner"][0, 0, 0, 0] ^= 1
    write_episode(tmp_path / "pixel", make_episode(seed=2, frames=pixels))
    digests.add(finalize(tmp_path / "pixel")["digest"])
    assert len(digests) == 5


def test_a_truncated_table_is_named(root):
    path = root / "data/chunk-000/file-000.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"data/chunk-000/file-000\.parquet: expected a complete Parquet"):
        LeRobotDataset(root)[0]


def test_a_truncated_episode_table_is_named(root):
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"meta/episodes.*expected a complete Parquet"):
        LeRobotDataset(root)


def test_a_broken_video_is_named(root):
    path = root / "videos/observation.images.corner/chunk-000/file-001.mp4"
    path.write_bytes(path.read_bytes()[:200])
    dataset = LeRobotDataset(root)
    assert len(dataset[0].frames["corner"]) == 12
    with pytest.raises(DataError, match=r"file-001\.mp4: expected a readable video"):
        dataset[1].frames["corner"]


def test_a_video_of_another_episode_is_noticed(root, make_episode, tmp_path):
    write_episode(tmp_path / "other", make_episode(seed=9, count=5))
    source = tmp_path / "other/staged/expert-door-open-000009/corner.mp4"
    shutil.copyfile(source, root / "videos/observation.images.corner/chunk-000/file-000.mp4")
    with pytest.raises(DataError, match="expected 12 frames, found 5"):
        LeRobotDataset(root)[0].frames["corner"]


def _edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.update(codebase_version="v2.1"), "expected codebase_version v3.0, found v2.1"),
        (lambda info: info.pop("fps"), "missing fps"),
        (lambda info: info["features"].pop("action"), "expected feature 'action', found none"),
        (lambda info: info["features"]["action"].update(shape=[7]), r"action: expected float32 \[8\], found float32"),
        (lambda info: info.update(total_episodes=5), "expected one number of episodes, found 2 rows"),
    ],
)
def test_a_wrong_info_file_is_explained(root, change, message):
    _edit(root / "meta/info.json", change)
    with pytest.raises(DataError, match=message):
        LeRobotDataset(root)


def test_an_edited_manifest_is_noticed(root):
    _edit(root / "meta/manifest.json", lambda manifest: manifest["episodes"][0].update(success=True))
    with pytest.raises(DataError, match=r"manifest\.json: expected digest"):
        LeRobotDataset(root)


def test_broken_json_and_missing_folders_are_explained(root, tmp_path):
    (root / "meta/info.json").write_text("{")
    with pytest.raises(DataError, match=r"info\.json: expected JSON"):
        LeRobotDataset(root)
    with pytest.raises(DataError, match="expected the folder of a dataset"):
        LeRobotDataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected at least one complete episode"):
        LeRobotDataset(tmp_path / "empty")


def test_episodes_that_do_not_fit_together_are_not_merged(root, make_episode):
    write_episode(root, make_episode(seed=4, fps=20.0))
    with pytest.raises(DataError, match="expected one frame rate"):
        finalize(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": np.zeros((12, 7), np.float32)}, r"state: expected shape \(12, 8\)"),
        ({"action": np.full((12, 8), np.nan, np.float32)}, "action: expected finite numbers"),
        ({"frames": {"corner": np.zeros((11, 64, 64, 3), np.uint8)}}, "frames of corner: expected shape"),
        ({"frames": {}}, "at least one camera"),
        ({"task": "../outside"}, "becomes a file name"),
        ({"calibration": {}}, "expected calibration for every camera"),
    ],
)
def test_a_wrong_episode_is_refused(make_episode, changes, message):
    with pytest.raises(DataError, match=message):
        make_episode(**changes)
