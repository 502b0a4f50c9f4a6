"""`cascade record` on the real simulator, as a person calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import DataError
from cascade.dataset.reader import LeRobotDataset

SMALL = ("--set", "options.width=32", "--set", "options.height=32", "--every", "4")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from cascade.cli.app import main; main()", "record", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def record(*arguments: object) -> tuple[int, str, str]:
    process = start(*arguments)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def expert(tmp_path_factory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("sets") / "expert"
    tasks = ("--tasks", "button-press,door-open", "--episodes", 2, "--seed", 1000)
    code, output, errors = record(*tasks, *SMALL, "--json", "-o", root)
    assert code == 0, errors
    return root, json.loads(output)


def test_the_summary_is_one_json_document(expert):
    root, summary = expert
    assert summary["schema_version"] == 1
    assert (summary["path"], summary["episodes"], summary["recorded"]) == (str(root), 4, 4)
    assert summary["tasks"]["door-open"] == {"episodes": 2, "successes": 2}
    assert summary["digest"] == LeRobotDataset(root).digest


def test_episodes_show_the_task_being_done(expert):
    dataset = LeRobotDataset(expert[0])
    assert [(entry.task, entry.seed) for entry in dataset.entries] == [
        (task, seed) for task in ("button-press", "door-open") for seed in (1000, 1001)
    ]
    episode = dataset[2]
    assert (episode.kind, episode.fps, episode.success) == ("expert", 20.0, True)
    assert episode.instruction == "open the door"
    assert episode.frames["corner"].shape == (len(episode.action), 32, 32, 3)
    # The arm goes where it is sent: the next measured position lies towards what was commanded.
    moved = np.diff(episode.ee_position_m, axis=0)
    wanted = episode.action[:-1, :3] - episode.ee_position_m[:-1]
    fast = np.linalg.norm(moved, axis=1) > 0.01
    agreement = (moved * wanted).sum(1)[fast] / np.linalg.norm(moved, axis=1)[fast]
    assert fast.sum() > 5
    assert np.mean(agreement / np.linalg.norm(wanted, axis=1)[fast] > 0.5) > 0.9
    # K and T_base_cam belong to the pixels: the hand is in view at the start.
    T_cam_base = np.linalg.inv(episode.T_base_cam["corner"])
    point = T_cam_base[:3, :3] @ episode.ee_position_m[0] + T_cam_base[:3, 3]
    u, v = (episode.K["corner"] @ point)[:2] / point[2]
    assert point[2] > 0
    assert 0 < u < 32
    assert 0 < v < 32


def test_success_is_latched_and_ends_where_the_episode_says(expert):
    import pyarrow.parquet as pq

    table = pq.read_table(expert[0] / "data/chunk-000/file-000.parquet").to_pydict()
    reached = np.array(table["next.success"])
    number = np.array(table["episode_index"])
    for index in range(4):
        own = reached[number == index]
        assert own[-1]
        assert not own[0]
        assert np.all(np.diff(own.astype(int)) >= 0)
    stamps = np.array(table["capture_time_s"])[number == 0]
    np.testing.assert_allclose(np.diff(stamps), 0.05, atol=1e-6)


@pytest.mark.slow
def test_the_same_seeds_give_the_same_digest_however_they_are_recorded(expert, tmp_path):
    _, summary = expert
    tasks = ("--tasks", "door-open,button-press", "--seed", 1000)
    assert record(*tasks, "--episodes", 1, *SMALL, "-o", tmp_path / "set")[0] == 0
    code, output, errors = record(*tasks, "--episodes", 2, *SMALL, "--jobs", 2, "--json", "-o", tmp_path / "set")
    assert code == 0, errors
    again = json.loads(output)
    assert (again["recorded"], again["episodes"]) == (2, 4)
    assert again["digest"] == summary["digest"]


@pytest.mark.slow
def test_play_counts_in_total_and_claims_no_success(tmp_path):
    code, output, errors = record(
        "--kind", "play", "--tasks", "door-open,hammer", "--episodes", 3, *SMALL, "--json", "-o", tmp_path / "set"
    )
    assert code == 0, errors
    assert {task: row["episodes"] for task, row in json.loads(output)["tasks"].items()} == {"door-open": 2, "hammer": 1}
    for episode in LeRobotDataset(tmp_path / "set"):
        assert (episode.kind, episode.success, episode.instruction) == ("play", False, "play")


def _started(root: Path, episodes: int) -> list[str]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = [path.name for path in (root / "staged").glob("*") if not path.name.endswith(".partial")]
        if len(done) >= episodes:
            return done
        time.sleep(0.02)
    raise AssertionError("nothing was recorded")


def test_a_recording_killed_in_the_middle_is_readable_recoverable_and_continues(tmp_path):
    root = tmp_path / "set"
    arguments = ("--tasks", "door-open", "--episodes", 4, *SMALL, "-o", root)
    process = start(*arguments)
    done = _started(root, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert set(done) <= {entry.key for entry in LeRobotDataset(root).entries}
    code, output, errors = record("--recover", root, "--json")
    assert code == 0, errors
    kept = json.loads(output)["episodes"]
    assert 2 <= kept <= 4
    assert not (root / "staged").exists()
    code, output, errors = record(*arguments, "--json")
    assert code == 0, errors
    assert (json.loads(output)["recorded"], json.loads(output)["episodes"]) == (4 - kept, 4)


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ctrl_c_leaves_a_merged_set(tmp_path, jobs):
    root = tmp_path / "set"
    process = start("--tasks", "door-open", "--episodes", 200, "--jobs", jobs, *SMALL, "-o", root)
    _started(root, 2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Recording stopped" in errors
    assert "Traceback" not in errors
    dataset = LeRobotDataset(root)
    assert 2 <= len(dataset) < 200
    assert not (root / "staged").exists()
    assert all(len(episode.frames["corner"]) == len(episode.action) for episode in dataset)


def test_another_way_of_recording_is_refused(expert):
    root, summary = expert
    code, _, errors = record("--tasks", "door-open", "--episodes", 1, *SMALL[:4], "--every", 2, "-o", root)
    assert code == 2
    assert "expected a set recorded with every = 2, found 4" in errors
    code, _, errors = record("--tasks", "door-open", "--episodes", 3, "--every", 4, "-o", root)
    assert code == 2
    assert "expected a set recorded with description" in errors
    assert LeRobotDataset(root).digest == summary["digest"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "door-opne", "-o", "set"), "Did you mean 'door-open'?"),
        (("--tasks", "door-open", "--cameras", "cornre", "-o", "set"), "Did you mean 'corner'?"),
        (("--tasks", "door-open", "--set", "options.widht=3", "-o", "set"), "Did you mean 'width'?"),
        (("--tasks", "door-open"), "expected a folder for the set"),
        (("--tasks", "door-open", "-o", "file/set"), "expected a folder to write to, found Not a directory"),
        (("--recover", "nowhere"), "expected the folder of a dataset"),
    ],
)
def test_mistakes_are_explained(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    code, output, errors = record(*arguments)
    assert code == 2
    assert message in errors
    assert output == ""
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_suite_brings_its_conditions_along_and_options_come_after(tmp_path):
    own = ("--tasks", "metaworld-11-avdc", "--kind", "play", "--seed", 3, *SMALL, "-o", tmp_path)
    code, _, errors = record(*own, "--episodes", 1)
    assert code == 0, errors
    dataset = LeRobotDataset(tmp_path)
    assert dataset.cameras == ("corner", "corner2", "corner3")
    description = dataset.header["description"]
    assert (description["starts"], description["width"]) == ("avdc", 32)
    code, _, errors = record(*own, "--episodes", 2, "--set", "options.starts=stock")
    assert code == 2
    assert "expected a set recorded with description" in errors


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    code, _, errors = record("--tasks", "door-open", "-o", tmp_path)
    assert code == 2
    assert "found thesis.txt" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_recordings_into_one_folder_are_refused(tmp_path):
    from cascade.dataset.recording import RecordingPlan, _locked, record_set

    plan = RecordingPlan(kind="expert", rig="sim", rig_options={}, cameras=("corner",), every=4)
    with _locked(tmp_path), pytest.raises(DataError, match="found another recording into it"):
        record_set(tmp_path, plan, [])
