from dataclasses import replace

import pytest

from cascade.failures.evidence import Attempt
from cascade.failures.verdict import NEAR_M, Ended, Failure, decide

CARRIED = Ended(outcome="failed", failure_stage="motion", verdict="Not done.", planner="embedded", lifts=True)
PUSHED = replace(CARRIED, lifts=False)
GOOD = Attempt(
    steps=100,
    cut=False,
    contact_error_m=0.01,
    goal_error_m=0.01,
    hand_contact_error_m=0.01,
    moved_m=0.2,
    share=0.6,
    touched=True,
    carried=True,
    lost=False,
)
MISSED = replace(GOOD, touched=False, carried=False, moved_m=0.0, share=0.0)
ASTRAY = replace(MISSED, contact_error_m=NEAR_M + 0.05)


@pytest.mark.parametrize(
    ("ended", "attempt", "failure"),
    [
        (replace(CARRIED, outcome="rejected"), GOOD, Failure.GATE),
        (replace(CARRIED, outcome="error", verdict="Ended by an error: flow lost: no point"), None, Failure.FLOW),
        (replace(CARRIED, outcome="error", verdict="Ended by an error: boom"), GOOD, Failure.OTHER),
        (replace(CARRIED, lifts=None), None, Failure.OTHER),
        (CARRIED, MISSED, Failure.CONTACT),
        (CARRIED, ASTRAY, Failure.PLAN),
        (PUSHED, ASTRAY, Failure.PLAN),
        (CARRIED, replace(MISSED, cut=True), Failure.TIMEOUT),
        (CARRIED, replace(GOOD, carried=False), Failure.CONTACT),
        (CARRIED, replace(GOOD, carried=False, contact_error_m=0.1), Failure.PLAN),
        (CARRIED, replace(GOOD, lost=True), Failure.SLIPPED),
        (CARRIED, replace(GOOD, goal_error_m=0.1), Failure.PLAN),
        (CARRIED, replace(GOOD, contact_error_m=0.1), Failure.PLAN),
        (CARRIED, replace(GOOD, cut=True), Failure.TIMEOUT),
        (CARRIED, GOOD, Failure.OTHER),
        (PUSHED, GOOD, Failure.SLIPPED),
        (PUSHED, replace(GOOD, goal_error_m=0.1), Failure.PLAN),
        (PUSHED, replace(GOOD, cut=True), Failure.TIMEOUT),
    ],
)
def test_numbers_decide_the_class(ended, attempt, failure):
    found, reason = decide(ended, attempt)
    assert found is failure
    assert reason


@pytest.mark.parametrize(
    ("ended", "attempt", "failure"),
    [
        (replace(CARRIED, planner="oracle"), ASTRAY, Failure.FIT),
        (CARRIED, replace(ASTRAY, told_contact_error_m=0.01), Failure.FIT),
        (CARRIED, replace(ASTRAY, told_contact_error_m=0.08), Failure.PLAN),
        (replace(CARRIED, perfect_plan=False), ASTRAY, Failure.FIT),
        (replace(CARRIED, perfect_plan=True), ASTRAY, Failure.PLAN),
        # What another reading of this very plan says outweighs what came of another plan.
        (replace(CARRIED, perfect_plan=True), replace(ASTRAY, told_contact_error_m=0.01), Failure.FIT),
        (replace(CARRIED, perfect_plan=False), replace(ASTRAY, told_contact_error_m=0.08), Failure.PLAN),
        (PUSHED, replace(GOOD, goal_error_m=0.1, told_goal_error_m=0.01), Failure.FIT),
    ],
)
def test_a_path_that_leads_elsewhere_is_the_plan_or_its_reading(ended, attempt, failure):
    found, reason = decide(ended, attempt)
    assert found is failure
    assert " mm from where the expert" in reason
