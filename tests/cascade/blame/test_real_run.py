"""Blame on real runs in MuJoCo: faults that no configuration knows of are found, and what is missing is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.blame import Blame, Stage, blame
from cascade.cli.app import app
from cascade.compose import compose
from cascade.config import resolved, to_yaml
from cascade.pipeline import build_stages
from cascade.plugins import build_plugin
from cascade.recorder import RunRecorder
from cascade.runtime import run_episode
from cascade.testing.faults import FaultyRig, RigFault


def carry_out(folder: Path, fault: RigFault, *overrides: str) -> None:
    """A short run on a faulty rig, stopped by the episode's success or the plan's end."""
    settings = ("execution.replans=0", "rig.options.arm_process=false", *overrides)
    run, _ = compose(
        instruction="press the button",
        task="button-press",
        seed=401,
        rig="sim",
        recipe="unipi",
        planner="oracle",
        overrides=settings,
    )
    folder.mkdir()
    with build_plugin("rig", run.rig.plugin, run.rig.options) as rig:
        stages = build_stages(run.recipe)
        recorder = RunRecorder(folder, facts={}, config=to_yaml(resolved(run)), control_hz=80.0, video_every=4)
        result = run_episode(
            FaultyRig(rig, fault), stages, instruction="", task=run.task, seed=run.seed, recorder=recorder
        )
        stages.close()
    # The stage is looked for as in a failure, whether or not this layout forgave the fault.
    recorder.finish(outcome="failed", verdict=result.verdict, failure_stage="motion", success=False)


def judged(folder: Path) -> tuple[Blame, dict[str, float | None]]:
    found = blame(folder, second=False)
    return found, {check.key: check.value for check in found.checks if check.key}


@pytest.fixture(scope="module")
def faulty_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "moved"
    carry_out(folder, RigFault(camera_shift_m=(0.03, 0.0, 0.0), lag_steps=20))
    return folder


def test_a_camera_that_moved_is_blamed_before_what_it_spoils(faulty_run: Path) -> None:
    found, values = judged(faulty_run)
    assert found.stage is Stage.CALIBRATION, found.verdict
    assert values["reprojection_px"] > 1.0
    assert Stage.TRACKING in found.suspects  # the arm is late as well
    assert values["delay_s"] == pytest.approx(20 / 80, abs=0.06)
    document = json.loads((faulty_run / "blame.json").read_text())
    assert document["stage"] == "calibration"


@pytest.mark.slow
def test_a_shifted_extractor_is_blamed(tmp_path: Path) -> None:
    options = {"extractor": "idm", "options": {"fuse": "pixels"}, "bias_m": [0.0, 0.05, 0.0]}
    carry_out(tmp_path / "run", RigFault(), f"extractor={json.dumps({'name': 'distorted', 'options': options})}")
    found, values = judged(tmp_path / "run")
    assert found.stage is Stage.EXTRACTION, found.verdict
    assert values["extraction_m"] == pytest.approx(0.05, abs=0.012)
    assert values["tracking_m"] < 1e-3
    assert values["reprojection_px"] < 0.2


def test_a_damaged_run_folder_is_judged_with_what_is_left(faulty_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(faulty_run, copy)
    film = copy / "executed.mp4"
    film.write_bytes(film.read_bytes()[:200])
    (copy / "config.yaml").unlink()
    found = blame(copy)
    assert found.stage is Stage.TRACKING  # the delay is in the record itself
    assert any("executed.mp4" in why for why in found.missing.values())
    assert "scene" in found.missing
    # and on the command line
    done = CliRunner().invoke(app, ["blame", str(copy), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["stage"] == "tracking"


def test_no_run_folder_is_one_clear_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["blame", str(tmp_path)])
    assert done.exit_code != 0
