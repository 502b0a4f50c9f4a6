"""The calibration that travels with the package fits the weights that do."""

from pathlib import Path

import idm
from cascade.calibration_gate.calibration import load_calibration, shipped
from cascade.config import load_rig
from cascade.metrics.cues import Cues
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
