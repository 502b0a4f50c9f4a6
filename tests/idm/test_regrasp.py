"""Grasps that took nothing: how they are noticed, and that the next try takes the thing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.config import load_recipe, load_rig
from cascade.contracts import ArmState, CameraImage, Observation
from cascade.events import NoRecord
from cascade.oracle import OracleConfig, OraclePlanner
from cascade.pipeline import Stages
from cascade.plugins import build_plugin
from cascade.runtime import run_episode
from idm.regrasp import (
    FINGERS_S,
    NARROWER,
    OVER_M,
    GraspCheck,
    Grasps,
    Retry,
    check_of,
    clearing,
    once_more,
    standing_at,
)
from idm.waypoints import WaypointRules, plan_waypoints

RULES = WaypointRules()
FIST = 0.3  # what the simulated gripper reads when it has closed on nothing


@pytest.fixture(scope="module")
def rig() -> Iterator[Any]:
    config = load_rig("sim", ["options.arm_process=false"])
    with build_plugin("rig", config.plugin, config.options) as entered:
        yield entered


def arm_at(position: Any, opening: float) -> ArmState:
    T = np.eye(4)
    T[:3, 3] = position
    return ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=opening, stamp_s=0.0)


def above(place: np.ndarray, by: float) -> np.ndarray:
    return np.add(place, [0.0, 0.0, by])


def path_to(place: np.ndarray, width: float) -> Grasps:
    """Down onto a place, close, up, away and let go there."""
    down = [[0.1, 0, 0.2], [0, 0, 0.15], [0, 0, 0.06], [0, 0, 0], [0, 0, 0]]
    away = [[0, 0, 0.1], [0, 0.1, 0.2], [0, 0.2, 0.2], [0, 0.3, 0.2], [0, 0.3, 0.1], [0, 0.3, 0.1], [0, 0.3, 0.2]]
    opening = np.array([1.0, 1, 1, width, width, *[width] * 4, 1, 1, 1])
    return Grasps(place + np.array(down + away), opening, (), None, "object")


def check_at(place: np.ndarray, width: float, image: CameraImage | None = None) -> GraspCheck:
    grasps = path_to(place, width)
    ((frame, until),) = grasps.spans(RULES)
    standing = None if image is None else standing_at(image, place)
    check = check_of(plan_waypoints(grasps.path(), grasps.opening, RULES), grasps.opening, frame, until, standing)
    assert check is not None
    return check


@given(width=st.floats(0.3, 0.7), off=st.floats(-0.2, 0.2))
@settings(max_examples=40, deadline=None)
def test_fingers_narrower_than_the_plan_shows_them_hold_nothing(width: float, off: float) -> None:
    place = np.array([0.0, 0.6, 0.02])
    check = check_at(place, width)

    assert not check.missed(arm_at(above(place, 0.2), FIST), None), "they have not closed there yet"
    assert not check.missed(arm_at(place, 0.5), None), "they are closing"
    why = check.missed(arm_at(above(place, 0.05), width + off), None)
    assert bool(why) == (off < -NARROWER), why


def test_what_was_let_go_at_its_goal_was_not_lost() -> None:
    place = np.array([0.0, 0.6, 0.02])
    check = check_at(place, 0.6)
    check.missed(arm_at(place, 0.5), None)
    assert not check.missed(arm_at(check.release_m, FIST), None)
    assert check.over


def test_a_thing_that_stands_there_still_was_not_taken_however_wide_the_fingers_are(rig: Any) -> None:
    rig.reset(task="basketball", seed=101)
    before = rig.observe().image("corner")
    place = rig.world.object_positions_m()[0]
    checks = [check_at(place, 0.35, before) for _ in range(3)]
    for check in checks:
        check.missed(arm_at(place, 0.5), before)
    up = arm_at(above(place, 0.12), 0.35)

    assert "stands there still" in checks[0].missed(up, before)
    move_ball(rig, [0.06, 0.0, 0.0])
    assert "stands there still" in checks[1].missed(up, rig.observe().image("corner")), "pushed a little aside"
    move_ball(rig, [0.0, 0.0, 0.4])
    assert not checks[2].missed(up, rig.observe().image("corner")), "it is in the air"


def test_without_depth_or_before_the_hand_is_up_the_table_says_nothing(rig: Any) -> None:
    rig.reset(task="basketball", seed=101)
    image = rig.observe().image("corner")
    blind = CameraImage(rgb=image.rgb, K=image.K, stamp_s=0.0, T_base_cam=image.T_base_cam)
    place = rig.world.object_positions_m()[0]
    check = check_at(place, 0.35, image)
    check.missed(arm_at(place, 0.5), image)

    assert standing_at(blind, place) is None
    assert not check.missed(arm_at(above(place, 0.12), 0.35), blind)
    assert not check.missed(arm_at(above(check.place_m, 0.04), 0.35), image)


@given(x=st.floats(-0.2, 0.2), z=st.floats(0.05, 0.3))
@settings(max_examples=40, deadline=None)
def test_the_next_try_opens_first_looks_from_above_and_goes_on_as_planned(x: float, z: float) -> None:
    place = np.array([0.0, 0.6, 0.02])
    grasps, hand = path_to(place, 0.5), np.array([x, 0.6, z])
    whole = plan_waypoints(grasps.path(), grasps.opening, RULES)
    check = check_at(place, 0.5)

    up = clearing(hand, check.place_m, check.frame, RULES)
    assert (up.gripper == 1).all()
    np.testing.assert_array_equal(up.position_m[0], hand)
    assert up.hold_s[0] > 0, "time to open"
    assert up.position_m[-1, 2] >= check.place_m[2] + OVER_M - 1e-9
    np.testing.assert_allclose(up.position_m[-1, :2], check.place_m[:2], atol=1e-9)

    down = once_more(whole, check.frame, up.position_m[-1], RULES)
    closes = int(np.flatnonzero(down.gripper < 0.5)[0])
    np.testing.assert_allclose(down.position_m[closes], check.place_m, atol=1e-9)
    assert down.hold_s[closes] == RULES.dwell_s
    assert (down.gripper[:closes] == 1).all()
    assert np.ptp(down.position_m[:closes, 0]) < 1e-9, "straight down"
    planned = int(np.flatnonzero(whole.gripper < 0.5)[0])
    np.testing.assert_array_equal(down.position_m[closes:], whole.position_m[planned:])
    np.testing.assert_array_equal(down.gripper[closes:], whole.gripper[planned:])
    for way in (up, down):
        assert (np.diff(way.times_s) >= 0).all()
        assert np.linalg.norm(np.diff(way.position_m, axis=0), axis=1).max(initial=0.0) < 0.35


@pytest.mark.parametrize("height", [0.0, 0.02, 0.05])
def test_the_next_try_closes_no_higher_than_the_middle_of_the_thing(rig: Any, height: float) -> None:
    rig.reset(task="basketball", seed=101)
    image, ball = rig.observe().image("corner"), rig.world.object_positions_m()[0]
    near = np.array([ball[0] + 0.02, ball[1], height])
    grasps = replace(path_to(near, 0.6), source="depth")
    ((frame, _),) = grasps.spans(RULES)
    again = grasps.placed_again(frame, near, image)
    place = again.path()[frame]
    assert np.linalg.norm(place[:2] - ball[:2]) < 0.012
    assert place[2] <= ball[2] + 0.01
    assert place[2] == height or height > 0.02, "never higher than before, nor lower without need"
    more = again.placed_again(frame, np.array([ball[0], ball[1], place[2]]), image)
    np.testing.assert_allclose(more.path()[frame], place, atol=1e-6)


@pytest.mark.parametrize(("speed", "met"), [(0.0, False), (0.1, True), (1.0, False)])
def test_a_thing_that_rolls_is_met_where_it_will_be(rig: Any, speed: float, met: bool) -> None:
    rig.reset(task="basketball", seed=101)
    ball, first = rig.world.object_positions_m()[0], rig.observe()
    grasps = replace(path_to(np.array([ball[0], ball[1], 0.02]), 0.6), source="depth")
    waypoints = plan_waypoints(grasps.path(), grasps.opening, RULES)
    retry = Retry(1, RULES, grasps, waypoints, first.image("corner"))
    retry.watch(seen(first, arm_at(ball, 0.5)), "corner")
    assert retry.watch(seen(first, arm_at(above(ball, 0.1), FIST)), "corner").verdict == "again"
    up = retry.way(seen(first, arm_at(above(ball, 0.1), FIST), 1.0), "corner")
    move_ball(rig, [0.0, 0.3 * speed, 0.0])
    now = rig.world.object_positions_m()[0]
    down = retry.way(seen(rig.observe(), arm_at(above(ball, 0.2), 1.0), 1.3), "corner")
    assert up is not None
    assert down is not None
    at = int(np.flatnonzero(down.gripper < 0.5)[0])
    ahead = down.position_m[at, 1] - now[1]
    expected = speed * (down.times_s[at] + FINGERS_S) if met else 0.0
    assert ahead == pytest.approx(expected, abs=0.015)


def seen(observation: Observation, arm: ArmState, stamp_s: float = 0.0) -> Observation:
    return Observation(images=observation.images, arm=replace(arm, stamp_s=stamp_s))


def move_ball(rig: Any, offset: list[float]) -> None:
    """Put the ball elsewhere, as a person would."""
    import mujoco

    world = rig.world
    free = [j for j in range(world.model.njnt) if world.model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE]
    at = int(world.model.jnt_qposadr[free[0]])
    world.data.qpos[at : at + 3] += offset
    mujoco.mj_forward(world.model, world.data)


class Pushes(NoRecord):
    """Moves the ball aside while the arm is on its way to it, once; keeps the words for which a chunk was left."""

    def __init__(self, rig: Any) -> None:
        self.rig = rig
        self.why: list[str] = []

    def step(self, number: int, *_: Any) -> None:
        if number == 20:
            move_ball(self.rig, [0.09, 0.0, 0.0])

    def event(self, kind: str, **values: Any) -> None:
        if kind == "watch" and values.get("verdict") == "again":
            self.why.append(values["why"])


@pytest.mark.slow
def test_a_ball_that_was_moved_meanwhile_is_taken_in_the_second_try(rig: Any) -> None:
    ended, told = {}, Pushes(rig)
    for regrasp in (0, 1):
        recipe = load_recipe("best", [f"extractor.options.regrasp={regrasp}", "execution.replans=0"])
        extractor = build_plugin("extractor", recipe.extractor.name, recipe.extractor.options)
        stages = Stages(recipe, OraclePlanner(OracleConfig(readout=True)), extractor)
        told = Pushes(rig)
        result = run_episode(rig, stages, instruction=None, task="basketball", seed=101, recorder=told)
        ended[regrasp] = result.success
        stages.close()

    assert ended == {0: False, 1: True}
    assert len(told.why) == 1
    assert "Nothing is held" in told.why[0]
