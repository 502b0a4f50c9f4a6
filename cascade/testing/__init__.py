"""Conformance checks for who writes a planner, extractor, arm driver, camera or rig; call them from your own tests.

Every check raises PluginError saying what the contract wants, what the stage did, and what to change. `scenes` holds a
small synthetic table to try a stage on without a simulator::

    from cascade.testing import check_planner, tabletop_observation

    def test_my_planner_keeps_the_contract():
        check_planner(MyPlanner(), tabletop_observation(), "push the ball")
"""

from cascade.testing.arms import check_arm_driver
from cascade.testing.cameras import check_camera
from cascade.testing.extractors import check_extractor, check_reader
from cascade.testing.planners import check_planner
from cascade.testing.rigs import check_demonstrator, check_rig
from cascade.testing.scenes import tabletop_observation, tabletop_plan
from cascade.testing.specs import check_plugin_spec

__all__ = [
    "check_arm_driver",
    "check_camera",
    "check_demonstrator",
    "check_extractor",
    "check_planner",
    "check_plugin_spec",
    "check_reader",
    "check_rig",
    "tabletop_observation",
    "tabletop_plan",
]
