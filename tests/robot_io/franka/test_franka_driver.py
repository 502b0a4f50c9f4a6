"""franky and libfranka themselves, and our driver on top of them, against the loopback controller."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from cascade.contracts.errors import DeviceError
from cascade.testing.arms import check_arm_driver
from robot_io.arms.driver import ArmDriver, Reading, Safety, Takes
from robot_io.arms.franka import FrankaConfig, FrankaDriver
from robot_io.loopback.franka import FrankaController
from robot_io.loopback.franka_wire import COMMAND, STATE

franky = pytest.importorskip("franky", reason="needs the franka extra")

_hosts = iter(range(10, 250))


@pytest.fixture
def host() -> str:
    """A loopback address of its own: libfranka's port cannot be moved."""
    pid = os.getpid()
    return f"127.{1 + pid // 250 % 250}.{1 + pid % 250}.{next(_hosts)}"


@pytest.fixture
def controller(host: str) -> Iterator[FrankaController]:
    with FrankaController(host) as controller:
        yield controller


@contextmanager
def driving(controller: FrankaController, *, armed: bool = True) -> Iterator[FrankaDriver]:
    driver = FrankaDriver(FrankaConfig(host=controller.host, realtime="ignore"))
    try:
        driver.connect(5.0)
        if armed:
            driver.arm()
        yield driver
    finally:
        driver.close()


def eventually(check: Callable[[], bool], within_s: float = 4.0) -> bool:
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if check():
            return True
        time.sleep(0.005)
    return check()


def codes(reading: Reading) -> set[str]:
    return {fault.code for fault in reading.faults}


def test_records_have_the_sizes_that_libfranka_sends_and_expects() -> None:
    assert (STATE.itemsize, COMMAND.itemsize) == (1377, 371)


def test_franky_connects_reads_the_model_and_runs_a_motion(controller: FrankaController) -> None:
    robot = franky.Robot(controller.host, realtime_config=franky.RealtimeConfig.Ignore)
    start = controller.joints_rad()
    assert np.allclose(robot.state.q, start, atol=1e-6)
    # The client computes the flange from the description it was handed, the controller from the placements.
    flange = robot.model.pose(franky.Frame.Flange, robot.state).matrix
    assert np.allclose(flange, controller.world.flange(), atol=1e-5)
    robot.relative_dynamics_factor = 0.2
    robot.move(franky.JointMotion(list(start + 0.05)))
    assert np.allclose(controller.joints_rad(), start + 0.05, atol=1e-3)


def test_it_is_an_arm_driver_that_is_known_before_it_connects(host: str) -> None:
    driver = FrankaDriver(FrankaConfig(host=host))
    assert isinstance(driver, ArmDriver)
    assert (driver.info.takes, driver.info.kinematics, driver.info.has_gripper) == (Takes.JOINTS, "fr3", False)


def test_it_conforms_to_what_the_arm_process_relies_on(controller: FrankaController) -> None:
    check_arm_driver(lambda: FrankaDriver(FrankaConfig(host=controller.host, realtime="ignore")))


def test_connecting_takes_no_control(controller: FrankaController) -> None:
    with driving(controller, armed=False) as driver:
        reading = driver.read()
        assert np.allclose(reading.q, controller.joints_rad(), atol=1e-6)
        assert not reading.running
        first = reading.t_dev_s
        assert eventually(lambda: driver.read().t_dev_s > first)
        with pytest.raises(DeviceError, match="before it is armed"):
            driver.send(reading.q, None)
    assert not controller.commands


def test_arming_holds_the_arm_where_it_is_and_setpoints_lead_it(controller: FrankaController) -> None:
    with driving(controller) as driver:
        start = driver.read().q
        time.sleep(0.2)
        assert np.allclose(controller.joints_rad(), start, atol=1e-4)
        goal = start + np.array([0.1, 0.05, -0.1, 0.1, 0.05, 0.1, -0.1])
        for share in [*np.linspace(0.0, 1.0, 80), *([1.0] * 20)]:
            driver.send(start + share * (goal - start), None)
            time.sleep(0.01)
        assert eventually(lambda: np.allclose(driver.read().q, goal, atol=5e-3))
        assert driver.read().running
        assert len(controller.commands) > 100


def test_the_reference_carries_the_speed_that_two_setpoints_implied(controller: FrankaController) -> None:
    with driving(controller) as driver:
        q, step = driver.read().q, np.full(7, 0.001)
        driver.send(q, None)
        driver.send(q + step, None)
        assert np.allclose(driver._motion.get_reference().dq, step * driver.info.rate_hz)
        driver.send(q + step, None)
        assert np.allclose(driver._motion.get_reference().dq, 0.0)


def test_a_reflex_is_a_latching_fault_until_it_recovers_and_is_armed(controller: FrankaController) -> None:
    with driving(controller) as driver:
        controller.reflex()
        assert eventually(lambda: "reflex" in codes(driver.read()))
        reading = driver.read()
        assert reading.safety is Safety.NORMAL  # told once, by the fault: one cause, one token
        assert "joint_reflex" in reading.faults[0].message
        assert reading.faults[0].latches
        with pytest.raises(DeviceError, match="Reflex"):
            driver.arm()
        driver.recover()
        assert not driver.read().faults
        driver.arm()
        driver.send(driver.read().q, None)
        assert eventually(lambda: driver.read().running)


def test_the_user_stop_cannot_be_recovered_from_here(controller: FrankaController) -> None:
    with driving(controller) as driver:
        controller.user_stop()
        assert eventually(lambda: driver.read().safety is Safety.ESTOP)
        with pytest.raises(DeviceError, match="does not recover"):
            driver.recover()
        controller.user_stop(pressed=False)
        assert eventually(lambda: driver.read().safety is Safety.NORMAL)
        driver.recover()
        driver.arm()
        assert eventually(lambda: driver.read().running)


def test_a_halt_gives_up_control_and_needs_arming_again(controller: FrankaController) -> None:
    with driving(controller) as driver:
        q = driver.read().q
        asked_s = time.monotonic()
        driver.halt()
        assert time.monotonic() - asked_s < 0.2
        with pytest.raises(DeviceError, match="armed"):
            driver.send(q, None)
        assert eventually(lambda: not driver._robot.is_in_control)
        assert not driver.read().faults
        driver.arm()
        assert eventually(lambda: driver.read().running)


def test_a_mute_controller_shows_as_a_clock_that_stands_and_then_as_a_lost_link(controller: FrankaController) -> None:
    with driving(controller) as driver:
        controller.mute()
        time.sleep(0.1)
        first = driver.read().t_dev_s
        time.sleep(0.05)
        assert driver.read().t_dev_s == first

        def lost() -> bool:
            try:
                return bool(driver.read().faults)
            except DeviceError as error:
                return "link is lost" in str(error)

        assert eventually(lost)


def test_a_cut_link_is_not_mended_by_itself(controller: FrankaController) -> None:
    with driving(controller) as driver:
        controller.cut()

        def lost() -> bool:
            try:
                return "control_lost" in codes(driver.read())
            except DeviceError as error:
                return "link is lost" in str(error)

        assert eventually(lost)
    with driving(controller) as again:
        assert again.read().running


def test_a_closed_port_is_named_at_once(host: str) -> None:
    with pytest.raises(DeviceError, match="control port 1337 cannot be reached"):
        FrankaDriver(FrankaConfig(host=host)).connect(2.0)
