"""Motion that came with the plan is handed on as it came."""

import numpy as np
import pytest

from cascade.contracts import ActionChunk, IncompatibleError, VideoPlan
from cascade.plugins import build_plugin
from cascade.testing import check_extractor, tabletop_observation, tabletop_plan
from cascade.testing.extractors import copy_of


def a_motion() -> ActionChunk:
    start = tabletop_observation().arm
    values = np.tile(np.r_[start.position_m, 1.0, 0.0, 0.0, 0.0], (4, 1))
    values[:, 2] += np.linspace(0.0, 0.03, 4)
    return ActionChunk(values=values, gripper=np.full(4, 0.5), times_s=np.arange(4) * 0.2)


def a_plan_that_says_its_motion() -> VideoPlan:
    plan = copy_of(tabletop_plan())
    plan.actions = a_motion()
    return plan


def test_the_motion_is_handed_on_unchanged() -> None:
    chunk = check_extractor(build_plugin("extractor", "given"), a_plan_that_says_its_motion(), tabletop_observation())

    assert np.array_equal(chunk.values, a_motion().values)
    assert np.array_equal(chunk.gripper, a_motion().gripper)


def test_a_plan_without_motion_is_refused_and_its_planner_named() -> None:
    plan = copy_of(tabletop_plan())
    plan.provenance["planner"] = "embedded"

    with pytest.raises(IncompatibleError, match="expected a plan that says its own motion, found one of embedded"):
        build_plugin("extractor", "given").extract(plan, tabletop_observation())
