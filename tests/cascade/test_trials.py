"""Trials: which plans are followed, what is kept of them, and that a session can be gone on with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade.calibration_gate.demonstrations import demonstrate
from cascade.calibration_gate.fitting import calibrate, cues_of_trials, reading_of_trial
from cascade.calibration_gate.session import Session, bench_of, limits_of, session_value, train_gate
from cascade.calibration_gate.trials import Trial, read_rows, run_trials, trials
from cascade.cli.app import app
from cascade.config import load_recipe, load_rig
from cascade.contracts.errors import ConfigError, DataError, IncompatibleError, WeightsError
from cascade.goal import GoalModel
from cascade.metrics.cues import Cues, cues_of
from cascade.suites import find_suite
from cascade.testing.spoils import SPOILED, Spoil


def test_every_layout_has_its_good_plan_and_every_task_gets_every_spoil() -> None:
    tasks = find_suite("metaworld-11").tasks
    wanted = trials(tasks, range(100, 104))
    assert len({trial.key for trial in wanted}) == len(wanted) == 3 * 4 * len(tasks)
    for task in tasks:
        kinds = [trial.kind for trial in wanted if trial.task == task]
        assert kinds.count(Spoil.NONE) == 4
        assert set(SPOILED) < set(kinds)
    assert wanted == trials(tasks, range(100, 104))
    assert {trial.strength for trial in wanted if trial.kind is Spoil.NONE} == {0.0}
    assert all(0.3 <= trial.strength <= 1.0 for trial in wanted if trial.kind is not Spoil.NONE)


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_text('{"key": "a"}\n{"key": "b', encoding="utf-8")
    assert [row["key"] for row in read_rows(tmp_path / "trials.jsonl")] == ["a"]
    assert read_rows(tmp_path / "none.jsonl") == []


def test_trials_that_are_there_are_not_run_again(tmp_path: Path) -> None:
    one = Trial(task="door-close", seed=1, kind=Spoil.NONE, strength=0.0)
    (tmp_path / "trials.jsonl").write_text(json.dumps({"key": one.key}) + '\n{"key', encoding="utf-8")

    def nobody() -> None:
        raise AssertionError("a bench was built")

    assert [row["key"] for row in run_trials([one], tmp_path, nobody)] == [one.key]  # type: ignore[arg-type]


def rows_of(count: int, weights: dict[str, str]) -> list[dict[str, object]]:
    return [
        {"key": f"t-{i}", "task": "t", "seed": i, "kind": "none", "success": i % 2 == 0, "weights": weights}
        for i in range(count)
    ]


def test_trials_of_two_planners_are_not_fitted_together(tmp_path: Path) -> None:
    rows = rows_of(30, {"embedded": "a"}) + rows_of(1, {"embedded": "b"})
    cues = [Cues(moves=False, values={}, missing={})] * len(rows)
    with pytest.raises(DataError, match="one set of weights"):
        calibrate(tmp_path, rows, cues, GoalModel(), camera="corner", target=0.9)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(rig=load_rig("sim"), recipe=load_recipe("unipi"), tasks=("door-close",), seeds=(100,))


def test_a_folder_of_another_session_is_refused(session: Session, tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text(json.dumps(session.values() | {"spoils": 7}), encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a new folder"):
        train_gate(session, tmp_path)
    with pytest.raises(ConfigError, match="spoils"):
        train_gate(session, tmp_path, resume=True)


def test_the_learned_value_is_left_out_where_it_knows_another_camera(session: Session, tmp_path: Path) -> None:
    known = session_value(session)
    assert known is not None
    assert known.camera == session.camera
    assert session_value(replace(session, camera="wrist")) is None
    assert session_value(replace(session, value=None)) is None
    known.save(tmp_path / "own")
    with pytest.raises(IncompatibleError, match=r"'wrist', found 'corner'"):
        session_value(replace(session, camera="wrist", value=tmp_path / "own"))


def test_cues_are_computed_anew_when_what_they_rest_on_has_changed(session: Session, tmp_path: Path) -> None:
    row = {"key": "t-0", "instruction": "close the door"}
    size, hand = (64, 64, 3), np.linspace([0.0, 0.6, 0.1], [0.0, 0.7, 0.1], 5)
    evidence = {"frames": np.zeros((5, *size), np.uint8), "camera": np.zeros(size, np.uint8), "hand_m": hand}
    evidence |= {"K": np.eye(3), "T_base_ee": np.eye(4), "T_base_cam": np.eye(4), "crop_px": np.array([0.0, 0, 64, 64])}
    evidence |= {"hand_opening": np.ones(5), "hand_std_m": np.zeros(5)}
    np.savez(tmp_path / "t-0.npz", **evidence)
    limits, value = limits_of(session.rig), session_value(session)

    def kept() -> list[str]:
        return (tmp_path / "cues.jsonl").read_text(encoding="utf-8").splitlines()

    (tmp_path / "cues.jsonl").write_text('{"key": "t-0", "moves": true, "values": {}, "missing": {}}\n{"ke')
    assert not cues_of_trials(tmp_path, [row], GoalModel(), value, limits)[0].moves  # the old line says another thing
    (line,) = kept()
    (tmp_path / "cues.jsonl").write_text(line.replace("false", "true") + "\n")
    assert cues_of_trials(tmp_path, [row], GoalModel(), value, limits)[0].moves  # kept: not computed again
    assert not cues_of_trials(tmp_path, [row], GoalModel(), None, limits)[0].moves
    assert len(kept()) == 1


@pytest.mark.slow
def test_a_good_plan_works_and_a_frozen_one_does_not_and_both_leave_their_evidence(
    session: Session, tmp_path: Path
) -> None:
    wanted = [Trial(task="door-close", seed=100, kind=kind, strength=1.0) for kind in (Spoil.NONE, Spoil.FROZEN)]
    rows = list(run_trials(wanted, tmp_path, lambda: bench_of(session)))
    assert [row["success"] for row in rows] == [True, False]
    assert set(rows[0]["weights"]) == {"embedded", "idm"}
    limits = limits_of(session.rig)
    found = []
    for row in rows:
        with np.load(tmp_path / f"{row['key']}.npz") as evidence:
            assert {"frames", "camera", "hand_m", "measured_m", "executed", "mask", "targets_m"} <= set(evidence.files)
            assert evidence["executed"].shape == evidence["frames"].shape
            found.append(cues_of(reading_of_trial(row, evidence, limits)))
    assert found[0].moves
    assert found[0].values["agreement"] < 0.15
    assert not found[1].moves  # never called consistent
    assert [row["key"] for row in run_trials(wanted, tmp_path, lambda: 1 / 0)] == [row["key"] for row in rows]  # type: ignore[arg-type,return-value]


@pytest.mark.slow
def test_demonstrations_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    rig, path = load_rig("sim"), tmp_path / "demonstrations.npz"
    counted: list[int] = []

    def shown(seeds: range) -> int:
        return len(
            demonstrate(
                rig, ["door-close"], seeds, path, camera="corner", size_px=128, on_row=lambda: counted.append(1)
            )
        )

    assert shown(range(1, 3)) == 2
    before = path.stat().st_mtime_ns
    assert shown(range(1, 3)) == 2
    assert path.stat().st_mtime_ns == before
    assert shown(range(1, 4)) == 3
    assert len(counted) == 7


def test_value_weights_that_are_not_there_are_said_to_be_missing_before_anything_is_run(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    said = CliRunner().invoke(app, ["train", "gate", "metaworld-11", "-o", str(tmp_path / "gate"), "--value", nowhere])
    assert isinstance(said.exception, WeightsError)
    assert "expected a learned value, found none" in said.exception.problem
    assert not (tmp_path / "gate" / "trials.jsonl").exists()
    assert not (tmp_path / "gate" / "demonstrations.npz").exists()
