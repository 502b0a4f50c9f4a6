"""Rows as a study writes them, and a study to go with them."""

import pytest

from cascade.study.config import StudyConfig

TASKS = ("door-open", "door-close")


def make_rows(arm, seeds, succeeds, clock="frozen"):
    return [
        {
            "arm": arm,
            "clock": clock,
            "task": task,
            "seed": seed,
            "success": succeeds(seed),
            "failure_stage": "none" if succeeds(seed) else "motion",
            "steps": 100,
            "plans": 1,
            "stage_ms": {"plan": [10.0]},
            "weights": {},
            "error": None,
            "load": 1.0,
        }
        for task in TASKS
        for seed in seeds
    ]


def make_study(**changes):
    values = {
        "name": "s",
        "tasks": TASKS,
        "seed": 0,
        "layouts": {"frozen": 30, "realtime": 30},
        "arms": {"a": {"recipe": "unipi"}, "b": {"recipe": "unipi", "planner": "hold"}},
        "set": ["rig.options.arm_process=false"],
    }
    return StudyConfig.model_validate({**values, **changes})


@pytest.fixture(scope="session")
def rows():
    return make_rows


@pytest.fixture(scope="session")
def study():
    return make_study
