"""Plans that close the gripper beside the thing, brought onto it by what simulated depth cameras see."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.config import load_rig
from cascade.contracts import CameraImage, DataError
from cascade.plugins import build_plugin
from idm.anchoring import FAR_M, REACH_M, anchored
from idm.waypoints import WaypointRules

RULES = WaypointRules()
CAMERAS = ("corner", "corner2", "corner3")
SEEDS = (101, 103)  # nothing is hidden there
offsets = st.tuples(st.floats(-0.06, 0.06), st.floats(-0.06, 0.06))  # within reach also where the place is hidden


def path_to(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the side over the place, down, close, up and away."""
    over = np.linspace(0.3, 0.0, 6)[:, None] * [1.0, 0.0, 0.0] + [0, 0, 0.2]
    down = np.array([[0, 0, 0.12], [0, 0, 0.05], [0, 0, 0.0], [0, 0, 0.0], [0, 0, 0.0]])
    away = [[0, 0, 0.1], [0, 0, 0.2], [0, 0.1, 0.2], [0, 0.2, 0.2], [0, 0.25, 0.2], [0, 0.3, 0.2]]
    opening = np.array([1.0] * 8 + [0.7, 0.5, 0.5] + [0.5] * 6)
    return place + np.vstack([over, down, away]), opening


@cache
def views(task: str, seed: int) -> tuple[dict[str, CameraImage], np.ndarray]:
    """A layout through all cameras, and where its thing is."""
    rig = load_rig(
        "sim", ['options.starts="avdc"', "options.width=320", "options.height=240", "options.arm_process=false"]
    )
    with build_plugin("rig", rig.plugin, {**rig.options, "cameras": list(CAMERAS)}) as entered:
        entered.reset(task=task, seed=seed)
        return dict(entered.observe().images), entered.world.object_positions_m()[0]


def basketball() -> tuple[CameraImage, np.ndarray]:
    """One view of a ball, and where it is."""
    images, ball = views("basketball", SEEDS[0])
    return images["corner"], ball


def closing_place(path: np.ndarray) -> np.ndarray:
    return path[8]


@pytest.mark.parametrize("source", ["depth", "segment"])
@pytest.mark.parametrize("task", ["basketball", "shelf-place"])
@given(offset=offsets)
@settings(max_examples=10, deadline=None)
def test_the_gripper_closes_in_the_middle_of_small_things(task: str, source: str, offset: tuple) -> None:
    for seed in SEEDS:
        images, thing = views(task, seed)
        for image in images.values():
            path, opening = path_to(np.array([thing[0] + offset[0], thing[1] + offset[1], 0.02]))
            moved, anchors = anchored(path, opening, image, RULES, source, "object")

            assert len(anchors) == 1
            assert np.linalg.norm(closing_place(moved)[:2] - thing[:2]) < 0.012
            assert closing_place(moved)[2] == closing_place(path)[2]


@given(along=st.floats(-0.1, 0.08), across=st.floats(-0.05, 0.05))
@settings(max_examples=10, deadline=None)
def test_a_bar_is_held_where_the_plan_says_along_it_and_in_the_middle_across(along: float, across: float) -> None:
    images, hammer = views("hammer", SEEDS[0])  # its handle lies along x
    for image in images.values():
        path, opening = path_to(np.array([hammer[0] + along, hammer[1] + across, 0.02]))
        moved, _ = anchored(path, opening, image, RULES, "segment", "object")

        assert abs(closing_place(moved)[0] - closing_place(path)[0]) < 0.01
        assert abs(closing_place(moved)[1] - hammer[1]) < 0.012


def test_only_the_way_near_the_closing_moves() -> None:
    image, ball = basketball()
    path, opening = path_to(ball + np.array([0.05, 0.0, 0.0]))
    moved, (anchor,) = anchored(path, opening, image, RULES, "depth", "object")
    level = np.linalg.norm(path[:, :2] - path[anchor.frame, :2], axis=1)

    np.testing.assert_array_equal(moved[level >= FAR_M], path[level >= FAR_M])
    shifts = np.linalg.norm(moved - path, axis=1)
    assert shifts[anchor.frame] == pytest.approx(np.linalg.norm(anchor.shift_m))
    assert shifts.max() == shifts[anchor.frame]


def test_a_hidden_thing_is_not_taken_for_the_next_one() -> None:
    images, puck = views("shelf-place", 100)  # the arm hides the puck from this camera
    path, opening = path_to(np.array([puck[0], puck[1], 0.02]))
    moved, anchors = anchored(path, opening, images["corner3"], RULES, "depth", "object")

    assert not anchors
    np.testing.assert_array_equal(moved, path)


def test_a_hand_that_closes_in_the_air_to_push_is_left_alone() -> None:
    image, ball = basketball()
    path, opening = path_to(ball + np.array([0.05, 0.0, 0.15]))

    assert not anchored(path, opening, image, RULES, "depth", "object")[1]


@pytest.mark.parametrize("task", ["basketball", "shelf-place"])
@given(rise=st.floats(0.0, 0.025), on=st.floats(0.0, 0.09), frames=st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_fingers_that_close_where_a_press_ends_are_not_moved_onto_what_stands_beside(
    task: str, rise: float, on: float, frames: int
) -> None:
    images, thing = views(task, SEEDS[0])
    path, opening = path_to(np.array([thing[0] + 0.04, thing[1], 0.02]))
    after = path[10] + np.linspace(0.0, 1.0, frames + 1)[1:, None] * [0.0, on, rise]
    path, opening = np.vstack([path[:11], after]), opening[: 11 + frames]
    moved, anchors = anchored(path, opening, images["corner"], RULES, "depth", "object")

    assert not anchors
    np.testing.assert_array_equal(moved, path)


@pytest.mark.parametrize("way", [[0.0, 0.0, 0.04], [0.0, 0.12, 0.0]], ids=["lifted", "dragged"])
def test_what_is_lifted_or_dragged_on_is_closed_around(way: list[float]) -> None:
    images, thing = views("basketball", SEEDS[0])
    path, opening = path_to(np.array([thing[0] + 0.04, thing[1], 0.02]))
    after = path[10] + np.linspace(0.0, 1.0, 4)[1:, None] * way
    moved, anchors = anchored(np.vstack([path[:11], after]), opening[:14], images["corner"], RULES, "depth", "object")

    assert len(anchors) == 1
    assert np.linalg.norm(closing_place(moved)[:2] - thing[:2]) < 0.012


def test_a_thing_let_go_where_it_was_taken_is_not_taken_along() -> None:
    images, thing = views("basketball", SEEDS[0])
    path, opening = path_to(np.array([thing[0] + 0.04, thing[1], 0.02]))
    path[11:13] = path[10]  # still there when the fingers open, and up only then
    opening[11:] = 1.0

    assert not anchored(path, opening, images["corner"], RULES, "depth", "object")[1]


def test_nothing_moves_where_there_is_nothing_to_close_around() -> None:
    image, _ = basketball()
    path, opening = path_to(np.array([5.0, 5.0, 0.02]))
    moved, anchors = anchored(path, opening, image, RULES, "depth", "object")

    assert not anchors
    np.testing.assert_array_equal(moved, path)


def test_a_thing_too_far_from_the_plan_is_another_thing() -> None:
    image, ball = basketball()
    path, opening = path_to(ball + np.array([0.0, REACH_M + 0.05, 0.0]))

    assert not anchored(path, opening, image, RULES, "segment", "object")[1]


def test_a_hand_that_holds_something_already_is_left_alone() -> None:
    image, ball = basketball()
    path, opening = path_to(ball + np.array([0.05, 0.0, 0.0]))
    moved, anchors = anchored(path, np.minimum(opening, 0.3), image, RULES, "depth", "object")

    assert not anchors
    np.testing.assert_array_equal(moved, path)


def test_an_image_without_depth_is_refused() -> None:
    image, ball = basketball()
    blind = CameraImage(rgb=image.rgb, K=image.K, stamp_s=0.0, T_base_cam=image.T_base_cam)
    path, opening = path_to(ball)

    with pytest.raises(DataError, match="expected depth"):
        anchored(path, opening, blind, RULES, "depth", "object")
