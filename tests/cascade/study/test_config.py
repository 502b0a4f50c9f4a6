"""A study's file: who meets whom, on which scenes, and what is refused."""

import pytest
from pydantic import ValidationError

from cascade.config import packaged
from cascade.contracts import ConfigError
from cascade.study.config import StudyConfig, load_study


def study(**changes):
    values = {
        "name": "s",
        "seed": 5,
        "tasks": ("door-open", "door-close"),
        "layouts": {"frozen": 2, "realtime": 1},
        "planners": {"hold": {"planner": "hold"}, "oracle": {"planner": "oracle", "clocks": ["frozen"]}},
        "extractors": {"idm": {"recipe": "unipi"}, "flow": {"recipe": "avdc"}},
        "arms": {"blind": {"recipe": "unipi", "control": "wrong-layout"}},
    }
    return StudyConfig.model_validate({**values, **changes})


def test_planners_are_crossed_with_extractors_and_other_arms_stand_beside_them():
    assert study().arm_names == ("hold+idm", "hold+flow", "oracle+idm", "oracle+flow", "blind")
    assert study().comparisons[0] == ("hold+idm", "hold+flow")
    assert study(compare=[["blind", "hold+idm"]]).comparisons == (("blind", "hold+idm"),)


def test_every_arm_meets_the_same_scenes_under_each_of_its_clocks():
    scenes = {}
    for job in study().jobs():
        scenes.setdefault((job.arm, job.clock), []).append((job.task, job.seed))

    frozen = [("door-open", 5), ("door-close", 5), ("door-open", 6), ("door-close", 6)]
    assert {arm: scenes[arm, "frozen"] for arm in study().arm_names} == dict.fromkeys(study().arm_names, frozen)
    assert scenes["hold+idm", "realtime"] == frozen[:2]
    assert ("oracle+idm", "realtime") not in scenes


def test_an_arm_takes_extraction_and_execution_from_the_recipe_and_the_planner_from_the_other_side():
    arms = study(set=["rig.options.arm_process=false"]).build_arms()

    assert arms["hold+flow"].recipe.planner.name == "hold"
    assert arms["hold+flow"].recipe.extractor.name == "flow"
    assert arms["blind"].control == "wrong-layout"
    assert arms["blind"].rig.options["arm_process"] is False


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"compare": [["blind", "nobody"]]}, "'nobody' is no arm"),
        ({"extractors": {}}, "both planners and extractors"),
        ({"layouts": {}}, "at least one layout"),
        ({"planners": {"x": {}}}, "expected a `planner`"),
        ({"planners": {}, "extractors": {}, "arms": {}}, "at least one arm"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        study(**changes)


def test_a_task_outside_the_suite_and_an_unknown_study_are_told():
    with pytest.raises(ConfigError, match="task 'door-opne'"):
        study(tasks=["door-opne"]).jobs()
    with pytest.raises(ConfigError, match="study 'imaginatoin': unknown"):
        load_study("imaginatoin")


@pytest.mark.parametrize("name", packaged("studies"))
def test_a_packaged_study_is_valid_down_to_the_options_of_its_arms(name):
    loaded = load_study(name)

    assert loaded.name == name
    assert set(loaded.build_arms()) == set(loaded.arm_names)
