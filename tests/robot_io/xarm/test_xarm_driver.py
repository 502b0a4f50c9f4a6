"""The driver, through the real SDK, against the loopback controller and its faults."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cascade.contracts.errors import DeviceError
from cascade.testing.arms import check_arm_driver
from robot_io.arms.driver import ArmDriver, Reading, Safety, Takes
from robot_io.arms.xarm import XArmConfig, XArmDriver
from robot_io.arms.xarm_codes import MEANINGS, fault
from robot_io.arms.xarm_units import from_controller, to_controller
from robot_io.loopback.xarm import XArmController
from robot_io.loopback.xarm_kinematics import forward
from robot_io.loopback.xarm_wire import Function


@contextmanager
def driving(controller: XArmController, *, armed: bool = True, **options: object) -> Iterator[XArmDriver]:
    driver = XArmDriver(XArmConfig(**{"host": controller.host, "port": controller.port, **options}))
    try:
        driver.connect(5.0)
        if armed:
            driver.arm()
        yield driver
    finally:
        driver.close()


def eventually(check: Callable[[], bool], within_s: float = 3.0) -> bool:
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if check():
            return True
        time.sleep(0.005)
    return check()


def stream(driver: XArmDriver, start: np.ndarray, end: np.ndarray, gripper: float | None = None) -> None:
    for share in np.linspace(0.0, 1.0, 60):
        driver.send(start + share * (end - start), gripper)
        time.sleep(0.01)


def codes(reading: Reading) -> set[str]:
    return {fault.code for fault in reading.faults}


def test_it_is_an_arm_driver_that_is_known_before_it_connects(host: str) -> None:
    driver = XArmDriver(XArmConfig(host=host, model="xarm7"))
    assert isinstance(driver, ArmDriver)
    assert driver.info.takes is Takes.JOINTS
    assert len(driver.info.joint_names) == 7
    assert driver.info.kinematics == "xarm7"


@pytest.mark.parametrize(("model", "takes"), [("xarm6", "joints"), ("xarm7", "joints"), ("xarm6", "pose")])
def test_it_conforms_to_what_the_arm_process_relies_on(host: str, model: str, takes: str) -> None:
    with XArmController(model, host) as controller:
        options = XArmConfig(host=host, port=controller.port, model=model, takes=takes, gripper="xarm")
        check_arm_driver(lambda: XArmDriver(options))


def test_connecting_moves_and_enables_nothing(controller: XArmController) -> None:
    with driving(controller, armed=False) as driver:
        reading = driver.read()
        assert np.allclose(reading.q, controller.joints_rad(), atol=1e-5)
        assert not reading.running
        assert not controller.enabled
        with pytest.raises(DeviceError, match="before it is armed"):
            driver.send(reading.q, None)
    assert not controller.setpoints


def test_the_rest_of_the_process_keeps_its_socket_timeout(
    controller: XArmController, capfd: pytest.CaptureFixture
) -> None:
    with driving(controller):
        assert socket.getdefaulttimeout() is None
    assert capfd.readouterr().out == ""


def test_arming_enables_then_sets_the_mode_then_the_state(controller: XArmController) -> None:
    with driving(controller):
        wanted = (Function.MOTION_ENABLE, Function.SET_MODE, Function.SET_STATE)
        sent = [function for _, function, _ in controller.commands if function in wanted]
        assert sent == list(wanted)
        assert (controller.mode, controller.enabled) == (1, True)


def test_joints_are_streamed_and_reached(controller: XArmController) -> None:
    with driving(controller) as driver:
        start = driver.read().q
        goal = start + np.array([0.2, 0.1, -0.1, 0.2, 0.1, -0.2])
        stream(driver, start, goal)
        assert eventually(lambda: np.allclose(driver.read().q, goal, atol=2e-3))
        assert driver.read().running
        assert driver.read().T_base_ee is None
    assert len(controller.setpoints) >= 20
    assert np.allclose(controller.setpoints[-1].joints_rad, goal, atol=1e-5)


def test_an_xarm7_is_streamed_too(host: str) -> None:
    with XArmController("xarm7", host) as controller, driving(controller, model="xarm7") as driver:
        start = driver.read().q
        stream(driver, start, start + 0.1)
        assert eventually(lambda: np.allclose(driver.read().q, start + 0.1, atol=2e-3))


def test_poses_go_out_in_millimetres_and_come_back_in_metres(controller: XArmController) -> None:
    with driving(controller, takes="pose") as driver:
        T = driver.read().T_base_ee
        assert T is not None
        assert np.allclose(T, forward("xarm6", controller.joints_rad()), atol=1e-4)
        start = np.concatenate([T[:3, 3], Rotation.from_matrix(T[:3, :3]).as_quat()[[3, 0, 1, 2]]])
        goal = start + np.array([0.02, 0.01, -0.03, 0, 0, 0, 0])
        stream(driver, start, goal)
        assert eventually(lambda: np.allclose(driver.read().T_base_ee[:3, 3], goal[:3], atol=5e-4))
        assert np.allclose(driver.read().T_base_ee[:3, :3], T[:3, :3], atol=2e-3)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
@settings(deadline=None)
def test_every_rotation_survives_roll_pitch_and_yaw(quaternion: list[float]) -> None:
    setpoint = np.array([0.3, -0.1, 0.2, *(np.array(quaternion) / np.linalg.norm(quaternion))])
    T = from_controller(to_controller(setpoint))
    assert np.allclose(T[:3, :3], Rotation.from_quat(setpoint[[4, 5, 6, 3]]).as_matrix(), atol=1e-6)
    assert np.allclose(T[:3, 3], setpoint[:3])


@given(
    short=st.sampled_from([0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3]),
    up=st.booleans(),
    roll=st.floats(-3, 3),
    yaw=st.floats(-3, 3),
)
@settings(deadline=None)
def test_rotations_near_a_pitch_of_a_quarter_turn_are_as_exact(short: float, up: bool, roll: float, yaw: float) -> None:
    pitch = (np.pi / 2 - short) * (1 if up else -1)
    rotation = Rotation.from_euler("x", roll).as_matrix()
    for axis, angle in (("y", pitch), ("z", yaw)):
        rotation = Rotation.from_euler(axis, angle).as_matrix() @ rotation
    quaternion = Rotation.from_matrix(rotation).as_quat()[[3, 0, 1, 2]]
    T = from_controller(to_controller(np.array([0, 0, 0, *quaternion])))
    assert np.allclose(T[:3, :3], rotation, atol=1e-9)


def test_angles_of_a_pose_lie_within_half_a_turn() -> None:
    x = to_controller(np.array([0, 0, 0, *Rotation.from_euler("xyz", [3.0, 0.2, 3.0]).as_quat()[[3, 0, 1, 2]]]))
    assert np.allclose(x[3:], [3.0, 0.2, 3.0])


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("turn", [-2.0, 0.0, 0.7])
def test_a_pitch_of_a_quarter_turn_survives_too(sign: float, turn: float) -> None:
    rotation = Rotation.from_euler("y", sign * np.pi / 2) * Rotation.from_euler("x", turn)
    quaternion = rotation.as_quat()[[3, 0, 1, 2]]
    T = from_controller(to_controller(np.array([0, 0, 0, *quaternion])))
    assert np.allclose(T[:3, :3], rotation.as_matrix(), atol=1e-6)


def test_a_collision_is_a_latching_fault_with_its_meaning(controller: XArmController) -> None:
    with driving(controller) as driver:
        driver.send(driver.read().q, None)
        controller.error(31)
        assert eventually(lambda: "collision" in codes(driver.read()))
        reading = driver.read()
        assert reading.safety is Safety.NORMAL  # told once, by the fault: one cause, one token
        assert reading.faults[0].latches
        assert not reading.running
        with pytest.raises(DeviceError, match="error 31"):
            driver.arm()


def test_recovering_cleans_then_enables_then_mode_then_state_and_stands_still(controller: XArmController) -> None:
    with driving(controller) as driver:
        controller.error(31)
        assert eventually(lambda: "collision" in codes(driver.read()))
        before = len(controller.commands)
        q = controller.joints_rad()
        driver.recover()
        sequence = (Function.CLEAN_ERROR, Function.MOTION_ENABLE, Function.SET_MODE, Function.SET_STATE)
        assert [f for _, f, _ in list(controller.commands)[before:] if f in sequence] == list(sequence)
        assert not driver.read().faults
        assert np.allclose(controller.joints_rad(), q, atol=1e-4)
        driver.arm()
        assert driver.read().running  # what was refused before is forgotten
        driver.send(q, None)
        assert eventually(lambda: driver.read().running)


def test_the_emergency_stop_is_told_apart(controller: XArmController) -> None:
    with driving(controller) as driver:
        controller.error(2)
        assert eventually(lambda: driver.read().safety is Safety.ESTOP)


def test_leaving_servo_mode_at_the_vendors_screen_is_a_fault(controller: XArmController) -> None:
    with driving(controller) as driver:
        driver.send(driver.read().q, None)
        controller.leave_mode(2)
        assert eventually(lambda: "mode_left" in codes(driver.read()))
        assert not driver.read().running


def test_a_stop_at_the_vendors_screen_is_a_fault(controller: XArmController) -> None:
    with driving(controller) as driver:
        controller.press_stop()
        assert eventually(lambda: "stopped" in codes(driver.read()))


def test_a_stalled_reply_holds_without_latching_while_the_state_stays_fresh(controller: XArmController) -> None:
    with driving(controller) as driver:
        start = driver.read().q
        controller.stall(0.8)
        driver.send(start, None)
        assert eventually(lambda: "reply_stalled" in codes(driver.read()), 0.7)
        stalled = driver.read()
        assert not any(fault.latches for fault in stalled.faults)
        assert eventually(lambda: driver.read().t_dev_s > stalled.t_dev_s, 0.5)
        taken_s = time.monotonic()
        driver.send(start, None)
        driver.read()
        assert time.monotonic() - taken_s < 0.2  # neither waits for the reply
        assert eventually(lambda: not driver.read().faults)


def test_setpoints_of_a_stall_are_dropped_but_the_newest(controller: XArmController) -> None:
    with driving(controller) as driver:
        start = driver.read().q
        driver.send(start, None)
        assert eventually(lambda: len(controller.setpoints) == 1)
        controller.stall(0.5)
        for step in range(20):
            driver.send(start + 0.001 * step, None)
            time.sleep(0.01)
        assert eventually(lambda: np.allclose(controller.setpoints[-1].joints_rad, start + 0.019, atol=1e-5))
        assert len(controller.setpoints) < 15


def test_a_mute_controller_shows_as_a_clock_that_stands_and_then_as_a_lost_link(controller: XArmController) -> None:
    with driving(controller, lost_s=0.4) as driver:
        controller.mute()
        time.sleep(0.1)
        first = driver.read().t_dev_s
        time.sleep(0.05)
        assert driver.read().t_dev_s == first

        def lost() -> bool:
            try:
                driver.read()
            except DeviceError as error:
                return "link is lost" in str(error)
            return False

        assert eventually(lost)


def test_a_cut_link_raises_and_is_not_mended_by_itself(controller: XArmController) -> None:
    with driving(controller) as driver:
        controller.cut()

        def raises() -> bool:
            try:
                driver.send(np.zeros(6), None)
                driver.read()
            except DeviceError:
                return True
            return False

        assert eventually(raises)
        time.sleep(0.2)
        assert raises()
    with driving(controller) as again:
        assert again.read().running


def test_a_halt_stops_the_controller_and_needs_arming_again(controller: XArmController) -> None:
    with driving(controller) as driver:
        q = driver.read().q
        driver.halt()
        assert eventually(lambda: controller.state == 4)
        with pytest.raises(DeviceError, match="armed"):
            driver.send(q, None)
        assert not driver.read().faults
        driver.arm()
        driver.send(q, None)
        assert eventually(lambda: driver.read().running)


def test_disarming_leaves_servo_mode_with_the_motors_on(controller: XArmController) -> None:
    with driving(controller) as driver:
        driver.disarm()
        assert (controller.mode, controller.enabled) == (0, True)
        assert not driver.read().running
        assert not driver.read().faults


def test_closing_an_armed_arm_stops_it(controller: XArmController) -> None:
    for _ in range(4):  # whatever the command channel is busy with
        with driving(controller) as driver:
            driver.send(driver.read().q, None)
        assert controller.state == 4


def test_the_gripper_follows_and_is_measured(controller: XArmController) -> None:
    controller.gripper.blocked_at = 400
    with driving(controller, gripper="xarm") as driver:
        q = driver.read().q
        driver.send(q, 0.0)
        assert eventually(lambda: abs((driver.read().gripper_opening or 1.0) - 400 / 850) < 0.02)
        assert controller.gripper.target == 0
        driver.send(q, 1.0)
        assert eventually(lambda: (driver.read().gripper_opening or 0.0) > 0.95)


def test_a_gripper_in_fault_holds_the_arm_without_latching(controller: XArmController) -> None:
    with driving(controller, gripper="xarm") as driver:
        controller.gripper.error = 11
        driver.send(driver.read().q, 0.5)
        assert eventually(lambda: "gripper_fault" in codes(driver.read()))
        assert not any(fault.latches for fault in driver.read().faults)


def test_a_closed_port_is_named_at_once(host: str) -> None:
    driver = XArmDriver(XArmConfig(host=host))
    with pytest.raises(DeviceError, match="report port 30003 cannot be reached"):
        driver.connect(2.0)


def test_a_silent_controller_is_given_up_in_time(controller: XArmController) -> None:
    controller.mute()
    started_s = time.monotonic()
    with pytest.raises(DeviceError, match="nothing answers"), driving(controller, armed=False):
        pass
    assert time.monotonic() - started_s < 8.0


def test_another_arm_than_the_options_say_is_refused(controller: XArmController) -> None:
    with (
        pytest.raises(DeviceError, match="expected xarm7, found an arm of 6 joints"),
        driving(controller, model="xarm7"),
    ):
        pass


@pytest.mark.parametrize("code", [*MEANINGS, 99])
def test_every_error_code_latches_and_says_what_to_do(code: int) -> None:
    found = fault(code)
    assert found.latches
    assert f"error {code}:" in found.message
    assert found.message.endswith(".")
