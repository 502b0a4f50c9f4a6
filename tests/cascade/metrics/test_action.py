"""Action plausibility: limits, smoothness, reach and grip, by closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import Limits
from cascade.metrics import IkSolutions, Status, action

BOUNDS = Limits(
    workspace_m=np.array([[-1.0, -1, -1], [1, 1, 1]]),
    max_speed_m_s=1.0,
    max_acceleration_m_s2=10.0,
    max_jerk_m_s3=100.0,
    max_step_m=0.5,
    max_rotation_rad=0.5,
)
LINE = np.linspace([0.0, 0, 0], [0.5, 0, 0], 51)


def test_limits_of_even_motion_are_its_speed():
    result = action.limits(LINE, np.arange(51) * 0.02, BOUNDS)

    assert result.value == result.detail["speed"] == pytest.approx(0.5)
    assert result.detail["acceleration"] == pytest.approx(0, abs=1e-9)
    assert result.detail["workspace_margin_m"] == pytest.approx(0.5)


def test_limits_of_even_acceleration_are_its_acceleration():
    t = np.arange(40) * 0.01
    result = action.limits(np.column_stack([10.0 * t**2, 0 * t, 0 * t]) * 0.5 * 1.2, t, BOUNDS)

    assert result.detail["acceleration"] == pytest.approx(1.2)
    assert result.detail["jerk"] == pytest.approx(0, abs=1e-6)


def test_outside_the_workspace_the_margin_is_negative():
    assert action.limits(LINE + np.array([0.7, 0, 0]), np.arange(51.0), BOUNDS).detail[
        "workspace_margin_m"
    ] == pytest.approx(-0.2)


def test_unevenly_timed_targets_are_judged_by_speed_alone():
    times = np.array([0, 0.1, 0.1, 0.5])
    result = action.limits(np.array([[0, 0, 0], [0.2, 0, 0], [0.2, 0, 0], [0.3, 0, 0]]), times, BOUNDS)

    assert result.value == pytest.approx(2.0)
    assert "jerk" not in result.detail


def bell(n: int = 60) -> np.ndarray:
    s = np.linspace(0, 1, n)
    return np.column_stack([10 * s**3 - 15 * s**4 + 6 * s**5, 0 * s, 0 * s])


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.2, 20), dt=st.floats(0.01, 2))
def test_smoothness_depends_on_neither_size_nor_speed(scale, dt):
    assert action.smoothness(bell() * scale, dt).value == pytest.approx(action.smoothness(bell(), 0.1).value, abs=1e-6)


def test_minimum_jerk_is_smoother_than_jitter():
    jitter = bell() + np.random.default_rng(0).normal(0, 0.003, (60, 3))

    assert action.smoothness(bell()).value > action.smoothness(jitter).value + 2
    assert action.smoothness(bell()).value == pytest.approx(-np.log(204.8), abs=0.2)  # 720 / 1.875^2 in the limit


def test_poses_count_as_reached_only_within_all_three_bounds():
    fine = {"position_error_m": 0.0, "rotation_error_rad": 0.0, "joint_margin_rad": 0.5}
    bad = [{}, {"position_error_m": 0.003}, {"rotation_error_rad": 0.02}, {"joint_margin_rad": 0.01}]
    rows = [{**fine, **change} for change in bad]
    solutions = IkSolutions(**{key: np.array([row[key] for row in rows]) for key in fine})

    assert action.ik_feasibility(solutions, LINE[::15]).value == 0.25


def test_clearance_is_looked_up_between_the_targets():
    ends = np.array([[0.0, 0, 0], [1, 0, 0]])
    ball = np.array([[0.5, 0.2, 0, 0.05]])

    assert action.clearance(ends, ball, radius_m=0.1).value == pytest.approx(0.05, abs=1e-3)
    assert action.clearance(ends, ball, radius_m=0.2).value < 0


def test_a_grasp_and_release_are_two_switches_and_flutter_is_many():
    path, times = np.linspace([0.0, 0, 0], [0.3, 0, 0], 9), np.arange(9) * 0.25
    once = action.gripper_sanity(
        np.array([1, 1, 1, 0.1, 0, 0, 0.9, 1, 1.0]), times, path, object_m=path[3], near_m=0.05
    )
    flutter = action.gripper_sanity(np.array([1, 0, 1, 0, 1, 0, 1, 0, 1.0]), times, path)

    assert once.value == pytest.approx(2 / 2.0)
    assert once.detail["closes_near_object"] == 1
    assert flutter.value == pytest.approx(8 / 2.0)


def test_executability_carries_its_interval():
    result = action.executability(7, 10)
    low, high = result.detail["interval"]

    assert result.value == 0.7
    assert low == pytest.approx(0.397, abs=0.002)
    assert high == pytest.approx(0.892, abs=0.002)
    assert action.executability(0, 0).status is Status.UNAVAILABLE


@pytest.mark.parametrize(
    "measure",
    [
        lambda p: action.limits(p, np.arange(51.0), BOUNDS),
        action.smoothness,
        lambda p: action.clearance(p, np.zeros((1, 4)), radius_m=0.1),
        lambda p: action.gripper_sanity(np.ones(51), np.arange(51.0), p),
        lambda p: action.ik_feasibility(
            IkSolutions(**dict.fromkeys(("position_error_m", "rotation_error_rad", "joint_margin_rad"), np.ones(51))), p
        ),
    ],
)
def test_a_hand_that_hardly_moves_is_refused(measure):
    assert measure(LINE * 0.02).status is Status.NO_MOTION
