import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pinocchio")

from cascade.contracts import ConfigError, JointLimits
from robot_io.process.kinematics import SIGMA_MIN, Kinematics
from robot_io.process.models import MODEL_NAMES, arm_model
from robot_io.process.poses import matrix_of, pose_of

DOWN = np.diag([1.0, -1.0, -1.0])
UR_ZERO = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
ARMS = {name: Kinematics(name) for name in MODEL_NAMES}
SIX = [name for name in MODEL_NAMES if name != "so101"]
STRAIGHT = JointLimits(
    lower_rad=np.full(7, -7.0),
    upper_rad=np.full(7, 7.0),
    max_speed_rad_s=np.full(7, 1e3),
    max_acceleration_rad_s2=np.full(7, 1e3),
    max_jerk_rad_s3=np.full(7, 1e3),
)


@pytest.mark.parametrize(
    ("name", "position", "R"),
    [
        ("ur3e", (-0.45675, -0.22315, 0.0665), UR_ZERO),
        ("ur5e", (-0.8172, -0.2329, 0.0628), UR_ZERO),
        ("ur10e", (-1.18425, -0.2907, 0.06085), UR_ZERO),
        ("xarm6", (0.207, 0.0, 0.112), DOWN),
        ("xarm7", (0.206, 0.0, 0.1205), DOWN),
        ("fr3", (0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107), DOWN),
    ],
)
def test_zero_poses_are_those_of_the_manuals(name, position, R):
    T = ARMS[name].forward(np.zeros(ARMS[name].joints))
    np.testing.assert_allclose(T[:3, 3], position, atol=1e-9)
    np.testing.assert_allclose(T[:3, :3], R, atol=1e-9)


def test_the_so101_reaches_forward_at_zero():
    T = ARMS["so101"].forward(np.zeros(5))
    assert T[0, 3] == pytest.approx(0.39, abs=0.02)
    assert abs(T[1, 3]) < 0.01
    assert T[2, 3] == pytest.approx(0.23, abs=0.02)


def test_the_tool_is_carried_by_the_flange():
    tool = matrix_of(np.array([0.01, 0.02, 0.15, math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)]))
    q = np.array([0.1, -1.2, 1.4, -1.0, -1.5, 0.3])
    np.testing.assert_allclose(Kinematics("ur5e", tool).forward(q), ARMS["ur5e"].forward(q) @ tool, atol=1e-12)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_jacobian_is_the_derivative_of_the_pose_in_base_axes(name):
    arm, h = ARMS[name], 1e-6
    q = arm.arm.rest_q + 0.1
    J = arm.jacobian(q).copy()
    T = arm.forward(q)
    for joint, unit in enumerate(np.eye(arm.joints)):
        ahead, behind = arm.forward(q + h * unit), arm.forward(q - h * unit)
        np.testing.assert_allclose(J[:3, joint], (ahead - behind)[:3, 3] / (2 * h), atol=1e-6)
        spin = (ahead - behind)[:3, :3] @ T[:3, :3].T / (2 * h)
        np.testing.assert_allclose(J[3:, joint], [spin[2, 1], spin[0, 2], spin[1, 0]], atol=1e-6)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_quick_poses_agree_with_the_matrix(name):
    arm = ARMS[name]
    q = arm.arm.rest_q - 0.1
    np.testing.assert_allclose(matrix_of(np.array(arm.pose(q))), arm.forward(q), atol=1e-9)
    np.testing.assert_allclose(arm.position(q), arm.forward(q)[:3, 3], atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(SIX),
    offsets=st.lists(st.floats(-0.5, 0.5), min_size=7, max_size=7),
    nudges=st.lists(st.floats(-0.1, 0.1), min_size=7, max_size=7),
)
def test_steps_lead_back_to_the_pose(name, offsets, nudges):
    arm = ARMS[name]
    q = np.clip(arm.arm.rest_q + offsets[: arm.joints], arm.arm.joint_limits.lower_rad, arm.arm.joint_limits.upper_rad)
    if arm.singular_value(q) < 2 * SIGMA_MIN:
        return
    T = arm.forward(q)
    wide = JointLimits(**{field: getattr(STRAIGHT, field)[: arm.joints] for field in STRAIGHT.__dataclass_fields__})
    found = q + nudges[: arm.joints]
    for _ in range(60):
        found, _ = arm.solve_step(found, T, 0.01, wide)
    np.testing.assert_allclose(arm.forward(found), T, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-0.4, 0.4), min_size=5, max_size=5))
def test_five_joints_reach_any_near_position_and_say_so(offsets):
    arm = ARMS["so101"]
    q = arm.arm.rest_q + offsets
    found = arm.reachable(arm.forward(q), arm.arm.rest_q)
    assert found is not None
    np.testing.assert_allclose(arm.position(found), arm.position(q), atol=3e-4)


def test_one_step_keeps_the_speed_limits_and_says_when_they_cut_it():
    arm, limits = ARMS["ur5e"], arm_model("ur5e").joint_limits.tightened()
    q = arm.arm.rest_q
    T = arm.forward(q)
    T[0, 3] += 0.2
    found, clipped = arm.solve_step(q, T, 0.008, limits)
    assert clipped
    assert np.all(np.abs(found - q) <= limits.max_speed_rad_s * 0.008 * (1 + 1e-9))
    T[0, 3] -= 0.1999
    assert not arm.solve_step(q, T, 0.008, limits)[1]


def test_near_a_singularity_steps_stay_small():
    arm = ARMS["ur5e"]
    q = np.array([0.0, -1.2, 1e-4, -1.0, -1.5, 0.0])  # the elbow straight: no way outwards
    assert arm.singular_value(q) < SIGMA_MIN
    T = arm.forward(q)
    T[:3, 3] *= 1.001
    wide = JointLimits(**{field: getattr(STRAIGHT, field)[:6] for field in STRAIGHT.__dataclass_fields__})
    found, _ = arm.solve_step(q, T, 0.008, wide)
    assert np.abs(found - q).max() < 0.1


def test_what_is_out_of_reach_is_not_reachable():
    T = ARMS["ur5e"].forward(ARMS["ur5e"].arm.rest_q)
    T[0, 3] = -2.0
    assert ARMS["ur5e"].reachable(T, ARMS["ur5e"].arm.rest_q) is None


def test_joints_that_are_found_keep_the_limits():
    arm = ARMS["ur5e"]
    limits = arm.arm.joint_limits.tightened(margin_rad=4.5)
    q = arm.arm.rest_q + 0.2
    found = arm.reachable(arm.forward(q), arm.arm.rest_q, limits)
    assert found is not None
    assert np.all(found >= limits.lower_rad)
    assert np.all(found <= limits.upper_rad)


def test_an_unknown_model_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"ur5.*ur5e"):
        Kinematics("ur5")


def test_poses_survive_the_round_trip():
    pose = np.array([0.1, -0.2, 0.3, 0.5, -0.5, 0.5, 0.5])
    np.testing.assert_allclose(pose_of(matrix_of(pose)), pose, atol=1e-12)
