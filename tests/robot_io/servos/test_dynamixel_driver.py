from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cascade.contracts.errors import ConfigError, DeviceError
from robot_io.arms.driver import ArmDriver, Reading, Takes
from robot_io.arms.dynamixel import DynamixelDriver
from robot_io.arms.dynamixel_bus import DynamixelError
from robot_io.arms.dynamixel_config import DynamixelConfig
from robot_io.loopback.servo_bus import KOCH_SERVOS, ServoBus, ServoSpec
from robot_io.loopback.servo_bus_serve import koch_options

MakeDriver = Callable[..., DynamixelDriver]


@pytest.fixture
def bus() -> Iterator[ServoBus]:
    with ServoBus("dynamixel", KOCH_SERVOS) as running:
        yield running


@pytest.fixture
def make_driver(bus: ServoBus) -> Iterator[MakeDriver]:
    made: list[DynamixelDriver] = []

    def make(**options: Any) -> DynamixelDriver:
        given = {**koch_options(bus.address), "bus_budget_s": 1.0, "rest_speed_rad_s": 1.0, "watchdog_s": 2.0}
        driver = DynamixelDriver(DynamixelConfig.model_validate({**given, **options}))
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def armed(make_driver: MakeDriver) -> DynamixelDriver:
    driver = make_driver()
    driver.connect(20.0)
    driver.arm()
    return driver


def stream_to(driver: DynamixelDriver, q: list[float], *, gripper: float | None = None) -> Reading:
    until = time.monotonic() + 2.0
    while True:
        driver.send(np.array(q), gripper)
        reading = driver.read()
        if time.monotonic() > until or (gripper is None and np.allclose(reading.q, q, atol=0.01)):
            return reading
        time.sleep(0.01)


def read_until_fault(driver: DynamixelDriver) -> Reading:
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        reading = driver.read()
        if reading.faults:
            return reading
        time.sleep(0.01)
    raise AssertionError("no fault was reported")


def test_it_is_a_driver_with_a_watchdog(make_driver: MakeDriver) -> None:
    driver = make_driver()
    assert isinstance(driver, ArmDriver)
    assert driver.info.takes is Takes.JOINTS
    assert driver.info.watchdog_s == 2.0


def test_the_watchdog_is_set_before_torque_goes_on(armed: DynamixelDriver, bus: ServoBus) -> None:
    states = bus.servos()
    assert all(state["torque_on"] for state in states.values())
    assert all(state["watchdog"] == 100 for state in states.values())


def test_goals_are_reached_and_measured_in_radians(armed: DynamixelDriver, bus: ServoBus) -> None:
    q = [0.4, -0.3, 0.5, 0.2, -1.0]
    assert stream_to(armed, q).q == pytest.approx(q, abs=0.01)
    assert bus.servos()[1]["position"] == pytest.approx(2048 + 0.4 * 4096 / (2 * np.pi), abs=8)


def test_sign_and_zero_of_the_table_are_used(make_driver: MakeDriver, bus: ServoBus) -> None:
    options = koch_options(bus.address)
    joints = options["joints"]
    assert isinstance(joints, list)
    joints[0] = {**joints[0], "sign": -1, "zero_ticks": 2148, "lower_rad": -1.5, "upper_rad": 1.5}
    driver = make_driver(joints=joints)
    driver.connect(20.0)
    assert driver.read().q[0] == pytest.approx(100 * 2 * np.pi / 4096, abs=1e-6)


def test_the_clock_is_the_servos_own_and_goes_on(armed: DynamixelDriver) -> None:
    first = armed.read().t_dev_s
    time.sleep(0.05)
    second = armed.read().t_dev_s
    assert 0.04 <= second - first < 5.0


def test_the_gripper_holds_with_its_current_limit(armed: DynamixelDriver, bus: ServoBus) -> None:
    assert stream_to(armed, [0.0] * 5, gripper=1.0).gripper_opening == pytest.approx(1.0, abs=0.02)
    bus.block(6, lower=2400, upper=4095)
    stream_to(armed, [0.0] * 5, gripper=0.0)
    assert abs(bus.servos()[6]["load"]) <= 300 / 1400 + 1e-6
    assert bus.peek(6, 11, 1) == b"\x05"


def test_silence_on_the_bus_stops_the_servos(make_driver: MakeDriver, bus: ServoBus) -> None:
    driver = make_driver(watchdog_s=0.1)
    driver.connect(20.0)
    driver.arm()
    driver.send(np.array([1.8, 0, 0, 0, 0]), None)
    time.sleep(2.0)
    assert all(state["watchdog"] == 255 for state in bus.servos().values())
    assert bus.servos()[1]["torque_on"]  # stopped, not limp
    reading = read_until_fault(driver)
    assert {fault.code for fault in reading.faults} == {"watchdog_expired"}


def test_recovering_clears_the_watchdog(armed: DynamixelDriver, bus: ServoBus) -> None:
    bus.poke(1, 98, [255])
    assert read_until_fault(armed).faults[0].code == "watchdog_expired"
    armed.recover()
    assert not armed.read().faults
    assert stream_to(armed, [0.2, 0, 0, 0, 0]).q[0] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("bits", "code"), [(32, "servo_overload"), (4, "servo_overheat"), (1, "servo_voltage")])
def test_a_hardware_error_names_the_joint_and_holds_the_others(
    armed: DynamixelDriver, bus: ServoBus, bits: int, code: str
) -> None:
    bus.error(3, bits)
    reading = read_until_fault(armed)
    assert [fault.code for fault in reading.faults] == [code]
    assert "elbow_flex (servo id 3)" in reading.faults[0].message
    states = bus.servos()
    assert not states[3]["torque_on"]  # the servo's own doing
    assert all(states[servo]["torque_on"] for servo in (1, 2, 4, 5, 6))
    armed.send(np.array([1.0, 0, 0, 0, 0]), None)
    assert bus.servos()[1]["goal"] == pytest.approx(2048, abs=3)
    bus.error(3, 0)
    armed.recover()
    assert bus.servos()[3]["torque_on"]
    assert not armed.read().faults


def test_a_hot_servo_holds_with_less_torque(armed: DynamixelDriver, bus: ServoBus) -> None:
    bus.temperature(2, 68)
    reading = read_until_fault(armed)
    assert reading.faults[0].code == "servo_overheat"
    assert "shoulder_lift" in reading.faults[0].message
    assert bus.servos()[2]["torque_limit"] == 442
    assert bus.servos()[2]["torque_on"]
    with pytest.raises(DeviceError, match="too hot"):
        armed.recover()


@pytest.mark.parametrize("chained", [False, True])
def test_a_dead_servo_is_named(armed: DynamixelDriver, bus: ServoBus, chained: bool) -> None:
    bus.chain(chained)
    bus.dead([6] if chained else [3])
    with pytest.raises(DynamixelError, match=r"gripper \(id 6\)" if chained else r"elbow_flex \(id 3\)") as caught:
        armed.read()
    assert caught.value.ids == ((6,) if chained else (3,))
    assert all(state["torque_on"] for state in bus.servos().values())


def test_one_percent_of_lost_frames_goes_unnoticed(armed: DynamixelDriver, bus: ServoBus) -> None:
    bus.drop(0.01)
    for _ in range(200):
        armed.send(np.zeros(5), None)
        assert not armed.read().faults


def test_corrupt_replies_are_never_taken_for_positions(armed: DynamixelDriver, bus: ServoBus) -> None:
    bus.corrupt(0.05)
    for _ in range(60):
        assert armed.read().q == pytest.approx(np.zeros(5), abs=0.01)
    assert armed._bus.retries > 0


def test_a_pulled_cable_is_seen_at_once(armed: DynamixelDriver, bus: ServoBus) -> None:
    armed.read()
    bus.unplug()
    began = time.monotonic()
    with pytest.raises(DeviceError, match="Plug the cable in again"):
        armed.read()
    assert time.monotonic() - began < 0.2
    assert not armed.is_connected
    armed.halt()
    with pytest.raises(DeviceError, match="not connected"):
        armed.read()


def test_another_arm_behind_the_same_port_is_refused(armed: DynamixelDriver, bus: ServoBus) -> None:
    bus.unplug()
    with pytest.raises(DeviceError):
        armed.read()
    bus.replug([ServoSpec(i, 1020, voltage_v=12.0) for i in range(1, 7)])
    with pytest.raises(DeviceError, match="expected model 1060, found 1020"):
        armed.connect(20.0)


def test_a_second_process_on_the_same_arm_is_refused(armed: DynamixelDriver, make_driver: MakeDriver) -> None:
    with pytest.raises(DeviceError, match="in use by another process"):
        make_driver().connect(20.0)
    armed.read()


def test_a_port_that_is_not_there_is_named(make_driver: MakeDriver) -> None:
    with pytest.raises(DeviceError, match="no such serial port"):
        make_driver(port="/dev/ttyNOTHERE").connect(20.0)


def test_disarming_goes_to_rest_before_torque_goes_off(armed: DynamixelDriver, bus: ServoBus) -> None:
    stream_to(armed, [0.5, 0.4, 0.0, 0.0, 0.0])
    armed.disarm()
    states = bus.servos()
    assert not any(state["torque_on"] for state in states.values())
    assert states[1]["position"] == pytest.approx(2048, abs=50)


def test_disarming_keeps_torque_when_the_way_to_rest_is_blocked(armed: DynamixelDriver, bus: ServoBus) -> None:
    stream_to(armed, [0.5, 0.4, 0.0, 0.0, 0.0])
    bus.block(2, lower=2250, upper=4095)
    with pytest.raises(DeviceError, match=r"shoulder_lift \(servo id 2\)"):
        armed.disarm()
    assert all(state["torque_on"] for state in bus.servos().values())


def test_a_shadow_servo_must_follow(make_driver: MakeDriver, bus: ServoBus) -> None:
    options = koch_options(bus.address)
    joints = options["joints"]
    assert isinstance(joints, list)
    joints = [{**joints[2], "shadow_id": 4}]
    driver = make_driver(joints=joints, gripper=None)
    with pytest.raises(DeviceError, match="expected the secondary id 3"):
        driver.connect(20.0)
    bus.poke(4, 12, [3])
    driver.connect(20.0)
    assert driver.read().gripper_opening is None


def test_a_table_with_an_id_twice_is_refused(bus: ServoBus) -> None:
    options = koch_options(bus.address)
    with pytest.raises((ValueError, ConfigError), match="every servo id once"):
        DynamixelConfig.model_validate(
            {**options, "gripper": {"id": 1, "model": "xl330-m288", "closed_ticks": 0, "open_ticks": 900}}
        )
