import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("pinocchio")

from cascade.contracts import AckKind, ConfigError, Limits
from robot_io.process.kinematics import Kinematics
from robot_io.process.poses import pose_of
from robot_io.process.region import Region, crosses
from robot_io.process.targets import Refusals, TargetRules, capped, check_target

LIMITS = Limits(
    workspace_m=np.array([[0.2, -0.4, 0.0], [0.8, 0.4, 0.6]]),
    keep_outs_m=(np.array([[0.55, -0.05, 0.0], [0.6, 0.05, 0.3]]),),
    tool_radius_m=0.02,
    max_speed_m_s=0.25,
    max_acceleration_m_s2=1.0,
    max_jerk_m_s3=10.0,
    max_step_m=0.2,
    max_rotation_rad=0.3,
)
HERE = np.array([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])


def check(target=HERE, gripper=0.5, age=0.05, last=HERE, rules=None, **more):
    return check_target(target, gripper, 100.0 - age, 100.0, last, LIMITS, rules, **more)


def moved(x=0.0, y=0.0, z=0.0):
    target = HERE.copy()
    target[:3] += (x, y, z)
    return target


def test_a_small_step_is_accepted_as_it_is():
    ack = check(moved(0.01))
    assert ack.kind is AckKind.ACCEPTED
    np.testing.assert_allclose(ack.target, moved(0.01))


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("nan", {"target": np.where(np.arange(7) == 2, np.nan, HERE)}),
        ("nan", {"target": np.where(np.arange(7) == 5, np.inf, HERE)}),
        ("nan", {"age": math.nan}),
        ("shape", {"target": HERE[:6]}),
        ("shape", {"target": "left"}),
        ("quaternion", {"target": HERE * np.array([1, 1, 1, 1.01, 1, 1, 1])}),
        ("quaternion", {"target": HERE * np.array([1, 1, 1, 0, 1, 1, 1])}),
        ("gripper", {"gripper": math.nan}),
        ("gripper", {"gripper": 1.5}),
        ("stale", {"age": 1.01}),
        ("future", {"age": -0.06}),
        ("jump", {"target": moved(y=0.21)}),
        ("turn", {"target": np.array([0.5, 0.0, 0.2, math.cos(0.2), math.sin(0.2), 0.0, 0.0])}),
        ("keep_out", {"target": moved(0.05)}),
        ("keep_out", {"target": moved(0.05, 0.06)}),  # the tool's sphere touches it
        ("path", {"target": moved(0.15)}),
    ],
)
def test_bad_targets_are_rejected_with_their_code(code, changed):
    ack = check(**changed)
    assert ack.kind is AckKind.REJECTED
    assert ack.code == code
    assert ack.message
    assert ack.target is None


def test_ages_within_the_rules_are_fine():
    assert check(age=0.99).taken
    assert check(age=-0.04).taken


def test_the_opposite_quaternion_is_the_same_rotation():
    assert check(HERE * np.array([1, 1, 1, -1, -1, -1, -1])).taken


def test_a_target_beyond_the_wall_is_moved_to_it_with_the_tool_inside():
    last = moved(0.0, 0.3)
    target = moved(0.0, 0.45)
    ack = check(target, last=last)
    assert ack.kind is AckKind.CLAMPED
    assert ack.code == "workspace"
    np.testing.assert_allclose(ack.target[:3], [0.5, 0.4 - 0.02 - 0.001, 0.2])


def test_a_target_beyond_the_wall_is_rejected_where_the_rules_say_so():
    ack = check(moved(0.0, 0.45), last=moved(0.0, 0.3), rules=TargetRules(clamp=False))
    assert (ack.kind, ack.code) == (AckKind.REJECTED, "workspace")


def test_a_target_that_the_arm_does_not_reach_is_rejected():
    arm = Kinematics("ur5e")
    far = Limits(
        workspace_m=np.array([[-2.0, -2.0, -2.0], [2.0, 2.0, 2.0]]),
        max_speed_m_s=0.25,
        max_acceleration_m_s2=1.0,
        max_jerk_m_s3=10.0,
        max_step_m=2.0,
        max_rotation_rad=0.3,
    )
    here = pose_of(arm.forward(arm.arm.rest_q))
    near, out = here.copy(), here.copy()
    near[2] += 0.02
    out[0] -= 1.0
    asked = {"kinematics": arm, "q": arm.arm.rest_q}
    assert check_target(near, None, 0.0, 0.1, here, far, **asked).taken
    assert check_target(out, None, 0.0, 0.1, here, far, **asked).code == "unreachable"


def test_a_singular_target_is_rejected():
    arm = Kinematics("ur5e")
    q = np.array([0.0, -1.2, 1.4, -1.0, 0.0, 0.3])  # the wrist's axes in line
    here = pose_of(arm.forward(q))
    limits = Limits(
        workspace_m=np.array([[-2.0, -2.0, -2.0], [2.0, 2.0, 2.0]]),
        max_speed_m_s=0.25,
        max_acceleration_m_s2=1.0,
        max_jerk_m_s3=10.0,
        max_step_m=2.0,
        max_rotation_rad=0.3,
    )
    assert check_target(here, None, 0.0, 0.1, here, limits, kinematics=arm, q=q).code == "singular"


@settings(deadline=None, max_examples=200)
@given(
    target=hnp.arrays(np.float64, st.sampled_from([(7,), (6,), (7, 1), ()]), elements=st.floats(width=64)),
    gripper=st.none() | st.floats(),
    age=st.floats(),
)
def test_whatever_comes_the_answer_is_an_acknowledgement_with_a_finite_target(target, gripper, age):
    ack = check_target(target, gripper, 100.0 - age, 100.0, HERE, LIMITS)
    if ack.taken:
        assert np.isfinite(ack.target).all()
        assert Region(LIMITS).allows(tuple(ack.target[:3]))
        assert np.linalg.norm(ack.target[3:]) == pytest.approx(1)


@settings(deadline=None, max_examples=200)
@given(
    a=st.tuples(*[st.floats(-1, 1)] * 3),
    b=st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_a_segment_with_a_point_inside_a_box_crosses_it(a, b):
    low, high = (-0.3, -0.2, -0.1), (0.1, 0.2, 0.3)
    points = np.linspace(a, b, 101)
    inside = np.any(np.all((points > np.array(low) + 1e-9) & (points < np.array(high) - 1e-9), axis=1))
    if inside:
        assert crosses(a, b, low, high)
    wide = np.any(np.all((points > np.array(low) - 0.03) & (points < np.array(high) + 0.03), axis=1))
    if not wide:
        assert not crosses(a, b, low, high)


def test_three_refusals_within_a_second_are_too_many():
    refusals = Refusals()
    assert not refusals.refused(0.0)
    assert not refusals.refused(0.5)
    assert not refusals.refused(1.2)
    assert refusals.refused(1.4)
    refusals.forget()
    assert not refusals.refused(1.5)


@pytest.mark.parametrize(("name", "value"), [("max_speed_m_s", 1.01), ("max_angular_speed_rad_s", 1.6)])
def test_a_real_arm_keeps_the_built_in_caps(name, value):
    numbers = {"max_speed_m_s": 1.0, "max_angular_speed_rad_s": 1.5} | {name: value}
    limits = Limits(
        workspace_m=LIMITS.workspace_m,
        max_acceleration_m_s2=1.0,
        max_jerk_m_s3=10.0,
        max_step_m=0.02,
        max_rotation_rad=0.1,
        **numbers,
    )
    with pytest.raises(ConfigError, match=name):
        capped(limits)
    assert capped(limits, simulated=True) is limits
    assert capped(LIMITS) is LIMITS
