"""Rules from readings to targets, for any readings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from idm.waypoints import WaypointRules, gripper_events, lowest_frame, plan_waypoints

RULES = WaypointRules()
positions = arrays(np.float64, (17, 3), elements=st.floats(-0.5, 1.0))
openings = arrays(np.float64, (17,), elements=st.floats(0, 1))


def grasp_plan() -> tuple[np.ndarray, np.ndarray]:
    """Descend to frame 6, fingers seen closing from frame 5, lift and carry to x = 0.3, let go at frame 14."""
    z = np.array([0.3, 0.3, 0.25, 0.2, 0.14, 0.08, 0.03, 0.03, 0.1, 0.2, 0.2, 0.2, 0.2, 0.15, 0.1, 0.1, 0.1])
    x = np.array([0.0] * 9 + [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.3, 0.3])
    opening = np.array([1.0] * 5 + [0.75, 0.6, 0.45] + [0.45] * 6 + [0.95, 1.0, 1.0])
    return np.stack([x, np.full(17, 0.6), z], 1), opening


@given(positions, openings)
@settings(max_examples=300, deadline=None)
def test_no_target_lies_below_the_floor_and_all_are_finite(position: np.ndarray, opening: np.ndarray) -> None:
    targets = plan_waypoints(position, opening, WaypointRules(floor_m=0.02))

    assert np.isfinite(targets.position_m).all()
    assert targets.position_m[:, 2].min() >= 0.02
    assert np.all(np.diff(targets.times_s) >= 0)
    assert targets.times_s[0] >= 0
    assert set(np.unique(targets.gripper)) <= {0.0, 1.0}


@given(positions, openings)
@settings(max_examples=300, deadline=None)
def test_the_gripper_never_closes_before_the_lowest_frame_around_the_event(
    position: np.ndarray, opening: np.ndarray
) -> None:
    targets = plan_waypoints(position, opening, WaypointRules(floor_m=None))
    closings = np.flatnonzero((targets.gripper[:-1] == 1) & (targets.gripper[1:] == 0)) + 1

    for index in closings:
        frame = targets.frame[index]
        around = position[max(frame - 1, 0) : frame + 2, 2]
        assert targets.position_m[index, 2] <= around.min() + 1e-12
        assert targets.hold_s[index] >= RULES.dwell_s


@given(st.floats(0.45, 1.0), arrays(np.float64, (17,), elements=st.floats(0, 0.18)))
def test_noise_below_the_threshold_does_not_toggle_the_gripper(level: float, noise: np.ndarray) -> None:
    assert gripper_events(level * (1 - noise), RULES) == []


@given(st.integers(1, 15), st.floats(0, 0.7))
def test_a_single_misread_frame_does_not_toggle_the_gripper(frame: int, value: float) -> None:
    opening = np.ones(17)
    opening[frame] = value

    assert gripper_events(opening, RULES) == []


@given(st.integers(8, 12), st.floats(0.85, 1.0))
def test_two_blurred_frames_while_carrying_do_not_let_go(frame: int, value: float) -> None:
    _, opening = grasp_plan()
    opening[8:] = 0.5
    opening[frame : frame + 2] = value

    assert [event.closes for event in gripper_events(opening, RULES)] == [True]


def test_a_grasp_closes_at_the_bottom_digs_waits_and_lets_go_later() -> None:
    position, opening = grasp_plan()

    targets = plan_waypoints(position, opening, RULES)

    close = int(np.flatnonzero(targets.gripper == 0)[0])
    assert targets.frame[close] in (6, 7)
    assert targets.position_m[close, 2] == pytest.approx(0.03 - RULES.dig_m)
    np.testing.assert_allclose(targets.position_m[close - 1], targets.position_m[close])
    assert targets.hold_s[close] == RULES.dwell_s
    release = close + int(np.flatnonzero(targets.gripper[close:] == 1)[0])
    assert targets.frame[release] == 14
    assert targets.hold_s[release] == pytest.approx(RULES.release_s)


def test_the_end_is_carried_on_along_the_last_motion_even_when_the_plan_ends_at_rest() -> None:
    position = np.zeros((17, 3))
    position[:, 0] = np.minimum(np.arange(17) * 0.03, 0.36)
    position[:, 2] = 0.2

    targets = plan_waypoints(position, np.ones(17), RULES)

    np.testing.assert_allclose(targets.position_m[-1], [0.36 + RULES.overshoot_m, 0, 0.2], atol=1e-9)


def test_a_hand_that_does_not_move_is_not_pushed_anywhere() -> None:
    position = np.tile([0.0, 0.6, 0.2], (17, 1))

    targets = plan_waypoints(position, np.ones(17), RULES)

    np.testing.assert_allclose(targets.position_m, position[1:])


def test_a_plan_that_begins_closed_keeps_the_gripper_closed() -> None:
    targets = plan_waypoints(np.tile([0.0, 0.6, 0.2], (17, 1)), np.full(17, 0.1), RULES)

    assert not targets.gripper.any()


@given(arrays(np.float64, (17,), elements=st.floats(0, 1)), st.integers(0, 16), st.integers(0, 5))
def test_the_lowest_frame_lies_near_its_event(height: np.ndarray, event: int, ahead: int) -> None:
    frame = lowest_frame(height, event, ahead)

    assert max(event - 1, 0) <= frame <= min(event + ahead, 16)
    assert height[frame] <= height[event]
