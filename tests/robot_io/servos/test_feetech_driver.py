from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts.errors import DataError, DeviceError
from robot_io.arms.driver import ArmDriver, Reading, Takes
from robot_io.arms.feetech import FeetechDriver
from robot_io.arms.feetech_bus import ServoBusError
from robot_io.loopback.servo_bus import SO101_SERVOS, ServoBus, ServoSpec

MakeDriver = Callable[..., FeetechDriver]
ALL = {1, 2, 3, 4, 5, 6}


def stream_to(driver: FeetechDriver, q: list[float], *, gripper: float | None = None, for_s: float = 1.5) -> Reading:
    """Send one goal at 100 Hz until all is still there, or the time is over."""
    until = time.monotonic() + for_s
    while True:
        driver.send(np.array(q), gripper)
        reading = driver.read()
        if time.monotonic() > until or (gripper is None and np.allclose(reading.q, q, atol=0.01)):
            return reading
        time.sleep(0.01)


def read_until_fault(driver: FeetechDriver, for_s: float = 2.0) -> Reading:
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        reading = driver.read()
        if reading.faults:
            return reading
        time.sleep(0.01)
    raise AssertionError("no fault was reported")


def test_it_is_a_driver_that_takes_joint_angles(make_driver: MakeDriver) -> None:
    driver = make_driver()
    assert isinstance(driver, ArmDriver)
    assert driver.info.takes is Takes.JOINTS
    assert len(driver.info.joint_names) == 5
    assert not driver.is_connected


def test_connecting_moves_nothing_and_leaves_torque_off(driver: FeetechDriver, bus: ServoBus) -> None:
    assert driver.is_connected
    assert not any(state["torque_on"] for state in bus.servos().values())
    assert bus.goals() == []
    assert not driver.read().running


def test_arming_makes_the_present_position_the_goal_before_torque_goes_on(driver: FeetechDriver, bus: ServoBus) -> None:
    bus.by_hand(1, 2300)
    driver.arm()
    time.sleep(0.2)
    states = bus.servos()
    assert all(state["torque_on"] for state in states.values())
    assert states[1]["goal"] == 2300
    assert states[1]["position"] == 2300


def test_goals_are_reached_and_measured_in_radians(armed: FeetechDriver, bus: ServoBus) -> None:
    q = [0.5, -0.6, 0.4, 0.3, -1.0]
    reading = stream_to(armed, q)
    assert reading.q == pytest.approx(q, abs=0.01)
    expected = round(2048 + 0.5 * 4096 / (2 * np.pi))
    assert bus.servos()[1]["position"] == pytest.approx(expected, abs=8)
    assert reading.running
    assert not reading.faults


def test_goals_outside_the_calibrated_range_stop_at_its_end(armed: FeetechDriver, bus: ServoBus) -> None:
    armed.send(np.array([9.0, 0, 0, 0, 0]), None)
    assert bus.servos()[1]["goal"] == SO101_SERVOS[0].upper_stop


@pytest.mark.parametrize("bad", [[np.nan, 0, 0, 0, 0], [0.0] * 4])
def test_goals_that_are_no_angles_are_refused(armed: FeetechDriver, bus: ServoBus, bad: list[float]) -> None:
    bus.forget()
    with pytest.raises(DeviceError, match="5 finite joint angles"):
        armed.send(np.array(bad), None)
    assert bus.goals() == []


def test_the_gripper_opens_and_closes(armed: FeetechDriver) -> None:
    assert stream_to(armed, [0.0] * 5, gripper=1.0).gripper_opening == pytest.approx(1.0, abs=0.02)
    assert stream_to(armed, [0.0] * 5, gripper=0.25).gripper_opening == pytest.approx(0.25, abs=0.02)


def test_a_gripper_that_holds_something_gets_less_torque_until_it_opens(armed: FeetechDriver, bus: ServoBus) -> None:
    stream_to(armed, [0.0] * 5, gripper=1.0)
    bus.block(6, lower=2600, upper=3186)
    stream_to(armed, [0.0] * 5, gripper=0.0, for_s=1.5)
    assert bus.servos()[6]["torque_limit"] == 200
    assert not armed.read().faults
    armed.send(np.zeros(5), 1.0)
    assert bus.servos()[6]["torque_limit"] == 500


def test_halt_holds_where_the_arm_is(armed: FeetechDriver, bus: ServoBus) -> None:
    armed.send(np.array([1.5, 0, 0, 0, 0]), None)
    time.sleep(0.1)
    here = armed.read().q[0]
    armed.halt()
    time.sleep(0.3)
    assert here > 0.02
    assert armed.read().q[0] == pytest.approx(here, abs=0.2)
    assert bus.servos()[1]["goal"] < 2600


def test_disarming_goes_to_the_resting_pose_before_torque_goes_off(armed: FeetechDriver, bus: ServoBus) -> None:
    armed.disarm()
    states = bus.servos()
    assert not any(state["torque_on"] for state in states.values())
    folded = {1: 0.0, 2: -1.62, 3: 1.5, 4: 0.87, 5: 0.0}
    for servo, angle in folded.items():
        assert (states[servo]["position"] - 2048) * 2 * np.pi / 4096 == pytest.approx(angle, abs=0.1)
    assert not armed.read().running


def test_disarming_keeps_torque_when_the_way_to_rest_is_blocked(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.block(3, lower=946, upper=2200)
    with pytest.raises(DeviceError, match=r"elbow_flex \(servo id 3\)"):
        armed.disarm()
    assert all(state["torque_on"] for state in bus.servos().values())


def test_closing_an_arm_with_torque_holds_it(armed: FeetechDriver, bus: ServoBus) -> None:
    stream_to(armed, [0.4, -0.4, 0.0, 0.0, 0.0])
    armed.close()
    time.sleep(0.1)
    states = bus.servos()
    assert all(state["torque_on"] for state in states.values())
    assert not armed.is_connected
    assert states[1]["position"] == pytest.approx(2048 + 0.4 * 4096 / (2 * np.pi), abs=10)


def test_a_joint_outside_its_range_is_not_armed(driver: FeetechDriver, bus: ServoBus) -> None:
    bus.block(2, lower=0, upper=4095)
    bus.by_hand(2, 600)
    with pytest.raises(DeviceError, match=r"shoulder_lift \(servo id 2\)"):
        driver.arm()
    assert not any(state["torque_on"] for state in bus.servos().values())


def test_arming_survives_lost_frames(driver: FeetechDriver, bus: ServoBus) -> None:
    bus.drop(0.1)
    driver.arm()
    bus.drop(0.0)
    assert all(state["torque_on"] for state in bus.servos().values())


def test_without_calibration_the_remedy_is_named(make_driver: MakeDriver, tmp_path: Path) -> None:
    driver = make_driver(calibration=tmp_path / "none.yaml")
    with pytest.raises(DeviceError, match="cascade calibrate servos"):
        driver.connect(20.0)


def test_a_broken_calibration_is_named(make_driver: MakeDriver, calibration_file: Path) -> None:
    calibration_file.write_text(calibration_file.read_text().replace("lower_ticks: 796", "lower_ticks: 9000"))
    with pytest.raises(DataError, match=r"joints\.shoulder_pan\.lower_ticks"):
        make_driver().connect(20.0)


def test_a_port_that_is_not_there_is_named(make_driver: MakeDriver) -> None:
    with pytest.raises(DeviceError, match="no such serial port"):
        make_driver(port="/dev/ttyNOTHERE").connect(20.0)


def test_a_second_process_on_the_same_arm_is_refused(driver: FeetechDriver, make_driver: MakeDriver) -> None:
    with pytest.raises(DeviceError, match="in use by another process"):
        make_driver().connect(20.0)
    driver.read()


def test_another_calibration_than_the_servos_carry_is_refused(make_driver: MakeDriver, bus: ServoBus) -> None:
    bus.poke(4, 31, [120, 0])
    with pytest.raises(DeviceError, match=r"wrist_flex \(servo id 4\): expected the homing offset 0 .* found 120"):
        make_driver().connect(20.0)


def test_a_servo_of_another_model_is_refused(make_driver: MakeDriver, bus: ServoBus) -> None:
    bus.poke(2, 3, [0x09, 0x0B])
    with pytest.raises(DeviceError, match=r"servo id 2 .* expected model 777"):
        make_driver().connect(20.0)


@pytest.mark.parametrize("chained", [False, True])
def test_a_dead_servo_is_named_and_the_others_hold(armed: FeetechDriver, bus: ServoBus, chained: bool) -> None:
    stream_to(armed, [0.3, 0.0, 0.0, 0.0, 0.0])
    bus.chain(chained)
    armed.send(np.array([1.5, 0, 0, 0, 0]), None)
    bus.dead([3])
    with pytest.raises(ServoBusError, match=r"elbow_flex \(id 3\)") as caught:
        armed.read()
    assert caught.value.ids == (3,)
    states = bus.servos()
    assert states[1]["goal"] < 2400  # not the 3026 that was sent last
    assert all(state["torque_on"] for state in states.values())
    assert armed.is_connected  # the port is there; only a servo is not


def test_one_percent_of_lost_frames_goes_unnoticed(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.drop(0.01)
    for _ in range(300):
        armed.send(np.zeros(5), None)
        assert not armed.read().faults


def test_lost_frames_are_asked_for_again(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.drop(0.05)
    before = armed._bus.counts.retries
    for _ in range(60):
        armed.read()
    assert armed._bus.counts.retries > before


def test_a_fifth_of_lost_frames_ends_in_an_error_that_names_a_servo(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.drop(0.2)

    def read_on() -> None:
        for _ in range(2000):
            armed.read()

    with pytest.raises(ServoBusError, match="The other joints hold") as caught:
        read_on()
    assert set(caught.value.ids) <= ALL
    assert caught.value.ids


def test_corrupt_replies_are_never_taken_for_positions(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.corrupt(0.1)
    for _ in range(100):
        assert armed.read().q == pytest.approx(np.zeros(5), abs=0.01)
    assert armed._bus.counts.corrupt > 0


def test_nothing_but_corrupt_replies_is_an_error(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.corrupt(1.0)
    with pytest.raises(ServoBusError):
        armed.read()


@pytest.mark.parametrize(
    ("bits", "code"), [(32, "servo_overload"), (4, "servo_overheat"), (1, "servo_voltage"), (8, "servo_current")]
)
def test_what_a_servo_complains_of_holds_the_arm_with_less_torque(
    armed: FeetechDriver, bus: ServoBus, bits: int, code: str
) -> None:
    bus.error(3, bits)
    reading = read_until_fault(armed)
    assert [fault.code for fault in reading.faults] == [code]
    assert "elbow_flex (servo id 3)" in reading.faults[0].message
    assert reading.faults[0].latches
    states = bus.servos()
    assert all(state["torque_on"] for state in states.values())  # nothing falls
    assert states[3]["torque_limit"] == 450
    assert states[2]["torque_limit"] == 900
    armed.send(np.array([1.0, 0, 0, 0, 0]), None)
    assert bus.servos()[1]["goal"] == pytest.approx(2048, abs=3)  # holds, whatever is sent


def test_a_temperature_above_the_limit_is_a_fault(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.temperature(4, 65)
    for _ in range(5):
        assert not armed.read().faults
    bus.temperature(4, 67)
    reading = read_until_fault(armed)
    assert [fault.code for fault in reading.faults] == ["servo_overheat"]
    assert "67 °C" in reading.faults[0].message


def test_one_wild_temperature_is_no_fault(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.temperature(4, 69)
    assert not armed.read().faults
    bus.temperature(4, 30)
    for _ in range(5):
        assert not armed.read().faults


def test_a_supply_that_breaks_down_is_a_fault_of_every_servo(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.voltage(4.2)
    reading = read_until_fault(armed)
    assert [fault.code for fault in reading.faults] == ["servo_voltage"] * 6
    assert all(state["torque_limit"] <= 450 for state in bus.servos().values())


def test_a_fault_stays_until_a_person_recovers(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.error(3, 32)
    read_until_fault(armed)
    with pytest.raises(DeviceError, match=r"elbow_flex \(servo id 3\)"):
        armed.recover()
    bus.error(3, 0)
    assert armed.read().faults  # gone at the servo, not yet acknowledged
    armed.recover()
    assert not armed.read().faults
    assert bus.servos()[3]["torque_limit"] == 900
    assert stream_to(armed, [0.2, 0, 0, 0, 0]).q[0] == pytest.approx(0.2, abs=0.01)


def test_a_joint_that_pushes_against_something_overloads_by_itself(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.block(1, lower=796, upper=2060)
    until = time.monotonic() + 5.0
    reading = armed.read()
    while not reading.faults and time.monotonic() < until:
        armed.send(np.array([1.0, 0, 0, 0, 0]), None)
        reading = armed.read()
        time.sleep(0.01)
    assert reading.faults[0].code == "servo_overload"
    assert "shoulder_pan" in reading.faults[0].message
    assert abs(bus.servos()[1]["goal"] - bus.servos()[1]["position"]) < 5


def test_a_pulled_cable_is_seen_at_once(armed: FeetechDriver, bus: ServoBus) -> None:
    armed.read()
    bus.unplug()
    began = time.monotonic()
    with pytest.raises(DeviceError, match="Plug the cable in again"):
        armed.read()
    assert time.monotonic() - began < 0.2
    assert not armed.is_connected
    armed.halt()  # never raises
    with pytest.raises(DeviceError, match="not connected"):
        armed.send(np.zeros(5), None)


def test_nothing_is_used_again_before_it_was_checked(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.unplug()
    with pytest.raises(DeviceError):
        armed.read()
    bus.replug()
    with pytest.raises(DeviceError, match="not connected"):
        armed.read()
    armed.connect(20.0)
    assert armed.read().running  # the servos kept their torque


def test_another_arm_behind_the_same_port_is_refused(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.unplug()
    with pytest.raises(DeviceError):
        armed.read()
    bus.replug([ServoSpec(id) for id in (1, 2, 3, 11, 12, 13)])
    with pytest.raises(DeviceError, match="servo ids 4, 5, 6"):
        armed.connect(20.0)
    assert not armed.is_connected
    bus.unplug()
    bus.replug([ServoSpec(id, model=1060) for id in range(1, 7)])
    with pytest.raises(DeviceError, match="expected model 777"):
        armed.connect(20.0)


def test_a_bus_without_power_says_so(make_driver: MakeDriver, bus: ServoBus) -> None:
    bus.dead([1, 2, 3, 4, 5, 6])
    with pytest.raises(DeviceError, match="found none that answers"):
        make_driver(bus_budget_s=0.1).connect(20.0)


def test_late_replies_are_waited_for(armed: FeetechDriver, bus: ServoBus) -> None:
    bus.delay(0.02)
    for _ in range(5):
        assert not armed.read().faults
