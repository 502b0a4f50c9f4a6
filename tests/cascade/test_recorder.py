import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import ArmState, CascadeError, ConfigError, ImageTransform, StaleImageError, VideoPlan
from cascade.contracts.plan_file import load_plan
from cascade.contracts.video import VideoWriter, read_video
from cascade.follower import ControlStep
from cascade.recorder import RunRecorder, new_run_folder


def recorder(folder, **facts):
    return RunRecorder(folder, facts=facts, config="a: 1\n", control_hz=80.0, video_every=2)


def picture(level):
    return np.full((64, 64, 3), level, dtype=np.uint8)


def control_step(success=False):
    state = ArmState(q=np.zeros(7), T_base_ee=np.eye(4), gripper_opening=0.5, stamp_s=0.0)
    target = np.array([0, 0, 0, 1.0, 0, 0, 0])
    return ControlStep(index=2, target=target, sent=target, gripper=1.0, state=state, t_s=0.0, success=success)


def test_runs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path):
    at = datetime(2026, 11, 20, 12, 0, 0)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path, "door-open", "unipi", at=at), range(16)))
    assert len(set(folders)) == 16
    assert tmp_path / "20261120-120000-door-open-unipi" in folders


def test_a_sentence_as_name_makes_a_plain_folder_name(tmp_path):
    folder = new_run_folder(tmp_path, "../open the door; now!", "my/recipe")
    assert folder.parent == tmp_path
    assert "open-the-door-now" in folder.name


@pytest.mark.parametrize("place", ["a-file/runs", "/proc/no-such-place"])
def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path, place):
    (tmp_path / "a-file").write_text("x")
    root = Path(place) if place.startswith("/") else tmp_path / place
    with pytest.raises(ConfigError, match=r"expected a folder that run folders can be written to.*--runs"):
        new_run_folder(root, "t", "r")


def test_a_full_disk_is_one_clear_error(tmp_path):
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    record = recorder(tmp_path)
    with pytest.raises(CascadeError, match="the disk is full"):
        record.event("episode_begin")
    record.close()


def test_what_was_recorded_can_be_read_before_the_run_is_over(tmp_path):
    record = recorder(tmp_path, task="door-open")
    record.event("episode_begin", seed=3)
    record.picture(0, 0.0, lambda: picture(10))
    for number in range(1, 21):
        record.step(number, number / 80, 0, 0, control_step(), lambda number=number: picture(10 * number))
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["status"] == "running"
    assert facts["schema_version"] == 1
    assert facts["task"] == "door-open"
    assert len((tmp_path / "trajectory.jsonl").read_text().splitlines()) == 20
    frames = [json.loads(line) for line in (tmp_path / "executed.jsonl").read_text().splitlines()]
    assert [frame["step"] for frame in frames] == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    video, fps = read_video(tmp_path / "executed.mp4")
    assert len(video) >= 8 - 4  # at most one fragment is missing
    assert fps == pytest.approx(40.0)
    assert abs(int(video[2].mean()) - 40) < 6
    record.finish(outcome="success")
    assert len(read_video(tmp_path / "executed.mp4")[0]) == 11
    done = json.loads((tmp_path / "run.json").read_text())
    assert (done["status"], done["outcome"]) == ("done", "success")
    assert done["ended"] >= done["started"]


def test_the_step_of_success_is_always_filmed(tmp_path):
    record = recorder(tmp_path)
    record.step(7, 0.1, 0, 0, control_step(success=True), lambda: picture(1))
    record.finish()
    assert json.loads((tmp_path / "executed.jsonl").read_text())["step"] == 7


def test_a_late_camera_costs_a_frame_and_not_the_run(tmp_path):
    def late():
        raise StaleImageError("camera 'corner': image is 0.4 s old.")

    record = recorder(tmp_path)
    record.picture(0, 0.0, late)
    record.step(2, 0.025, 0, 0, control_step(), lambda: picture(1))
    record.finish()
    assert json.loads((tmp_path / "executed.jsonl").read_text()) == {"frame": 0, "step": 2, "t_s": 0.025}


def test_plans_and_the_weights_they_name_are_kept(tmp_path):
    plan = VideoPlan(
        instruction="x",
        camera="corner",
        transform=ImageTransform(crop_px=(0, 0, 64, 64), size_px=(64, 64)),
        frames=np.stack([picture(1), picture(2)]),
        provenance={"planner": "embedded", "weights": "abc123"},
    )
    record = recorder(tmp_path)
    record.plan(0, plan)
    assert np.array_equal(load_plan(tmp_path / "plans" / "000").frames, plan.frames)
    assert json.loads((tmp_path / "run.json").read_text())["weights"] == {"embedded": "abc123"}
    record.finish()


def test_a_video_refuses_a_frame_of_another_size(tmp_path):
    writer = VideoWriter(tmp_path / "x.mp4", 10.0)
    writer.write(picture(1))
    with pytest.raises(CascadeError, match="expected frames of"):
        writer.write(np.zeros((32, 64, 3), dtype=np.uint8))
    writer.close()
    writer.close()
    assert len(read_video(tmp_path / "x.mp4")[0]) == 1
