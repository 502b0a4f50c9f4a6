"""What a calibrated gate does to the motion itself: the tube ends it, and how sure it is sets its pace. In MuJoCo."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.calibration_gate.calibration import load_calibration
from cascade.compose import compose
from cascade.config import resolved, to_yaml
from cascade.contracts.records import ArmMode
from cascade.events import NoRecord
from cascade.outcome import EpisodeResult
from cascade.pipeline import build_stages
from cascade.plugins import build_plugin
from cascade.recorder import RunRecorder
from cascade.runtime import run_episode
from cascade.testing.faults import FaultyRig, RigFault

TASK, SEED = "door-close", 100
PUSH = RigFault(push_n=(0.0, 0.0, 2500.0), push_after=20)  # upwards, as if it hung on something


def composed(*overrides: str, calibration: str = "unipi-sim") -> Any:
    settings = ("execution.replans=0", "rig.options.arm_process=false", "extractor.options.threads=1")
    return compose(
        instruction="close the door",
        task=TASK,
        seed=SEED,
        rig="sim",
        recipe="unipi",
        overrides=(*settings, f"gate.calibration={calibration}", *overrides),
    )[0]


def carry_out(folder: Path, fault: RigFault) -> tuple[EpisodeResult, list[dict[str, Any]], Mapping[str, Any]]:
    """Run one episode on a rig with a fault; returns its result, its events, and how the arm is left."""
    run = composed()
    folder.mkdir()
    with build_plugin("rig", run.rig.plugin, run.rig.options) as rig:
        stages = build_stages(run.recipe)
        recorder = RunRecorder(folder, facts={}, config=to_yaml(resolved(run)), control_hz=80.0, video_every=20)
        faulty = FaultyRig(rig, fault)
        result = run_episode(faulty, stages, instruction=None, task=TASK, seed=SEED, recorder=recorder)
        stages.close()
        before = rig.arm.read()
        for _ in range(40):
            rig.clock.tick()
        settled = rig.arm.read()
        for _ in range(40):
            rig.clock.tick()
        left = {"mode": before.mode, "creeps_m": float(np.linalg.norm(rig.arm.read().position_m - settled.position_m))}
    recorder.finish(
        outcome=result.outcome, verdict=result.verdict, failure_stage=result.failure_stage, success=result.success
    )
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return result, [json.loads(line) for line in lines], left


def of(events: list[dict[str, Any]], kind: str, **values: Any) -> list[dict[str, Any]]:
    wanted = {"kind": kind, **values}
    return [row for row in events if all(row.get(key) == value for key, value in wanted.items())]


def test_a_hand_that_is_pushed_out_of_its_tube_is_stopped_and_the_record_says_by_what(tmp_path: Path) -> None:
    limit = load_calibration("unipi-sim").tube_m
    result, events, left = carry_out(tmp_path / "pushed", PUSH)
    assert (result.outcome, result.failure_stage, result.exit_code) == ("rejected", "motion", 5)
    assert "The hand left the way it was sent" in result.verdict
    assert f"limit {limit:.3f} m" in result.verdict
    assert "The arm holds" in result.verdict
    (ended,) = of(events, "motion", end="astray")
    (gate,) = of(events, "gate", subject="motion", verdict="reject")
    (tube,) = gate["violations"]
    assert (tube["check"], tube["unit"], tube["limit"]) == ("tube", "m", limit)
    assert limit < tube["value"] < limit + 0.1  # it was stopped at once, not some time later
    assert f"tube {tube['value']:.3f} m" in result.verdict
    assert 20 < ended["steps"] == result.steps < 100
    assert left["mode"] is ArmMode.HOLD
    assert left["creeps_m"] < 0.005
    assert json.loads((tmp_path / "pushed" / "run.json").read_text(encoding="utf-8"))["verdict"] == result.verdict


def test_a_hand_that_is_left_alone_stays_in_its_tube_and_its_margin_is_recorded(tmp_path: Path) -> None:
    result, events, _ = carry_out(tmp_path / "free", RigFault())
    assert result.outcome == "success"
    watched = of(events, "gate", subject="motion")
    assert watched
    assert all(row["verdict"] == "pass" and 0 < row["measured"][0]["value"] < 0.2 for row in watched)


class Steps(NoRecord):
    """Keeps which target was active, and how far from the hand every command was."""

    def __init__(self) -> None:
        self.index: list[int] = []
        self.way_m: list[float] = []
        self.p_exec = float("nan")
        self.left: list[int] = []  # targets visited when the next plan took over
        self._hand: Any = None

    def event(self, kind: str, **values: Any) -> None:
        if kind == "seam":
            self.left.append(values["left"])
        for check in values.get("measured", ()) if kind == "gate" else ():
            if check["check"] == "p_exec":
                self.p_exec = check["value"]

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: Any, look: Any) -> None:
        if self._hand is not None:
            self.way_m.append(float(np.linalg.norm(step.sent[:3] - self._hand)))
        self._hand = step.state.position_m
        self.index.append(step.index)


def paced(calibration: Path, *execution: str) -> Steps:
    settings = [f"execution.{setting}" for setting in ("receding_targets=4", *execution)]
    run = composed(*settings, calibration=str(calibration))
    steps = Steps()
    with build_plugin("rig", run.rig.plugin, run.rig.options) as rig:
        stages = build_stages(run.recipe)
        run_episode(rig, stages, instruction=None, task=TASK, seed=SEED, recorder=steps)
        stages.close()
    return steps


@pytest.fixture(scope="module")
def calibrations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Steps]:
    """Two gates that see the same plan: one is sure of it, one would have refused it had it been any less sure."""
    folder, shipped = tmp_path_factory.mktemp("gates"), load_calibration("unipi-sim")
    replace(shipped, min_p_exec=0.0).save(folder / "sure")
    sure = paced(folder / "sure", "mode=receding", "receding_plans=1")
    replace(shipped, min_p_exec=sure.p_exec - 1e-6).save(folder / "unsure")
    return folder / "sure", folder / "unsure", sure


def test_how_sure_the_calibrated_gate_is_sets_speed_and_length_of_what_the_arm_does(
    calibrations: tuple[Path, Path, Steps],
) -> None:
    _, doubting, sure = calibrations
    speed_m = 1.0 / 80  # in one control period at the rig's limit
    unsure = paced(doubting, "mode=receding", "receding_plans=1")
    assert 0.7 < sure.p_exec < 1.0
    assert unsure.p_exec == pytest.approx(sure.p_exec, abs=1e-6)
    assert max(sure.index) == 3
    assert max(unsure.index) == 1  # half as many targets before it looks again
    assert max(unsure.way_m) <= 0.5 * speed_m + 1e-6  # and no more than half as fast
    assert max(sure.way_m[: len(unsure.way_m)]) > 0.7 * speed_m


@pytest.mark.slow
def test_plans_that_overlap_take_over_earlier_from_one_that_the_gate_was_less_sure_of(
    calibrations: tuple[Path, Path, Steps],
) -> None:
    overlapping = ("mode=async", "receding_plans=2", "latency_s=0")
    left = [paced(folder, *overlapping).left[0] for folder in calibrations[:2]]
    assert left == [4, 2]
