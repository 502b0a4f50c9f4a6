"""The driver on the emulated controller: motion, and what every stop of the controller becomes."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cascade.contracts.driver import ArmDriver, Safety
from cascade.contracts.errors import DeviceError
from robot_io.arms import ur
from robot_io.arms.ur import URDriver
from robot_io.loopback.ur import URLoopback

MakeDriver = Callable[..., URDriver]
Until = Callable[..., Any]


def codes(driver: URDriver) -> set[str]:
    return {fault.code for fault in driver.read().faults}


def test_connecting_moves_nothing_and_reads_the_controller_s_pose(
    make_driver: MakeDriver, loopback: URLoopback
) -> None:
    driver = make_driver()
    assert isinstance(driver, ArmDriver)
    driver.connect(5.0)
    reading = driver.read()
    assert reading.T_base_ee is not None
    assert np.allclose(reading.T_base_ee[:3, 3], loopback.state()["pose"][:3], atol=1e-9)
    assert reading.safety is Safety.NORMAL
    assert not reading.running
    assert loopback.state()["runtime_state"] == 1
    assert loopback.setpoints() == []


def test_device_clock_advances_between_readings(armed: URDriver) -> None:
    stamps = []
    for _ in range(10):
        stamps.append(armed.read().t_dev_s)
        time.sleep(0.02)
    assert all(later > earlier for earlier, later in pairwise(stamps))


def test_arming_sets_the_watchdog_before_any_setpoint(armed: URDriver, loopback: URLoopback) -> None:
    assert loopback.state()["watchdog_hz"] == 25.0
    assert loopback.setpoints() == []
    assert armed.read().running


def test_streamed_poses_are_reached_and_arrive_as_they_were_sent(
    armed: URDriver, loopback: URLoopback, pose_of: Callable[[np.ndarray], np.ndarray]
) -> None:
    T = armed.read().T_base_ee
    assert T is not None
    pose = pose_of(T)
    for step in range(120):
        pose[:3] = T[:3, 3] + np.array([0.0, 0.0, 0.0005]) * min(step, 80)
        armed.send(pose, None)
        time.sleep(0.004)
        armed.read()
    reached = armed.read().T_base_ee
    assert reached is not None
    assert np.allclose(reached[:3, 3], pose[:3], atol=2e-3)
    assert np.allclose(reached[:3, :3], T[:3, :3], atol=1e-3)
    _, kind, values = loopback.setpoints()[-1]
    assert kind == "servol"
    assert np.allclose(values[:3], pose[:3], atol=1e-9)


def test_an_armed_arm_without_setpoints_keeps_its_program_as_long_as_it_is_read(
    armed: URDriver, loopback: URLoopback
) -> None:
    for _ in range(90):
        reading = armed.read()
        time.sleep(0.015)
    assert reading.running
    assert loopback.setpoints() == []


def test_a_driver_that_no_longer_lives_loses_its_program_to_the_watchdog(
    armed: URDriver, loopback: URLoopback, until: Until
) -> None:
    until(lambda: loopback.state()["events"][-1][1] == "program ended: watchdog")
    until(lambda: codes(armed) == {"program_stopped"})
    assert not armed.read().running


def test_halt_stops_a_moving_arm_without_waiting(
    armed: URDriver, loopback: URLoopback, until: Until, pose_of: Callable[[np.ndarray], np.ndarray]
) -> None:
    T = armed.read().T_base_ee
    assert T is not None
    pose = pose_of(T)
    for step in range(40):
        pose[2] = T[2, 3] + 0.002 * step
        armed.send(pose, None)
        time.sleep(0.004)
        armed.read()
    assert np.abs(loopback.state()["qd"]).max() > 0.05
    armed.halt()
    until(lambda: np.allclose(loopback.state()["qd"], 0), 1.0)
    where = np.array(loopback.state()["pose"])
    armed.send(pose, None)  # nothing is taken until it is armed again
    time.sleep(0.1)
    assert np.allclose(loopback.state()["pose"], where, atol=1e-9)
    armed.arm()
    time.sleep(0.1)
    armed.read()
    assert np.allclose(loopback.state()["pose"], where, atol=1e-9)  # the old target is not taken up again


def test_disarm_ends_the_program_and_the_arm_stands(armed: URDriver, loopback: URLoopback) -> None:
    armed.disarm()
    assert loopback.state()["runtime_state"] == 1
    assert not armed.read().running
    assert codes(armed) == set()
    armed.arm()
    assert armed.read().running


def test_protective_stop_latches_and_is_unlocked_only_after_its_time(
    armed: URDriver, loopback: URLoopback, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    pose = np.array([0.0, 0, 0, 1, 0, 0, 0])
    loopback.protective_stop()
    until(lambda: armed.read().safety is Safety.PROTECTIVE_STOP)
    assert not armed.read().running
    count = len(loopback.setpoints())
    armed.send(pose, None)
    assert len(loopback.setpoints()) == count
    armed.halt()
    with pytest.raises(DeviceError, match="expected 5 s since the protective stop"):
        armed.recover()
    with pytest.raises(DeviceError, match="protective stop"):
        armed.arm()
    monkeypatch.setattr(ur, "UNLOCK_AFTER_S", 0.4)
    time.sleep(0.45)
    before = loopback.state()["pose"]
    armed.recover()
    assert armed.read().safety is Safety.NORMAL
    armed.arm()
    assert armed.read().running
    assert np.allclose(loopback.state()["pose"], before)


def test_an_unlock_that_the_controller_refuses_is_an_error(
    armed: URDriver, loopback: URLoopback, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ur, "UNLOCK_AFTER_S", 0.0)
    loopback.protective_stop()
    until(lambda: armed.read().safety is Safety.PROTECTIVE_STOP)
    with pytest.raises(DeviceError, match="Cannot unlock protective stop until 5s"):
        armed.recover()


def test_safeguard_stop_pauses_and_goes_on_by_itself(armed: URDriver, loopback: URLoopback, until: Until) -> None:
    loopback.safeguard_stop(True)
    until(lambda: armed.read().safety is Safety.SAFEGUARD_STOP)
    for _ in range(90):  # longer than the watchdog's patience
        assert codes(armed) == set()
        time.sleep(0.015)
    loopback.safeguard_stop(False)
    until(lambda: armed.read().running)
    assert armed.read().safety is Safety.NORMAL


@pytest.mark.parametrize("away_m", [0.0, 0.04])
def test_after_a_safeguard_the_arm_goes_on_only_from_where_it_stands(
    armed: URDriver, loopback: URLoopback, until: Until, pose_of: Callable[[np.ndarray], np.ndarray], away_m: float
) -> None:
    T = armed.read().T_base_ee
    assert T is not None
    pose = pose_of(T)
    armed.send(pose, None)
    loopback.safeguard_stop(True)
    until(lambda: armed.read().safety is Safety.SAFEGUARD_STOP)
    pose[2] += away_m
    armed.send(pose, None)
    loopback.safeguard_stop(False)
    until(lambda: armed.read().running)
    for _ in range(20):
        armed.send(pose, None)
        armed.read()
        time.sleep(0.005)
    assert codes(armed) == (set() if away_m == 0.0 else {"safeguard_resume"})
    assert armed.read().running == (away_m == 0.0)
    assert loopback.state()["pose"][2] == pytest.approx(T[2, 3], abs=1e-3)
    armed.recover()
    armed.arm()
    assert codes(armed) == set()


def test_reduced_mode_is_reported_and_motion_goes_on(armed: URDriver, loopback: URLoopback, until: Until) -> None:
    loopback.reduced_mode(True)
    until(lambda: armed.read().safety is Safety.REDUCED)
    assert armed.read().running


@pytest.mark.parametrize(
    ("knob", "safety", "step"),
    [
        ("emergency_stop", Safety.ESTOP, "Release the emergency stop"),
        ("violation", Safety.VIOLATION, "restart the safety system"),
        ("fault", Safety.FAULT, "restart the controller"),
    ],
)
def test_stops_that_only_a_person_leaves_refuse_recovery_with_the_step(
    armed: URDriver, loopback: URLoopback, until: Until, knob: str, safety: Safety, step: str
) -> None:
    getattr(loopback, knob)(True)
    until(lambda: armed.read().safety is safety)
    assert not armed.read().running
    with pytest.raises(DeviceError, match=step):
        armed.recover()
    getattr(loopback, knob)(False)  # released, but nobody has powered the arm
    until(lambda: armed.read().safety is Safety.NORMAL)
    with pytest.raises(DeviceError, match="Power on and release the brakes"):
        armed.arm()


def test_power_on_arms_an_arm_without_power_when_the_rig_allows_it(
    make_driver: MakeDriver, loopback: URLoopback
) -> None:
    loopback.power(False)
    driver = make_driver(power_on=True)
    driver.connect(5.0)
    driver.arm()
    assert driver.read().running


def test_a_target_that_the_controller_cannot_solve_becomes_program_stopped(
    armed: URDriver, loopback: URLoopback, until: Until, pose_of: Callable[[np.ndarray], np.ndarray]
) -> None:
    T = armed.read().T_base_ee
    assert T is not None
    loopback.no_inverse(True)
    armed.send(pose_of(T), None)
    until(lambda: codes(armed) == {"program_stopped"})
    loopback.no_inverse(False)
    armed.recover()
    armed.arm()
    assert armed.read().running


def test_tool_and_payload_of_the_rig_are_set_before_the_first_reading(
    make_driver: MakeDriver, loopback: URLoopback
) -> None:
    flange = np.array(loopback.state()["pose"])
    driver = make_driver(tcp_offset=(0.0, 0.0, 0.15, 0.0, 0.0, 0.0), payload_kg=1.2)
    driver.connect(5.0)
    reading = driver.read()
    assert reading.T_base_ee is not None
    assert np.allclose(reading.T_base_ee[:3, 3] - flange[:3], [0, 0, -0.15], atol=1e-4)
    assert loopback.state()["payload_kg"] == 1.2


def test_upper_registers_work_while_another_client_has_the_lower_ones(
    make_driver: MakeDriver, loopback: URLoopback
) -> None:
    first = make_driver()
    first.connect(5.0)
    with pytest.raises(DeviceError, match="registers: upper"):
        make_driver().connect(5.0)
    other = make_driver(registers="upper")
    other.connect(5.0)
    other.arm()
    assert other.read().running
    first.read()
    with pytest.raises(DeviceError, match="only one program"):
        first.arm()


def test_measured_forces_are_read(armed: URDriver, loopback: URLoopback, until: Until) -> None:
    loopback.force([1, 2, 3, 0.1, 0.2, 0.3])
    until(lambda: np.allclose(armed.read().wrench, [1, 2, 3, 0.1, 0.2, 0.3]))


def test_closing_stops_an_armed_arm(make_driver: MakeDriver, loopback: URLoopback, until: Until) -> None:
    driver = make_driver()
    driver.connect(5.0)
    driver.arm()
    driver.close()
    assert loopback.state()["runtime_state"] == 1
    driver.close()  # twice is fine
    driver.halt()  # never raises
