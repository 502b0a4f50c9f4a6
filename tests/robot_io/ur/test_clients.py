"""The vendor's own clients take the loopback for a controller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from robot_io.loopback.ur import URLoopback

rtde_control = pytest.importorskip("rtde_control")
rtde_receive = pytest.importorskip("rtde_receive")
dashboard_client = pytest.importorskip("dashboard_client")


@pytest.fixture
def receive(loopback: URLoopback) -> Iterator[Any]:
    client = rtde_receive.RTDEReceiveInterface(loopback.address)
    yield client
    client.disconnect()


@pytest.fixture
def control(loopback: URLoopback) -> Iterator[Any]:
    client = rtde_control.RTDEControlInterface(loopback.address)
    yield client
    client.disconnect()


def test_receive_interface_sees_an_arm_at_home_with_a_running_clock(receive: Any) -> None:
    assert np.allclose(receive.getActualQ(), [0, -1.5708, 1.5708, -1.5708, -1.5708, 0])
    first = receive.getTimestamp()
    time.sleep(0.1)
    assert receive.getTimestamp() > first
    assert receive.getRobotMode() == 7
    assert receive.getSafetyStatusBits() == 1


def test_dashboard_client_gets_answers_it_understands(loopback: URLoopback) -> None:
    client = dashboard_client.DashboardClient(loopback.address)
    client.connect()
    assert client.isInRemoteControl()
    assert client.robotmode() == "Robotmode: RUNNING"
    assert client.getSerialNumber().isdigit()
    assert not client.running()
    loopback.local_mode()
    assert not client.isInRemoteControl()
    client.disconnect()


def test_control_interface_moves_joints_and_tool_and_solves_kinematics(control: Any, loopback: URLoopback) -> None:
    q = [0.2, -1.4, 1.5, -1.6, -1.5, 0.3]
    assert control.moveJ(q, 3.0, 10.0)
    assert np.allclose(loopback.state()["q"], q, atol=1e-3)
    pose = loopback.state()["pose"]
    pose[2] += 0.05
    assert control.moveL(pose, 0.5, 2.0)
    assert np.allclose(loopback.state()["pose"], pose, atol=1e-3)
    assert np.allclose(control.getInverseKinematics(pose), loopback.state()["q"], atol=1e-3)


def test_speed_l_repeats_for_ever_without_a_watchdog_and_stops_when_told(control: Any, loopback: URLoopback) -> None:
    before = loopback.state()["pose"][2]
    assert control.speedL([0, 0, 0.1, 0, 0, 0], 1.0, 0.008)
    time.sleep(0.4)
    assert loopback.state()["pose"][2] - before > 0.02
    assert control.speedStop(5.0)
    assert np.allclose(loopback.state()["qd"], 0)


def test_servo_j_reaches_its_target_and_holds_it(control: Any, loopback: URLoopback, until: Callable[..., Any]) -> None:
    target = np.array(loopback.state()["q"]) + 0.05
    control.servoJ(target.tolist(), 0.5, 0.5, 0.008, 0.05, 500)
    until(lambda: np.allclose(loopback.state()["q"], target, atol=1e-4))
    assert loopback.setpoints()[-1][1] == "servoj"
    assert control.servoStop(5.0)


def test_watchdog_ends_the_program_when_its_client_falls_silent(
    control: Any, loopback: URLoopback, until: Callable[..., Any]
) -> None:
    assert control.setWatchdog(25.0)
    assert loopback.state()["watchdog_hz"] == 25.0
    control.speedL([0, 0, 0.05, 0, 0, 0], 1.0, 0.008)
    until(lambda: loopback.state()["events"][-1][1] == "program ended: watchdog")
    until(lambda: np.allclose(loopback.state()["qd"], 0))
    assert not control.isProgramRunning()


def test_a_target_without_solution_ends_the_program(
    control: Any, loopback: URLoopback, until: Callable[..., Any]
) -> None:
    control.servoL([3.0, 0, 0, 0, 0, 0], 0.5, 0.5, 0.008, 0.1, 300)
    until(lambda: not control.isProgramRunning())
    assert loopback.state()["events"][-1][1] == "program ended: get_inverse_kin: no solution"


def test_two_controlling_clients_are_refused_as_the_real_controller_does(control: Any, loopback: URLoopback) -> None:
    with pytest.raises(RuntimeError, match="in use"):
        rtde_control.RTDEControlInterface(loopback.address)


def test_two_robots_have_an_address_each() -> None:
    with URLoopback("ur3e") as one, URLoopback("ur10e") as other:
        assert one.address != other.address
        assert one.state()["pose"] != other.state()["pose"]
