"""The calibration that travels with the package fits the weights that do."""

from pathlib import Path

import pytest

import idm
from cascade.calibration_gate.calibration import load_calibration, shipped
from cascade.compose import compose
from cascade.config import load_rig
from cascade.contracts.records import Verdict
from cascade.gate import check_plan
from cascade.metrics.cues import Cues
from cascade.pipeline import build_stages
from cascade.plugins import build_plugin
from cascade.testing.spoiled import SpoiledPlanner
from cascade.testing.spoils import Spoil
from idm.weights import weights_digest
from planner.weights import DEFAULT_WEIGHTS, check_sums


def test_it_is_found_by_name_and_holds_for_the_default_camera() -> None:
    assert "unipi-sim" in shipped()
    calibration = load_calibration("unipi-sim")
    assert calibration.camera in load_rig("sim").options["cameras"]
    assert 0 < calibration.min_p_exec < 1
    assert calibration.first_frame_db > 20
    assert 0 < calibration.tube_m < 0.5
    assert calibration.probability(Cues(moves=False, values={}, missing={}))[0] == 0.0


def test_it_holds_for_the_weights_of_the_default_planner_and_extractor() -> None:
    corner = Path(idm.__file__).parent / "weights" / "corner-1"
    here = {"embedded": check_sums(DEFAULT_WEIGHTS)[:16], "idm": weights_digest(corner)}
    assert dict(load_calibration("unipi-sim").weights) == here


def test_it_knows_the_goals_of_its_suite() -> None:
    goals = load_calibration("unipi-sim").goals
    assert goals.find("open the door") == "open the door"
    assert goals.find("please press the button from the top") == "press the button from the top"
    assert goals.find("water the plants") is None


def test_its_learned_value_knows_the_same_camera_and_sentences() -> None:
    calibration = load_calibration("unipi-sim")
    assert calibration.value is not None
    assert calibration.value.camera == calibration.camera
    assert set(calibration.value.sentences) == set(calibration.goals.sentences)
    assert "value_end" in calibration.models[0].cues
    assert all(model.reliability for model in calibration.models)


def test_a_real_plan_passes_and_the_same_one_that_stops_early_is_refused_by_the_goal_check_in_words() -> None:
    settings = ("rig.options.arm_process=false", "extractor.options.threads=1", "gate.calibration=unipi-sim")
    run, _ = compose(
        instruction="close the door", task="door-close", seed=3, rig="sim", recipe="unipi", overrides=settings
    )
    stages = build_stages(run.recipe)
    planner = SpoiledPlanner(stages.planner, kind=Spoil.NONE)
    with build_plugin("rig", run.rig.plugin, run.rig.options) as rig:
        rig.reset(task="door-close", seed=3)
        seen, limits = rig.observe(), rig.arm.spec.limits
    reports = {}
    for kind in (Spoil.NONE, Spoil.EARLY_STOP):
        planner.kind, planner.strength = kind, 0.6
        plan = planner.plan(seen, "close the door", seed=3)[0]
        reports[kind] = check_plan(plan, seen, run.recipe.gate, reader=stages.hand_reader, limits=limits)
    stages.close()
    assert reports[Spoil.NONE].verdict is Verdict.PASS, reports[Spoil.NONE].violations
    early = reports[Spoil.EARLY_STOP]
    assert early.verdict is Verdict.REJECT
    broken = {violation.check: violation for violation in early.violations}
    assert {"goal", "motion at the end", "p_exec"} <= set(broken)
    assert "The plan stops early: nothing moves in its last quarter" in broken["goal"].message
    assert "cm from where the instruction asks it to be" in broken["goal"].message
    measured = {check.check: check.value for check in reports[Spoil.NONE].measured}
    assert broken["goal"].value > 2 * measured["goal"]
    assert broken["motion at the end"].value == pytest.approx(0.0)
