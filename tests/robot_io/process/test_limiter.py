import importlib.util
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pinocchio")

from cascade.contracts import ConfigError, DeviceError, JointLimits, Limits
from cascade.contracts.driver import DriverInfo, Takes
from robot_io.process.braking import ZERO, Stop, add, norm, scaled, stop_distance_m
from robot_io.process.joint_limiter import joint_limits
from robot_io.process.kinematics import Kinematics
from robot_io.process.limiter import Limiter
from robot_io.process.models import MODEL_NAMES, arm_model
from robot_io.process.poses import matrix_of
from robot_io.process.region import Region

ROOT = Path(__file__).resolve().parents[3]
PERIOD = 0.008
START = np.array([0.5, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0])
UR5E = Kinematics("ur5e")
REST = UR5E.arm.rest_q


def limits(**changed):
    numbers = {
        "workspace_m": np.array([[0.2, -0.4, 0.0], [0.8, 0.4, 0.6]]),
        "max_speed_m_s": 0.25,
        "max_acceleration_m_s2": 1.0,
        "max_jerk_m_s3": 10.0,
        "max_step_m": 0.5,
        "max_rotation_rad": 1.0,
    }
    return Limits(**(numbers | changed))


def device(takes=Takes.POSE, name="ur5e"):
    model = arm_model(name)
    return DriverInfo(
        name="test",
        model=name,
        joint_names=model.joint_names,
        takes=takes,
        rate_hz=125.0,
        joint_limits=model.joint_limits,
        kinematics=name,
        watchdog_s=None,
    )


def poser(start=START, **changed):
    limiter = Limiter(limits(**changed), device(), None, PERIOD)
    limiter.reset(matrix_of(start), np.zeros(6))
    return limiter


def jointed(q=REST, **changed):
    wide = {"workspace_m": np.array([[-1.0, -1.0, -0.5], [1.0, 1.0, 1.5]])}
    limiter = Limiter(limits(**(wide | changed)), device(Takes.JOINTS), UR5E, PERIOD)
    limiter.reset(UR5E.forward(q), q)
    return limiter


def follow(limiter, target, cycles, speed_scale=1.0):
    return [limiter.step(target, speed_scale) for _ in range(cycles)]


def places(setpoints):
    return np.array([setpoint.pose[:3] for setpoint in setpoints])


def moved(x=0.0, y=0.0, z=0.0, start=START):
    target = start.copy()
    target[:3] += (x, y, z)
    return target


def differences(points):
    speed = np.diff(points, axis=0) / PERIOD
    acceleration = np.diff(speed, axis=0) / PERIOD
    return speed, acceleration, np.diff(acceleration, axis=0) / PERIOD


# Stops.

vectors = st.tuples(*[st.floats(-1, 1)] * 3)


def inside_ball(vector, radius):
    return scaled(vector, radius / max(norm(vector), 1.0))


@pytest.mark.parametrize(
    ("speed", "a", "j"), [(0.25, 1.0, 10.0), (0.2, 1.0, 10.0), (0.25, 2.5, 50.0), (0.01, 1.0, 10.0)]
)
def test_a_stop_from_steady_motion_takes_the_way_of_the_formula(speed, a, j):
    stop = Stop(ZERO, (0.0, speed, 0.0), ZERO, a, j)
    assert stop.end[1] == pytest.approx(stop_distance_m(speed, a, j), rel=2e-3)
    if speed * j > a * a:
        assert stop_distance_m(speed, a, j) == pytest.approx(speed / 2 * (speed / a + a / j))


@settings(deadline=None, max_examples=150)
@given(v=vectors, a=vectors)
def test_stops_keep_acceleration_and_jerk_and_come_to_rest(v, a):
    most, jerk = 1.0, 10.0
    v, a = inside_ball(v, 0.25), inside_ball(a, most)
    stop = Stop(ZERO, v, a, most, jerk)
    times = np.linspace(0, stop.duration, 200)
    states = [stop.at(float(t)) for t in times]
    step = float(times[1]) if stop.duration > 0 else 1.0
    assert max(norm(state[1]) for state in states) <= stop.peak + 1e-9
    assert max(norm(state[2]) for state in states) <= most + 1e-9
    jumps = [norm(add(after[2], before[2], -1.0)) for before, after in pairwise(states)]
    assert max(jumps) <= jerk * step * (1 + 1e-6) + 1e-12
    end = stop.at(stop.duration * (1 - 1e-9))
    assert norm(add(end[0], stop.end, -1.0)) < 1e-8
    assert norm(end[1]) < 1e-7
    assert stop.at(stop.duration) == (stop.end, ZERO, ZERO)


# Devices that take poses.


def test_a_target_is_reached_exactly_and_then_nothing_moves_any_more():
    limiter, target = poser(), moved(0.1, -0.05, 0.02)
    target[3:] = [math.cos(0.3), 0.0, math.sin(0.3), 0.0]
    setpoints = follow(limiter, target, 300)
    np.testing.assert_allclose(setpoints[-1].pose, target, atol=1e-8)
    assert (setpoints[-1].pose == setpoints[-50].pose).all()
    assert setpoints[-1].limited == ()


def test_a_straight_way_is_gone_at_nearly_full_speed_and_without_being_held_back():
    setpoints = follow(poser(), moved(0.2, 0.1, 0.1), 150)
    speed = np.linalg.norm(differences(places(setpoints))[0], axis=1).max()
    assert 0.95 * 0.25 < speed <= 0.25
    assert {word for setpoint in setpoints for word in setpoint.limited} == set()


def test_without_a_target_the_arm_brakes_as_promised_and_stands_still():
    limiter = poser()
    going = places(follow(limiter, moved(0.25), 80))
    speed = np.linalg.norm(going[-1] - going[-2]) / PERIOD
    stopping = follow(limiter, None, 100)
    way = np.linalg.norm(stopping[-1].pose[:3] - going[-1])
    assert way == pytest.approx(stop_distance_m(speed, 1.0, 10.0), rel=0.05)
    assert all((setpoint.pose == stopping[-1].pose).all() for setpoint in stopping[60:])


def test_a_rig_that_may_do_more_stops_with_the_gentle_profile():
    limiter = poser(max_acceleration_m_s2=5.0, max_jerk_m_s3=100.0)
    follow(limiter, moved(0.25), 60)
    points = places(follow(limiter, None, 60))
    _, acceleration, jerk = differences(points)
    assert 2.3 < np.linalg.norm(acceleration, axis=1).max() <= 2.5 + 1e-6
    assert np.linalg.norm(jerk, axis=1).max() <= 50 + 1e-6


def test_right_at_a_wall_it_stops_as_hard_as_the_limits_allow_instead():
    limiter = poser(max_acceleration_m_s2=5.0, max_jerk_m_s3=100.0, max_speed_m_s=1.0, margin_m=0.0)
    points = [START[:3]]
    while points[-1][0] < 0.7:
        points.append(limiter.step(moved(0.6)).pose[:3])
    points += [setpoint.pose[:3] for setpoint in follow(limiter, None, 100)]
    assert max(point[0] for point in points) <= 0.8 + 1e-9


def test_the_speed_scale_slows_down_at_once_and_zero_stops():
    limiter = poser()
    follow(limiter, moved(0.25), 60)
    slower = places(follow(limiter, moved(0.25), 80, speed_scale=0.1))
    assert np.linalg.norm(slower[-1] - slower[-2]) / PERIOD <= 0.025 + 1e-9
    follow(limiter, moved(0.25), 60, speed_scale=0.0)
    standing = places(follow(limiter, moved(0.25), 5, speed_scale=0.0))
    assert (standing[0] == standing[-1]).all()


@pytest.mark.parametrize("margin", [0.0, 0.03])
def test_a_wall_is_never_passed_however_far_beyond_it_the_target_is(margin):
    limiter = poser(tool_radius_m=0.05, margin_m=margin, max_speed_m_s=1.0)
    setpoints = follow(limiter, moved(10.0, 10.0, 0.0), 400)
    assert places(setpoints).max(axis=0)[:2] == pytest.approx([0.75, 0.35], abs=1e-6)
    assert np.all(places(setpoints)[:, 0] <= 0.75 + 1e-9)
    assert "workspace" in setpoints[0].limited


def test_motion_is_slow_in_the_margin_of_a_wall():
    setpoints = follow(poser(start=moved(0.2), margin_m=0.06), moved(0.3), 400)
    points = places(setpoints)[:, 0]
    near = points > 0.8 - 0.03
    speed = np.abs(np.diff(points)) / PERIOD
    assert speed[near[1:]].max() < 0.6 * 0.25
    assert any("margin" in setpoint.limited for setpoint in setpoints)
    assert points[-1] == pytest.approx(0.8)


def test_a_keep_out_is_not_entered_and_the_arm_waits_before_it():
    box = np.array([[0.6, -0.1, 0.2], [0.65, 0.1, 0.4]])
    limiter = poser(keep_outs_m=(box,), tool_radius_m=0.02)
    setpoints = follow(limiter, moved(0.25), 100)
    assert (places(setpoints) == START[:3]).all()
    assert "keep_out" in setpoints[-1].limited
    follow(limiter, moved(0.25, 0.25), 60)  # first past it, then into it while moving
    points = places(follow(limiter, moved(0.14), 300))
    inside = np.all((points > box[0] - 0.02 + 1e-9) & (points < box[1] + 0.02 - 1e-9), axis=1)
    assert not inside.any()


@pytest.mark.parametrize(
    "target", [np.full(7, np.nan), np.zeros(7), np.array([np.inf, 0, 0, 1, 0, 0, 0]), np.ones(6)], ids=str
)
def test_what_is_no_pose_counts_as_no_target(target):
    limiter = poser()
    follow(limiter, moved(0.2), 40)
    setpoints = follow(limiter, target, 100)
    assert "bad_target" in setpoints[-1].limited
    assert (setpoints[-1].pose == setpoints[-2].pose).all()


def test_an_arm_a_little_outside_can_only_move_inwards():
    limiter = poser(start=np.array([0.5, 0.405, 0.3, 1, 0, 0, 0]), margin_m=0.0)
    out = places(follow(limiter, moved(0.0, 0.6), 100))
    assert out[:, 1].max() <= 0.405 + 1e-9
    follow(limiter, moved(), 200)
    assert places(follow(limiter, moved(0.0, 0.6), 400))[:, 1].max() <= 0.4 + 1e-9


@pytest.mark.parametrize(
    ("start", "words"), [((0.9, 0.0, 0.3), "outside the workspace"), ((0.62, 0.0, 0.3), "inside a keep-out")]
)
def test_an_arm_that_stands_where_it_must_not_is_refused(start, words):
    limiter = poser(keep_outs_m=(np.array([[0.6, -0.1, 0.2], [0.65, 0.1, 0.4]]),))
    with pytest.raises(DeviceError, match=words):
        limiter.reset(matrix_of(np.array([*start, 1, 0, 0, 0])), np.zeros(6))


def test_the_gripper_is_passed_on_within_its_range():
    limiter = poser()
    assert [limiter.step(None, gripper=value).gripper for value in (0.3, 1.7, -1.0, None, math.nan)] == [
        0.3,
        1.0,
        0.0,
        None,
        None,
    ]


# Devices that take joints.


def test_joints_lead_to_the_pose_and_then_stand_exactly_still():
    start = np.array(UR5E.pose(REST))
    target = moved(0.1, 0.1, -0.1, start=start)
    setpoints = follow(jointed(), target, 300)
    np.testing.assert_allclose(UR5E.forward(setpoints[-1].q), matrix_of(target), atol=1e-6)
    np.testing.assert_allclose(setpoints[-1].pose, target, atol=1e-6)
    assert (setpoints[-1].q == setpoints[-20].q).all()


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_model_follows_and_is_not_held_back(name):
    model, arm = arm_model(name), Kinematics(name)
    box = np.array([[-2.0, -2.0, -2.0], [2.0, 2.0, 2.0]])
    limiter = Limiter(limits(workspace_m=box), device(Takes.JOINTS, name), arm, PERIOD)
    limiter.reset(arm.forward(model.rest_q), model.rest_q)
    target = moved(-0.02, 0.03, 0.02, start=np.array(arm.pose(model.rest_q)))
    setpoints = follow(limiter, target, 150)
    np.testing.assert_allclose(arm.position(setpoints[-1].q), target[:3], atol=1e-6)
    assert {word for setpoint in setpoints for word in setpoint.limited} == set()


def test_a_device_that_takes_joints_needs_a_model():
    with pytest.raises(ConfigError, match="no kinematic model"):
        Limiter(limits(), device(Takes.JOINTS), None, PERIOD)


def test_limits_of_joints_are_never_looser_than_the_vendors():
    vendor = arm_model("ur5e").joint_limits
    numbers = {name: getattr(vendor, name).copy() for name in vendor.__dataclass_fields__}
    numbers["max_speed_rad_s"] *= 3
    numbers["upper_rad"] -= 1
    own = JointLimits(**numbers)
    found = joint_limits(limits(joints=own), device())
    np.testing.assert_array_equal(found.max_speed_rad_s, vendor.max_speed_rad_s)
    np.testing.assert_array_equal(found.upper_rad, own.upper_rad)
    np.testing.assert_allclose(joint_limits(limits(), device()).max_speed_rad_s, vendor.max_speed_rad_s / 2)


def test_near_a_singularity_motion_slows_down_and_the_joints_keep_their_limits():
    q = np.array([0.0, -1.2, 0.5, -1.0, -1.5, 0.0])
    start = np.array(UR5E.pose(q))
    limiter = jointed(q)
    out = start.copy()
    out[:3] += (start[:3] - [0.0, 0.0, 0.16]) * 0.5  # straight out, past the stretched arm
    setpoints = follow(limiter, out, 400)
    words = {word for setpoint in setpoints for word in setpoint.limited}
    assert words & {"singular", "joints", "reach"}
    check_joints(np.array([setpoint.q for setpoint in setpoints]), joint_limits(limits(), device()))
    back = follow(limiter, start, 600)
    np.testing.assert_allclose(back[-1].pose[:3], start[:3], atol=1e-3)


def check_joints(q, bounds):
    assert np.all(q >= bounds.lower_rad - 1e-9)
    assert np.all(q <= bounds.upper_rad + 1e-9)
    fields = ("max_speed_rad_s", "max_acceleration_rad_s2", "max_jerk_rad_s3")
    for values, field in zip(differences(q), fields, strict=True):
        assert (np.abs(values) / getattr(bounds, field)).max(initial=0) <= 1.01


def test_a_joint_outside_its_limits_moves_inwards_only():
    q = REST.copy()
    vendor = arm_model("ur5e").joint_limits
    numbers = {name: getattr(vendor, name).copy() for name in vendor.__dataclass_fields__}
    numbers["upper_rad"][2] = q[2] - 0.01  # the elbow stands a little beyond
    limiter = jointed(q, joints=JointLimits(**numbers))
    start = np.array(UR5E.pose(q))
    for target in (moved(0.1, start=start), moved(-0.05, start=start), moved(0.0, 0.0, 0.1, start=start)):
        elbow = np.array([setpoint.q[2] for setpoint in follow(limiter, target, 150)])
        assert elbow.max() <= q[2] + 1e-9


# The property.

steps = st.lists(
    st.tuples(
        st.sampled_from(["near", "far", "none", "nan", "same"]),
        st.tuples(*[st.floats(-1, 1)] * 6),
        st.integers(1, 40),
        st.sampled_from([1.0, 1.0, 0.3, 0.0]),
    ),
    min_size=1,
    max_size=12,
)


def play(limiter, start, script):
    target, setpoints = start, [limiter.step(None)]
    for kind, way, cycles, scale in script:
        if kind in ("near", "far"):
            target = start.copy()
            target[:3] += np.array(way[:3]) * (0.1 if kind == "near" else 1.0)
            turn = np.array([1.0, *(0.3 * part for part in way[3:])])
            w, x, y, z = turn / np.linalg.norm(turn)
            a, b, c, d = start[3:]
            target[3:] = [
                w * a - x * b - y * c - z * d,
                w * b + x * a + y * d - z * c,
                w * c - x * d + y * a + z * b,
                w * d + x * c - y * b + z * a,
            ]
        asked = {"none": None, "nan": np.full(7, np.nan)}.get(kind, target)
        setpoints += follow(limiter, asked, cycles, scale)
    return setpoints


@settings(deadline=None, max_examples=60)
@given(script=steps, speed=st.floats(0.05, 1.0), acceleration=st.floats(0.5, 5.0), jerk=st.floats(5.0, 100.0))
def test_no_sequence_of_targets_makes_a_pose_device_leave_its_limits(script, speed, acceleration, jerk):
    box = np.array([[0.56, -0.05, 0.2], [0.62, 0.05, 0.4]])
    limiter = poser(max_speed_m_s=speed, max_acceleration_m_s2=acceleration, max_jerk_m_s3=jerk, keep_outs_m=(box,))
    points = places(play(limiter, START, script))
    for values, most in zip(differences(points), (speed, acceleration, jerk), strict=True):
        assert np.linalg.norm(values, axis=1).max(initial=0) <= most * 1.01
    assert np.all(points >= [0.2, -0.4, 0.0])
    assert np.all(points <= [0.8, 0.4, 0.6])
    assert not np.any(np.all((points > box[0] + 1e-9) & (points < box[1] - 1e-9), axis=1))


@settings(deadline=None, max_examples=25)
@given(script=steps, speed=st.floats(0.05, 1.0))
def test_no_sequence_of_targets_makes_a_joint_device_leave_its_limits(script, speed):
    start = np.array(UR5E.pose(REST))
    low, high = start[:3] - 0.15, start[:3] + 0.15
    limiter = jointed(max_speed_m_s=speed, workspace_m=np.stack([low, high]))
    setpoints = play(limiter, start, script)
    check_joints(np.array([setpoint.q for setpoint in setpoints]), joint_limits(limits(), device()))
    points = np.array([UR5E.position(setpoint.q) for setpoint in setpoints])
    assert np.all(points >= low)
    assert np.all(points <= high)


def fuzz():
    spec = importlib.util.spec_from_file_location("limits_fuzz", ROOT / "benchmarks" / "limits_fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("takes", "targets", "seed"),
    [*((Takes.POSE, 3_500, i) for i in range(20, 24)), *((Takes.JOINTS, 2_000, i) for i in range(30, 33))],
)
def test_twenty_thousand_bad_targets_leave_every_limit_kept(takes, targets, seed):
    bench = fuzz()
    result = bench.play(takes, targets, seed)
    assert result["taken"] > targets / 10
    for name, value in result["worst"].items():
        assert bench.within(name, value), (name, value, seed)


def test_a_stop_that_turns_right_at_a_wall_stays_inside_between_its_ends():
    worst = fuzz().play(Takes.JOINTS, 600, 74)["worst"]
    assert worst["wall_m"] == worst["wall_m_of_joints"] == 0.0


def test_restoring_a_region_brings_its_keep_outs_back():
    region = Region(limits(keep_outs_m=(np.array([[0.6, -0.1, 0.2], [0.65, 0.1, 0.4]]),)), 0.001)
    grown = region.keep_outs
    region.keep_outs = ()
    region.restore()
    assert region.keep_outs == grown


def test_walls_moved_out_for_an_arm_outside_never_move_farther_out():
    region = Region(limits())
    region.widen((0.5, 0.405, 0.3))
    region.narrow((0.5, 0.402, 0.3))
    region.narrow((0.5, 0.404, 0.3))
    assert region.high == (0.8, 0.402, 0.6)
