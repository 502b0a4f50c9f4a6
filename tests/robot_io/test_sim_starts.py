from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from robot_io.sim.plugins import SIM
from robot_io.sim.rig import SimRig
from robot_io.sim.starts import hand_offset_m, reached
from robot_io.sim.tasks import METAWORLD_11
from robot_io.sim.world import World


@given(task=st.sampled_from([*METAWORLD_11, "window-open"]), seed=st.integers(0, 2**32 - 1))
def test_offsets_lie_in_the_box_of_the_task_and_repeat(task: str, seed: int) -> None:
    offset = hand_offset_m(task, seed)
    side, height = {"basketball": (0.15, 0.1), "assembly": (0.3, 0.2)}.get(task, (0.3, 0.1))
    assert np.all(np.abs(offset[:2]) <= side)
    assert 0 <= offset[2] <= height
    np.testing.assert_array_equal(offset, hand_offset_m(task, seed))


@pytest.mark.parametrize("task", ["door-open", "basketball", "assembly"])
def test_offsets_fill_their_box(task: str) -> None:
    offsets = np.array([hand_offset_m(task, seed) for seed in range(300)])
    side, height = {"basketball": (0.15, 0.1), "assembly": (0.3, 0.2)}.get(task, (0.3, 0.1))
    np.testing.assert_allclose(offsets.min(axis=0), [-side, -side, 0], atol=0.02)
    np.testing.assert_allclose(offsets.max(axis=0), [side, side, height], atol=0.02)


@pytest.mark.parametrize("task", ["hammer", "basketball"])
def test_same_seed_gives_the_same_moved_start_whatever_came_before(task: str) -> None:
    fresh, used = World("avdc"), World("avdc")
    fresh.reset(task, 5)
    used.reset(task, 9)
    for _ in range(20):
        used.step(np.array([0.5, 1.0, -1.0, 1.0]))
    used.reset(task, 5)
    assert used.state_digest() == fresh.state_digest()


def test_only_the_hand_moves_where_the_protocol_says_no_more() -> None:
    stock, moved = World(), World("avdc")
    for seed in (1, 2):
        stock.reset("shelf-place", seed)
        moved.reset("shelf-place", seed)
        np.testing.assert_allclose(stock.object_positions_m(), moved.object_positions_m(), atol=1e-3)
        offset = hand_offset_m("shelf-place", seed)
        np.testing.assert_allclose(moved.hand_position_m - stock.hand_position_m, offset, atol=0.1)
        assert np.linalg.norm(moved.hand_position_m - stock.hand_position_m) > 0.05


def test_the_ball_lies_anywhere_in_the_wider_range_and_stock_layouts_are_left_alone() -> None:
    moved = World("avdc")
    where = []
    for seed in range(40):
        moved.reset("basketball", seed)
        where.append(moved.object_positions_m()[0, :2])
    low, high = np.min(where, axis=0), np.max(where, axis=0)
    assert np.all(low < [-0.2, 0.5])
    assert np.all(low > [-0.31, 0.39])
    assert np.all(high > [0.2, 0.7])
    assert np.all(high < [0.31, 0.81])
    stock = World()
    stock.reset("basketball", 3)
    assert abs(stock.object_positions_m()[0, 0]) <= 0.1


def test_the_button_must_go_deeper() -> None:
    between = {"success": 1.0, "obj_to_target": 0.022}
    assert reached("button-press-topdown", between, "stock")
    assert not reached("button-press-topdown", between, "avdc")
    assert reached("button-press-topdown", {"success": 1.0, "obj_to_target": 0.019}, "avdc")
    assert reached("door-open", {"success": 1.0}, "avdc")
    assert not reached("door-open", {"success": 0.0}, "avdc")


def test_the_rig_has_the_option_and_tells_it(make_rig: Callable[..., SimRig]) -> None:
    rig = make_rig(starts="avdc")
    rig.reset(task="button-press", seed=1)
    assert rig.describe()["starts"] == "avdc"
    assert rig.world.starts == "avdc"
    with pytest.raises(ValidationError, match="starts"):
        SIM.config(limits={}, starts="anywhere")
