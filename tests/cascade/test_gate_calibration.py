"""The calibrated gate: what it lets through, what it refuses, and whom it refuses to judge. On a synthetic table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.best_of import choose
from cascade.calibration_gate.calibration import Bound, GateCalibration, load_calibration
from cascade.calibration_gate.tube import Tube, distance_to_path, farthest_m
from cascade.compose import compose
from cascade.config import GateConfig
from cascade.contracts.errors import ConfigError, DataError, IncompatibleError, WeightsError
from cascade.contracts.records import (
    ActionChunk,
    ActionSpace,
    EeReadout,
    GateReport,
    Limits,
    Observation,
    Verdict,
    VideoPlan,
    Violation,
)
from cascade.events import weights_of
from cascade.executability import Logistic
from cascade.gate import check_chunk, check_plan, pace_of
from cascade.goal import Example, fit_goals
from cascade.metrics.cues import REQUIRED, Cues
from cascade.pipeline import Stages
from cascade.plan_judge import judge_plan
from cascade.plugins import build_plugin
from cascade.stages import imagine
from cascade.testing.scenes import tabletop_observation, tabletop_plan
from cascade.testing.spoils import Spoil, spoil
from cascade.value.model import ValueModel
from cascade.value.network import ValueNetwork

SEEN = tabletop_observation()
PLAN = tabletop_plan(SEEN)
assert PLAN.readout is not None
WEIGHTS = {"small": "1234", "idm": "5678"}


class Reader:
    """Reads the true hand, whatever the pixels (a PlanReader)."""

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        assert PLAN.readout is not None
        return PLAN.readout


def plan_of(frames: np.ndarray, **provenance: object) -> VideoPlan:  # type: ignore[type-arg]
    return VideoPlan(
        instruction=PLAN.instruction,
        camera=PLAN.camera,
        transform=PLAN.transform,
        frames=frames,
        provenance=provenance or {"planner": "small", "weights": "1234"},
    )


@pytest.fixture(scope="module")
def calibration() -> GateCalibration:
    assert PLAN.readout is not None
    shown = [
        Example(
            instruction=PLAN.instruction,
            image=PLAN.frames[0],
            path_m=PLAN.readout.position_m,
            opening=PLAN.readout.opening,
        )
    ]
    only_agreement = Logistic(
        name="required cues",
        cues=REQUIRED,
        mean=(0.0,) * len(REQUIRED),
        scale=(1.0,) * len(REQUIRED),
        weights=tuple(-1.0 if name == "agreement" else 0.0 for name in REQUIRED),
        intercept=-2.0,
    )
    bound = Bound(
        check="agreement", cue="agreement", limit=0.15, unit="1", at_least=False, message="The readings disagree."
    )
    still = Bound(
        check="camera stillness", cue="camera_px", limit=3.0, unit="px", at_least=False, message="The camera drifts."
    )
    return GateCalibration(
        weights=WEIGHTS,
        camera=PLAN.camera,
        bounds=(bound, still),
        min_p_exec=0.4,
        first_frame_db=35.0,
        tube_m=0.05,
        models=(only_agreement,),
        goals=fit_goals(shown * 10),
        fitted_on={"trials": 10},
    )


@pytest.fixture(scope="module")
def settings(calibration: GateCalibration, tmp_path_factory: pytest.TempPathFactory) -> GateConfig:
    folder = tmp_path_factory.mktemp("gate")
    calibration.save(folder)
    return GateConfig(calibration=str(folder))


def test_it_is_the_same_after_a_folder(calibration: GateCalibration, settings: GateConfig) -> None:
    again = load_calibration(str(settings.calibration))
    assert replace(again, goals=calibration.goals) == calibration
    image = PLAN.frames[0]
    expected, found = calibration.goals.expect(PLAN.instruction, image), again.goals.expect(PLAN.instruction, image)
    assert expected is not None
    assert found is not None
    np.testing.assert_allclose(found.points_m, expected.points_m, atol=1e-6)


def taught(sentence: str, camera: str = PLAN.camera) -> ValueModel:
    torch.manual_seed(0)
    return ValueModel(ValueNetwork(1), [sentence], camera)


def test_the_learned_value_travels_with_it_and_judges_plans(calibration: GateCalibration, tmp_path: Path) -> None:
    value = taught(PLAN.instruction)
    by_value = replace(
        calibration.models[0], name="all", cues=("value_end",), mean=(0.0,), scale=(1.0,), weights=(5.0,), intercept=0.0
    )
    replace(calibration, value=value, models=(by_value, *calibration.models)).save(tmp_path)
    again = load_calibration(str(tmp_path))
    assert again.value is not None
    assert again.value.digest() == value.digest()
    judged = judge_plan(plan_of(PLAN.frames), SEEN, again, reader=Reader())
    done = value.progress(PLAN.instruction, PLAN.frames)
    assert done is not None
    assert judged.by == "all"
    assert judged.cues.values["value_end"] == pytest.approx(done[-1], abs=2e-3)  # of the last frame, in half precision
    assert judged.p_exec == pytest.approx(1 / (1 + np.exp(-5 * done[-1])), abs=0.01)
    (tmp_path / "value.safetensors").unlink()
    with pytest.raises(WeightsError, match="learned value"):
        GateCalibration.load(tmp_path)


def test_a_sentence_that_the_learned_value_does_not_know_is_judged_without_it(calibration: GateCalibration) -> None:
    by_value = replace(calibration.models[0], name="all", cues=(*REQUIRED, "value_end"), mean=(0.0,) * 9)
    by_value = replace(by_value, scale=(1.0,) * 9, weights=(0.0,) * 9)
    strange = replace(calibration, value=taught("water the plants"), models=(by_value, *calibration.models))
    judged = judge_plan(plan_of(PLAN.frames), SEEN, strange, reader=Reader())
    assert judged.by == "required cues"
    assert judged.cues.missing["value_end"] == "the sentence is not known to the learned value"


def test_a_calibration_of_an_older_form_is_refused_with_what_to_do(
    calibration: GateCalibration, tmp_path: Path
) -> None:
    calibration.save(tmp_path)
    path = tmp_path / "gate.json"
    path.write_text(path.read_text(encoding="utf-8").replace("cascade-gate-2", "cascade-gate-1"), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"found cascade-gate-1.*cascade train gate"):
        GateCalibration.load(tmp_path)


def test_a_plan_that_stops_early_is_told_from_one_that_ends_elsewhere(calibration: GateCalibration) -> None:
    ends = Bound(check="goal", cue="goal_end", limit=-1.0, unit="1", at_least=False, message="It ends elsewhere.")
    goes_on = Bound(check="motion at the end", cue="tail_motion", limit=0.5, unit="1", at_least=True, message="Stops.")
    strict = replace(calibration, bounds=(ends, goes_on))
    stopped = spoil(Spoil.EARLY_STOP, PLAN.frames, strength=0.6, rng=np.random.default_rng(0))
    said = {
        name: {one.check: one.message for one in judge_plan(plan_of(frames), SEEN, strict, reader=Reader()).failed}
        for name, frames in (("stops", stopped), ("goes on", PLAN.frames))
    }
    assert said["stops"]["goal"].startswith("The plan stops early: nothing moves in its last quarter")
    assert said["stops"]["motion at the end"] == "Stops."
    assert said["goes on"]["goal"].startswith("It ends elsewhere. The hand ends")
    assert "motion at the end" not in said["goes on"]


def test_a_good_plan_passes_and_its_probability_is_noted(settings: GateConfig) -> None:
    plan = plan_of(PLAN.frames)
    report = check_plan(plan, SEEN, settings, reader=Reader())
    assert report.verdict is Verdict.PASS, report.violations
    checks = {check.check: check for check in report.measured}
    assert {"first frame", "agreement", "camera stillness", "p_exec"} <= set(checks)
    assert checks["first frame"].limit == 35.0  # the calibration's, not the recipe's
    assert plan.provenance["p_exec"] == pytest.approx(checks["p_exec"].value, abs=1e-3)


def test_a_frozen_plan_is_never_consistent(settings: GateConfig) -> None:
    frames = spoil(Spoil.FROZEN, PLAN.frames, strength=1.0, rng=np.random.default_rng(0))
    report = check_plan(plan_of(frames), SEEN, settings.model_copy(update={"motion": False}), reader=Reader())
    assert report.verdict is Verdict.REJECT
    p_exec = next(check for check in report.violations if check.check == "p_exec")
    assert p_exec.value == 0.0
    assert "agreement" not in {check.check for check in report.measured}


@pytest.mark.parametrize(("kind", "check"), [(Spoil.DRIFT, "camera stillness"), (Spoil.TELEPORT, "agreement")])
def test_a_spoiled_plan_is_refused_by_the_check_that_is_meant_for_it(
    settings: GateConfig, kind: Spoil, check: str
) -> None:
    frames = spoil(kind, PLAN.frames, strength=1.0, rng=np.random.default_rng(0))
    report = check_plan(plan_of(frames), SEEN, settings, reader=Reader())
    assert report.verdict is Verdict.REJECT
    assert check in {violation.check for violation in report.violations}
    assert all(violation.message for violation in report.violations)


def test_a_plan_of_another_planner_is_not_judged(settings: GateConfig) -> None:
    other = plan_of(PLAN.frames, planner="small", weights="9999")
    with pytest.raises(IncompatibleError, match=r"1234.*9999"):
        check_plan(other, SEEN, settings, reader=Reader())
    with pytest.raises(IncompatibleError, match="hold, which names none"):
        check_plan(plan_of(PLAN.frames, planner="hold"), SEEN, settings, reader=Reader())


def test_a_stored_plan_is_judged_by_the_weights_it_was_made_with(settings: GateConfig) -> None:
    saved = {"planner": "small", "weights": "1234"}
    stored = plan_of(PLAN.frames, planner="file", file="plan.mp4", saved=saved)
    assert check_plan(stored, SEEN, settings, reader=Reader()).verdict is Verdict.PASS


def test_without_a_reader_of_hands_there_is_no_judgement(settings: GateConfig) -> None:
    with pytest.raises(IncompatibleError, match="reads the hand"):
        check_plan(plan_of(PLAN.frames), SEEN, settings, reader=object())


def test_another_camera_is_refused(calibration: GateCalibration, tmp_path: Path) -> None:
    replace(calibration, camera="wrist").save(tmp_path)
    with pytest.raises(IncompatibleError, match="wrist"):
        check_plan(plan_of(PLAN.frames), SEEN, GateConfig(calibration=str(tmp_path)), reader=Reader())


def test_an_unknown_calibration_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match=r"gate\.calibration 'nowhere'"):
        check_plan(plan_of(PLAN.frames), SEEN, GateConfig(calibration="nowhere"), reader=Reader())


def test_a_goal_model_that_was_swapped_is_refused(calibration: GateCalibration, tmp_path: Path) -> None:
    calibration.save(tmp_path)
    (tmp_path / "goal.safetensors").write_bytes(b"another")
    with pytest.raises(WeightsError, match="goal model"):
        load_calibration(str(tmp_path))


def test_cues_that_no_model_has_are_named(calibration: GateCalibration) -> None:
    with pytest.raises(DataError, match="agreement"):
        calibration.probability(Cues(moves=True, values={}, missing={"camera_px": "no texture"}))


def test_distance_to_a_path_is_to_its_nearest_place() -> None:
    path = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])
    assert distance_to_path(np.array([0.5, 0.2, 0]), path) == pytest.approx(0.2)
    assert distance_to_path(np.array([1.0, 2.0, 0]), path) == pytest.approx(1.0)
    assert distance_to_path(np.array([-0.3, 0.4, 0]), path) == pytest.approx(0.5)
    measured = np.array([[0.0, 0, 0], [0.5, 0.1, 0], [1, 0, 0.3]])
    assert farthest_m(measured, path[0], path[1:]) == pytest.approx(0.3)


def test_a_path_of_one_place_has_a_distance_too() -> None:
    assert distance_to_path(np.array([0.0, 0, 1.0]), np.zeros((2, 3))) == pytest.approx(1.0)


def test_the_tube_is_left_only_beyond_its_limit() -> None:
    values = np.array([[0.1, 0, 0, 1, 0, 0, 0], [0.2, 0, 0, 1, 0, 0, 0]])
    chunk = ActionChunk(
        values=values, gripper=np.ones(2), times_s=np.array([0.1, 0.2]), confidence=np.ones(2), space=ActionSpace()
    )
    tube = Tube(chunk, np.zeros(3), 0.03)
    assert not tube.left(np.array([0.15, 0.02, 0.0]))
    assert tube.left(np.array([0.15, 0.04, 0.0]))
    assert tube.worst_m == pytest.approx(0.04)


def test_a_chunk_of_another_extractor_is_refused(settings: GateConfig) -> None:
    def chunk(**provenance: object) -> ActionChunk:
        values = np.array([[*SEEN.arm.position_m, 1, 0, 0, 0]])
        return ActionChunk(
            values=values,
            gripper=np.ones(1),
            times_s=np.array([0.1]),
            confidence=np.ones(1),
            space=ActionSpace(),
            provenance=provenance,
        )

    limits = Limits(
        workspace_m=np.array([[-1.0, -1, -1], [1, 1, 1]]),
        max_speed_m_s=1.0,
        max_acceleration_m_s2=10.0,
        max_jerk_m_s3=100.0,
        max_step_m=0.5,
        max_rotation_rad=0.5,
    )
    with pytest.raises(IncompatibleError, match="idm 9999"):
        check_chunk(chunk(extractor="idm", weights="9999"), SEEN.arm, limits, settings)
    for known in (chunk(extractor="idm", weights="5678"), chunk()):  # the way back names no weights
        assert check_chunk(known, SEEN.arm, limits, settings).verdict is Verdict.PASS


def test_a_surer_plan_goes_faster(settings: GateConfig) -> None:
    def report(p_exec: float) -> GateReport:
        check = Violation(check="p_exec", value=p_exec, limit=0.6, unit="1")
        return GateReport(verdict=Verdict.PASS, measured=(check,))

    assert pace_of(report(0.6), settings) == pytest.approx(settings.slowest)
    assert pace_of(report(0.8), settings) == pytest.approx((1 + settings.slowest) / 2)
    assert pace_of(report(1.0), settings) == pytest.approx(1.0)
    assert pace_of(GateReport(verdict=Verdict.PASS), settings) == 1.0


def test_best_of_n_refuses_what_the_calibrated_gate_refuses(settings: GateConfig) -> None:
    run, _ = compose(
        instruction="x",
        task=None,
        seed=0,
        rig="sim",
        recipe="unipi",
        overrides=["sampling.scorers=[{name: consensus}]"],
    )
    recipe = run.recipe.model_copy(update={"gate": settings})
    extractor = build_plugin("extractor", "idm", {"fuse": "latents"})
    stages = Stages(recipe, object(), extractor, Reader(), (build_plugin("scorer", "consensus", {}),))  # type: ignore[arg-type]
    drifting = spoil(Spoil.DRIFT, PLAN.frames, strength=1.0, rng=np.random.default_rng(0))
    plans = [plan_of(drifting), plan_of(PLAN.frames)]
    for plan in plans:
        plan.readout = PLAN.readout
    limits = Limits(
        workspace_m=np.array([[-0.6, 0.2, -0.1], [0.6, 1.2, 0.8]]),
        max_speed_m_s=1.0,
        max_acceleration_m_s2=80.0,
        max_jerk_m_s3=8000.0,
        max_step_m=0.6,
        max_rotation_rad=0.6,
    )
    choice = choose(stages, plans, SEEN, limits)
    assert choice.best.sample == 1
    assert not choice.best.refused
    assert "camera" in choice.ranked[1].refused
    assert "p_exec" in plans[0].provenance


def test_imagining_alone_makes_the_calibrated_checks_too(calibration: GateCalibration, tmp_path: Path) -> None:
    run, _ = compose(
        instruction="open the door",
        task="door-open",
        seed=0,
        rig="sim",
        recipe="unipi",
        overrides=["rig.options.arm_process=false", "extractor.options.threads=1"],
    )
    plan, uncalibrated = imagine(run, tmp_path / "plan")
    assert "p_exec" not in {check["check"] for check in uncalibrated["measured"]}

    replace(calibration, weights=weights_of(plan.provenance)).save(tmp_path / "gate")
    gate = run.recipe.gate.model_copy(update={"calibration": str(tmp_path / "gate")})
    recipe = run.recipe.model_copy(update={"gate": gate})
    judged, report = imagine(run.model_copy(update={"recipe": recipe}), tmp_path / "judged")
    assert {"p_exec", "camera stillness"} <= {check["check"] for check in report["measured"]}
    assert 0 <= judged.provenance["p_exec"] <= 1
