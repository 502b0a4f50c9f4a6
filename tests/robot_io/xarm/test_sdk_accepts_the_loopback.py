"""UFACTORY's own SDK, without our driver, against the loopback controller."""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from robot_io.arms.xarm_sdk import close_api, open_api
from robot_io.loopback.xarm import XArmController
from robot_io.loopback.xarm_kinematics import CHAINS, forward
from robot_io.process.models import arm_model


@pytest.fixture(params=["real", "normal"])
def api(request: pytest.FixtureRequest, controller: XArmController) -> Iterator[Any]:
    api = open_api(controller.host, controller.port, request.param, 5.0)
    yield api
    close_api(api)


def _ready(api: Any) -> None:
    assert (api.motion_enable(True), api.set_mode(1), api.set_state(0)) == (0, 0, 0)


def test_it_knows_the_arm_and_reads_its_joints_and_pose(api: Any, controller: XArmController) -> None:
    assert (api.axis, api.device_type) == (6, 6)
    code, joints = api.get_servo_angle(is_radian=True)
    assert code == 0
    assert np.allclose(joints[:6], controller.joints_rad(), atol=1e-5)
    code, pose = api.get_position(is_radian=True)
    assert code == 0
    assert np.allclose(np.array(pose[:3]) / 1000.0, forward("xarm6", controller.joints_rad())[:3, 3], atol=1e-4)


def test_it_streams_joints_and_the_arm_gets_there(api: Any, controller: XArmController) -> None:
    _ready(api)
    start = controller.joints_rad()
    goal = start + 0.15
    for share in np.linspace(0, 1, 50):
        assert api.set_servo_angle_j(list(start + share * (goal - start)), is_radian=True) == 0
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(controller.setpoints) == 50
    assert np.allclose(api.get_servo_angle(is_radian=True)[1][:6], goal, atol=2e-3)


def test_it_streams_poses_and_the_arm_gets_there(api: Any, controller: XArmController) -> None:
    _ready(api)
    pose = api.get_position(is_radian=True)[1]
    for _ in range(20):
        pose[0] += 1.0
        pose[2] -= 1.0
        assert api.set_servo_cartesian(pose, is_radian=True) == 0
        time.sleep(0.01)
    time.sleep(0.3)
    assert np.allclose(api.get_position(is_radian=True)[1][:3], pose[:3], atol=0.5)


def test_servo_commands_before_the_sequence_is_done_are_refused(api: Any, controller: XArmController) -> None:
    joints = list(controller.joints_rad() + 0.01)
    assert api.set_servo_angle_j(joints, is_radian=True) == 9
    api.set_state(0)  # state before mode: the controller wants the state again
    api.motion_enable(True)
    api.set_mode(1)
    assert api.set_servo_angle_j(joints, is_radian=True) == 9
    assert not controller.setpoints


def test_a_collision_refuses_commands_until_clean_enable_mode_state(api: Any, controller: XArmController) -> None:
    _ready(api)
    controller.error(31)
    joints = list(controller.joints_rad())
    assert api.set_servo_angle_j(joints, is_radian=True) == 1
    assert api.get_err_warn_code() == (0, [31, 0])
    api.set_state(0)  # without cleaning and enabling
    assert api.set_servo_angle_j(joints, is_radian=True) == 1
    api.clean_error()
    _ready(api)
    assert api.set_servo_angle_j(joints, is_radian=True) == 0


def test_joints_out_of_range_raise_the_controllers_error(api: Any, controller: XArmController) -> None:
    _ready(api)
    joints = controller.joints_rad()
    joints[4] = math.pi + 0.5
    api.set_servo_angle_j(list(joints), is_radian=True)
    assert controller.error_code in (0, 23)  # the SDK may refuse it before the controller does
    assert not controller.setpoints


def test_the_gripper_closes_at_its_speed_and_stops_at_a_thing(api: Any, controller: XArmController) -> None:
    controller.gripper.blocked_at = 300
    assert api.set_gripper_enable(True) == 0
    assert api.set_gripper_speed(5000) == 0
    assert api.set_gripper_position(0, wait=False, wait_motion=False) == 0
    time.sleep(0.4)
    assert api.get_gripper_position() == (0, 300)


@pytest.mark.parametrize("model", sorted(CHAINS))
def test_the_controllers_kinematics_agree_with_the_arm_models(model: str) -> None:
    known = arm_model(model)
    rng = np.random.default_rng(1)
    for q in rng.uniform(-1.5, 1.5, (20, known.joints)):
        T = np.eye(4)
        for placement, angle in zip(known.placements, q, strict=True):
            turn = np.eye(4)
            turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            T = T @ placement @ turn
        assert np.allclose(T @ known.T_last_flange, forward(model, q), atol=1e-9)
