"""The gripper client and its loopback: what became of a command, and that nobody waits for it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cascade.contracts.errors import DeviceError
from robot_io.arms.robotiq import GripperResult, RobotiqGripper
from robot_io.arms.ur import URDriver
from robot_io.loopback.robotiq import RobotiqLoopback
from robot_io.loopback.ur import URLoopback

Until = Callable[..., Any]


@pytest.fixture
def loopback() -> Iterator[RobotiqLoopback]:
    with RobotiqLoopback() as running:
        yield running


@pytest.fixture
def gripper(loopback: RobotiqLoopback) -> Iterator[RobotiqGripper]:
    made = RobotiqGripper(*loopback.address, timeout_s=1.0)
    made.connect(2.0)
    yield made
    made.close()


@pytest.fixture
def active(gripper: RobotiqGripper, until: Until) -> RobotiqGripper:
    gripper.activate()
    until(lambda: gripper.status.active)
    return gripper


def test_connecting_moves_nothing(gripper: RobotiqGripper, loopback: RobotiqLoopback) -> None:
    time.sleep(0.1)
    assert not [line for _, line in loopback.commands if line.startswith("SET")]
    assert gripper.status.opening == 1.0
    assert gripper.status.result is GripperResult.IDLE


def test_fingers_that_meet_nothing_have_moved(active: RobotiqGripper, until: Until) -> None:
    active.move(0.0)
    until(lambda: active.status.result is GripperResult.MOVED)
    until(lambda: active.status.opening == 0.0)
    active.move(1.0)
    until(lambda: active.status.opening == 1.0)


def test_a_half_opening_is_measured_as_it_was_asked_for(active: RobotiqGripper, until: Until) -> None:
    active.move(0.5)
    until(lambda: active.status.result is GripperResult.MOVED)
    assert active.status.opening == pytest.approx(0.5, abs=0.02)


def test_an_object_is_grasped_and_its_loss_is_noticed(
    active: RobotiqGripper, loopback: RobotiqLoopback, until: Until
) -> None:
    loopback.hold_object(120)
    active.move(0.0)
    until(lambda: active.status.result is GripperResult.GRASPED)
    opening = active.status.opening
    assert opening is not None
    assert 0.3 < opening < 0.7
    loopback.hold_object(None)
    until(lambda: active.status.result is GripperResult.LOST)


def test_fingers_that_never_arrive_time_out(active: RobotiqGripper, loopback: RobotiqLoopback, until: Until) -> None:
    loopback.jam()
    active.move(0.0)
    until(lambda: active.status.result is GripperResult.TIMEOUT)


def test_a_gripper_that_does_not_become_active_times_out(
    gripper: RobotiqGripper, loopback: RobotiqLoopback, until: Until
) -> None:
    loopback.refuse_activation()
    gripper.activate()
    until(lambda: gripper.status.result is GripperResult.TIMEOUT)
    assert not gripper.status.active


def test_commands_before_activation_are_a_fault(gripper: RobotiqGripper, until: Until) -> None:
    gripper.move(0.0)
    until(lambda: gripper.status.result is GripperResult.FAULT)
    assert "not active" in gripper.status.message


def test_a_fault_is_reported_in_words_until_it_ends(
    active: RobotiqGripper, loopback: RobotiqLoopback, until: Until
) -> None:
    loopback.set_fault(8)
    until(lambda: active.status.result is GripperResult.FAULT)
    assert "too hot" in active.status.message
    loopback.set_fault(0)
    until(lambda: active.status.result is not GripperResult.FAULT)


@pytest.mark.parametrize("knob", ["mute", "cut"])
def test_a_connection_that_dies_is_a_fault_and_never_blocks(
    active: RobotiqGripper, loopback: RobotiqLoopback, until: Until, knob: str
) -> None:
    getattr(loopback, knob)()
    begun = time.monotonic()
    active.move(0.3)
    active.move(0.6)
    assert active.status is not None
    assert time.monotonic() - begun < 0.2
    if knob == "mute":
        until(lambda: active.status.result is GripperResult.FAULT)
        assert not active.status.online
        loopback.mute(False)
    until(lambda: active.status.online)


def test_a_command_to_a_dead_gripper_is_not_carried_out_when_it_comes_back(
    active: RobotiqGripper, loopback: RobotiqLoopback, until: Until
) -> None:
    loopback.mute()
    until(lambda: active.status.result is GripperResult.FAULT)
    active.move(0.0)
    time.sleep(0.7)  # it tries, in vain
    loopback.mute(False)
    until(lambda: active.status.online)
    time.sleep(0.2)
    assert active.status.opening == 1.0


def test_no_gripper_is_an_error_with_the_step() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DeviceError, match="Robotiq URCap"):
        RobotiqGripper("127.0.0.1", port).connect(1.0)


def test_the_loopback_answers_nonsense_with_a_question_mark(loopback: RobotiqLoopback) -> None:
    with socket.create_connection(loopback.address) as connection, connection.makefile("r") as lines:
        for line in ("GET XXX", "SET POS", "SET POS 300", "hello"):
            connection.sendall(line.encode() + b"\n")
            assert lines.readline() == "?\n"


def test_arm_and_gripper_work_behind_one_driver(until: Until) -> None:
    pytest.importorskip("rtde_control")
    from robot_io.arms.ur_config import URConfig

    with URLoopback("ur5e", watchdog_slack_s=1.0) as arm, RobotiqLoopback(host=arm.address, port=63352) as fingers:
        driver = URDriver(URConfig(host=arm.address, gripper="robotiq", silence_s=0.5))
        driver.connect(5.0)
        assert driver.info.has_gripper
        assert driver.read().gripper_opening == 1.0
        driver.arm()
        pose = [*arm.state()["pose"][:3], 0.0, 0.70710678, 0.70710678, 0.0]

        def opening() -> float | None:
            driver.send(pose, 0.0)  # type: ignore[arg-type]
            return driver.read().gripper_opening

        until(lambda: opening() == 0.0)
        fingers.set_fault(8)
        until(lambda: opening() is not None and [fault.code for fault in driver.read().faults] == ["gripper_fault"])
        assert not driver.read().faults[0].latches
        driver.close()
