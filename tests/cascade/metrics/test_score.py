"""`cascade score` on real files: run folders by the real recorder, plans, and the simulated scene with real weights."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.cli.score import table
from cascade.compose import compose
from cascade.config import resolved, to_yaml
from cascade.contracts import ActionChunk, ArmState, EeReadout, ImageTransform, VideoPlan
from cascade.contracts.keyframes import keyframe_indices
from cascade.contracts.plan_file import save_plan
from cascade.contracts.video import write_mp4
from cascade.follower import ControlStep
from cascade.metrics.gather import gather
from cascade.metrics.reading import look
from cascade.metrics.score import score
from cascade.recorder import RunRecorder

runner = CliRunner()
STEPS = 60


def motion() -> tuple[np.ndarray, np.ndarray]:
    s = np.linspace(0, 1, STEPS)
    ease = 0.5 - 0.5 * np.cos(np.pi * s)
    return np.column_stack([0.3 * ease, 0.6 + 0.05 * ease, 0.2 - 0.1 * ease**2]), np.where(s < 0.8, 1.0, 0.3)


def make_plan(frames: np.ndarray, path: np.ndarray, opening: np.ndarray, *, readout: bool = True) -> VideoPlan:
    spread = np.full(len(frames), 0.01)
    read = EeReadout(position_m=path, opening=opening, position_std_m=spread, opening_std=spread, source="test")
    whole = ImageTransform(crop_px=(0, 0, 64, 64), size_px=(64, 64))
    return VideoPlan(
        instruction="push it", camera="corner", transform=whole, frames=frames, readout=read if readout else None
    )


@pytest.fixture
def run_folder(tmp_path, drawn):
    """A run whose hand was imagined 2 cm too far off."""
    path, opening = motion()
    film = drawn(np.column_stack([4 + 120 * path[:, 0], np.full(STEPS, 20)]))
    chosen = keyframe_indices(path, opening, 8)
    plan = make_plan(film[chosen], path[chosen] + np.array([0, 0.02, 0]), opening[chosen])
    folder = tmp_path / "run"
    folder.mkdir()
    recorder = RunRecorder(folder, facts={}, config="", control_hz=80.0, video_every=2)
    targets = np.hstack([path[chosen] + np.array([0, 0.02, 0]), np.tile([1.0, 0, 0, 0], (9, 1))])
    chunk = ActionChunk(values=targets, gripper=opening[chosen], times_s=np.arange(9) / 10)
    recorder.plan(0, plan)
    recorder.chunk(0, 0, chunk)
    for n in range(STEPS):
        T = np.eye(4)
        T[:3, 3] = path[n]
        state = ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=opening[n], stamp_s=n / 80)
        aim = np.array([*path[n], 1.0, 0, 0, 0])
        done = n == STEPS - 1
        step = ControlStep(
            index=0, target=aim, sent=aim, gripper=float(opening[n]), state=state, t_s=n / 80, success=done
        )
        recorder.step(n, n / 80, 0, 0, step, lambda n=n: film[n])
    recorder.finish(success=True, outcome="success")
    return folder


def by_name(document: dict) -> dict:
    return {row["name"]: row for row in document["metrics"]}


def test_a_run_is_scored_against_its_executed_video(run_folder):
    document = score(gather(run_folder, extract=False), run_folder)
    rows = by_name(document)

    assert document["kind"] == "run"
    assert document["reference"] == "executed video"
    assert rows["psnr"]["value"] > 25
    assert rows["ssim"]["value"] > 0.85
    assert rows["motion_mask_iou"]["value"] > 0.7
    assert rows["smoothness"]["detail"]["samples"] == STEPS
    assert rows["gripper_sanity"]["detail"] == {"switches": 1, "closes": 1, "closes_near_object": None}
    assert (rows["executability"]["value"], rows["executability"]["detail"]["trials"]) == (1.0, 1)


def test_the_tube_of_a_run_is_as_wide_as_its_plan_was_wrong(run_folder):
    tube = score(gather(run_folder, extract=False), run_folder)["consistency"]["tube"]

    assert tube["status"] == "measured"
    assert tube["distance_m"] == pytest.approx(0.02, abs=0.008)
    assert 0.3 < tube["score"] < 0.8
    assert tube["split"]["e_track"]["value"] == pytest.approx(0.02, abs=0.01)
    assert tube["split"]["e_extract"]["status"] == "unavailable"


def test_what_is_missing_is_named_and_the_rest_still_scored(run_folder):
    (run_folder / "executed.mp4").write_bytes(b"cut off")
    document = score(gather(run_folder, extract=False), run_folder)

    assert "executed.mp4 cannot be read" in " ".join(document["missing"].values())
    assert by_name(document)["psnr"]["status"] == "unavailable"
    assert document["consistency"]["tube"]["status"] == "measured"


def test_stdout_is_one_document_and_the_table_goes_to_stderr(run_folder):
    done = runner.invoke(app, ["score", str(run_folder), "--no-extract", "--json"])

    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert len(document["metrics"]) == 21
    headings = [line for line in done.stderr.splitlines() if re.match(r"\w", line)]
    assert headings[:4] == ["Visual fidelity", "Physical commonsense", "Action plausibility", "Plan and motion"]
    assert runner.invoke(app, ["score", str(run_folder), "--no-extract"]).stdout == ""


def test_a_plan_folder_and_a_video_are_scored_by_what_they_show(tmp_path, moving):
    path = np.linspace([0.0, 0.6, 0.2], [0.3, 0.6, 0.1], len(moving))
    save_plan(make_plan(moving, path, np.ones(len(moving))), tmp_path / "plan")
    write_mp4(tmp_path / "film.mp4", moving, 10.0)

    for target, kind in ((tmp_path / "plan", "plan"), (tmp_path / "film.mp4", "video")):
        document = score(gather(target), target)
        assert document["kind"] == kind
        assert by_name(document)["track_survival"]["status"] == "measured"
        assert document["consistency"]["agreement"]["why"].startswith("needs the path by idm (no config.yaml")
        assert any("no config.yaml beside the plan" in line for line in table(document))


def test_a_run_has_only_the_plans_it_has(run_folder):
    done = runner.invoke(app, ["score", str(run_folder), "--plan", "3"])

    assert done.exit_code != 0
    assert "expected plan 3, found 0" in str(done.exception)


def test_in_its_real_scene_a_frozen_plan_is_refused_and_never_consistent(tmp_path):
    run, _ = compose(instruction="open the door", task="door-open", seed=7, rig="sim", recipe="unipi")
    scene = look(run)
    image = scene.observation.image("corner")
    frames = np.repeat(image.rgb[None], 5, axis=0)
    whole = ImageTransform(crop_px=(0, 0, 128, 128), size_px=(128, 128))
    save_plan(VideoPlan(instruction="open the door", camera="corner", transform=whole, frames=frames), tmp_path)
    (tmp_path / "config.yaml").write_text(to_yaml(resolved(run)))

    subject = gather(tmp_path)
    document = score(subject, tmp_path)

    assert "idm" in subject.readings
    assert not document["moves"]
    assert document["consistency"]["agreement"]["status"] == "no_motion"
    assert document["consistency"]["tube"]["status"] == "no_motion"
    assert [row["name"] for row in document["metrics"] if row["status"] == "measured"] == ["dynamic_degree"]
    path = subject.readings["idm"].position_m
    assert np.linalg.norm(path[0] - scene.observation.arm.position_m) < 0.1
