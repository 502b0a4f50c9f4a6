"""Faults 11 (joints) and 19 to 22: servos on a bus, and a gripper that a UR carries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.contracts import ArmMode, DeviceError
from robot_io.arms.feetech_calibration_file import save_calibration
from robot_io.arms.robotiq import GripperResult, RobotiqGripper
from robot_io.loopback.robotiq import RobotiqLoopback
from robot_io.loopback.servo_bus import SO101_SERVOS, ServoBus, ServoSpec
from robot_io.loopback.servo_bus_serve import so101_calibration
from robot_io.loopback.ur import URLoopback
from robot_io.process.arm_process import ArmProcess
from robot_io.process.poses import pose_of

READY_Q = (0.0, -0.6, 0.6, 0.8, 0.0)
BUDGET_S = 0.3
Make = Callable[..., Any]


@pytest.fixture
def bus() -> Iterator[ServoBus]:
    with ServoBus("feetech", SO101_SERVOS, seed=2) as running:  # with 0 four replies in a row are garbled early on
        for servo, angle in zip(SO101_SERVOS, READY_Q, strict=False):
            running.by_hand(servo.id, 2048 + angle * 4096 / (2 * np.pi))
        yield running


@pytest.fixture
def servos(bus: ServoBus, make_arm: Make, tmp_path: Path) -> ArmProcess:
    """An SO-101 behind its process, armed; its bus answers within 0.3 s on this machine, 0.1 s on a table."""
    save_calibration(tmp_path / "so101.yaml", so101_calibration())
    options = {"port": bus.address, "calibration": str(tmp_path / "so101.yaml"), "bus_budget_s": BUDGET_S}
    box = np.array([[-0.6, -0.6, -0.2], [0.6, 0.6, 0.8]])
    limits = {"workspace_m": box, "max_step_m": 0.6}
    arm: ArmProcess = make_arm("FEETECH", {**options, "rest_speed_rad_s": 1.0}, limits, rate_hz=50.0, ttl_s=0.5)
    arm.connect(20.0)
    arm.arm()
    return arm


def bob(arm: ArmProcess, seconds: float) -> None:
    """Move the hand up and down, as long as the arm takes it."""
    here = pose_of(arm.read(max_age_s=5.0).T_base_ee)
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s and arm.mode is not ArmMode.FAULT:
        target = here.copy()
        target[2] += 0.01 * (1 - np.cos(4 * (time.monotonic() - end_s)))
        arm.send_checked(target, 0.5)
        time.sleep(0.02)


def torque(bus: ServoBus) -> list[bool]:
    return [bool(state["torque_on"]) for state in bus.servos().values()]


def test_11_a_target_out_of_reach_is_refused_before_anything_is_sent(
    servos: ArmProcess, bus: ServoBus, reaction: Make, log: Make
) -> None:
    told = log(servos)
    bob(servos, 0.5)
    far = pose_of(servos.read(max_age_s=5.0).T_base_ee)
    far[0] += 0.3
    before_q = servos.read(max_age_s=5.0).q
    sent_s = time.monotonic()
    servos.send_checked(far, 0.5)
    refused = told.wait("unreachable", sent_s - 0.05, "rejected")
    reaction(11, "out of reach: refused in the arm process", (refused.stamp_s - sent_s) * 1e3, 20.0 + 8.0)
    time.sleep(0.8)
    moved = float(np.abs(servos.last_known().q - before_q).max())
    reaction(11, "out of reach: joints moved", moved * 1e3, 40.0, unit="mrad", hard=True)


def test_19_lost_and_garbled_packets_are_asked_again_and_a_dead_servo_is_named(
    servos: ArmProcess, bus: ServoBus, reaction: Make, log: Make
) -> None:
    told = log(servos)
    for knob, share in (("drop", 0.01), ("corrupt", 0.05)):
        getattr(bus, knob)(share)
        bob(servos, 1.5)
        getattr(bus, knob)(0.0)
        print(
            [(event.stamp_s, event.code, event.message) for event in told.look() if event.kind in ("fault", "rejected")]
        )
        reaction(19, f"{knob} {share:.0%}: faults", len(told.faults()), 0.0, unit="faults", hard=True)
    began_s = time.monotonic()
    bus.drop(0.2)  # more than asking four times can mend: sooner or later somebody is missing
    bob(servos, 10.0)
    bus.drop(0.0)
    fault = told.wait("servo_silent", began_s, "fault")
    assert "(id " in fault.message
    reaction(19, "drop 20%: fault that names who was missing, at the latest", (fault.stamp_s - began_s) * 1e3, None)
    servos.clear_fault(servos.faults[0].token)
    servos.connect(20.0)
    servos.arm()
    began_s = time.monotonic()
    threading.Timer(0.2, lambda: bus.dead([3])).start()
    bob(servos, 4.0)
    fault = told.wait("servo_silent", began_s + 0.19, "fault")
    assert "elbow_flex (id 3)" in fault.message
    took_ms = (fault.stamp_s - began_s - 0.2) * 1e3
    reaction(19, "dead servo: fault that names it (0.3 s of silence allowed here)", took_ms, BUDGET_S * 1e3 + 20.0)
    assert all(torque(bus))  # the others hold
    states = bus.servos()
    held = [abs(states[i]["goal"] - states[i]["position"]) for i in (1, 2, 4, 5)]
    reaction(19, "other joints: goal away from where they are", max(held), 30.0, unit="ticks", hard=True)


@pytest.mark.parametrize(
    ("code", "knob", "mend"),
    [
        ("servo_overload", lambda bus: bus.error(3, 32), lambda bus: bus.error(3, 0)),
        pytest.param(
            "servo_overheat",
            lambda bus: bus.temperature(3, 70),
            lambda bus: bus.temperature(3, 30),
            marks=pytest.mark.slow,
        ),
        pytest.param("servo_voltage", lambda b: b.voltage(4.0), lambda b: b.voltage(7.4), marks=pytest.mark.slow),
    ],
)
def test_20_servos_in_trouble_hold_with_less_torque_and_never_drop_the_arm(
    code: str, knob: Make, mend: Make, servos: ArmProcess, bus: ServoBus, reaction: Make, log: Make, until: Make
) -> None:
    told = log(servos)
    limits = {i: state["torque_limit"] for i, state in bus.servos().items()}
    began_s = time.monotonic()
    threading.Timer(0.5, lambda: knob(bus)).start()
    bob(servos, 5.0)
    fault = next(e for e in told.look() if e.kind == "fault")
    assert fault.code.startswith(code[:10])
    reaction(20, f"{fault.code}: fault", (fault.stamp_s - began_s - 0.5) * 1e3, 100.0)
    assert all(torque(bus))
    until(lambda: bus.servos()[3]["torque_limit"] < limits[3])
    height = servos.last_known().position_m[2]
    time.sleep(0.5)
    sunk_mm = max(0.0, float(height - servos.last_known().position_m[2]) * 1e3)
    reaction(20, f"{fault.code}: hand sank", sunk_mm, 5.0, unit="mm", hard=True)
    mend(bus)
    until(lambda: _cleared(servos))
    assert servos.mode is ArmMode.IDLE
    assert all(torque(bus))


def _cleared(arm: ArmProcess) -> bool:
    try:
        for fault in arm.faults:
            arm.clear_fault(fault.token)
    except DeviceError:
        return False
    return True


def test_21_a_pulled_cable_is_a_fault_and_another_arm_on_it_is_refused(
    servos: ArmProcess, bus: ServoBus, reaction: Make, log: Make
) -> None:
    told = log(servos)
    began_s = time.monotonic()
    threading.Timer(0.5, bus.unplug).start()
    bob(servos, 5.0)
    fault = told.wait("link_lost", began_s, "fault")
    reaction(21, "cable out: fault", (fault.stamp_s - began_s - 0.5) * 1e3, 100.0)
    assert all(torque(bus))
    servos.clear_fault(servos.faults[0].token)
    assert servos.mode is ArmMode.DISCONNECTED
    with pytest.raises(DeviceError, match="no such serial port"):
        servos.connect(5.0)
    bus.replug([ServoSpec(i) for i in (1, 2, 3)])
    with pytest.raises(DeviceError, match="servo"):
        servos.connect(5.0)
    assert servos.mode is ArmMode.DISCONNECTED
    bus.replug(SO101_SERVOS)
    servos.connect(20.0)
    assert servos.mode is ArmMode.IDLE


def test_the_way_to_rest_is_seen_and_a_stop_on_it_counts(
    servos: ArmProcess, bus: ServoBus, reaction: Make, log: Make, until: Make
) -> None:
    told, problem = log(servos), []
    bob(servos, 0.3)

    def disarm() -> None:
        try:
            servos.disarm()
        except DeviceError as error:
            problem.append(str(error))

    waiting = threading.Thread(target=disarm)
    begun = servos.last_known().q
    waiting.start()
    until(lambda: np.abs(servos.last_known().q - begun).max() > 0.1)
    age_s = time.monotonic() - servos.last_known().stamp_s
    stopped_s = time.monotonic()
    servos.stop()
    stayed = told.wait("rest_stopped", stopped_s - 0.05, "transition")
    waiting.join()
    reaction(16, "stop() on a servo arm's way to rest", (stayed.stamp_s - stopped_s) * 1e3, 20.0 + 8.0)
    assert age_s < 1.0
    assert "on its way to rest" in problem[0]
    time.sleep(0.3)
    where = servos.last_known().q
    time.sleep(0.5)
    assert np.abs(servos.last_known().q - where).max() < 0.02
    assert all(torque(bus))
    servos.arm()
    servos.disarm()
    assert not any(torque(bus))


# Grippers.


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("no activation", GripperResult.TIMEOUT),
        ("fault register", GripperResult.FAULT),
        ("jammed", GripperResult.TIMEOUT),
        ("object lost", GripperResult.LOST),
        ("half-closed socket", GripperResult.FAULT),
    ],
)
def test_22_what_becomes_of_a_grippers_command_is_a_typed_result(
    fault: str, result: GripperResult, reaction: Make, until: Make
) -> None:
    with RobotiqLoopback() as fingers:
        gripper = RobotiqGripper(*fingers.address, timeout_s=1.0)
        gripper.connect(5.0)
        try:
            if fault == "no activation":
                fingers.refuse_activation()
            began_s = time.monotonic()
            gripper.activate()
            if fault != "no activation":
                until(lambda: gripper.status.active)
                if fault == "object lost":
                    fingers.hold_object(120)
                    gripper.move(0.0)
                    until(lambda: gripper.status.result is GripperResult.GRASPED)
                began_s = time.monotonic()
                {
                    "fault register": lambda: fingers.set_fault(8),
                    "jammed": fingers.jam,
                    "object lost": lambda: fingers.hold_object(None),
                    "half-closed socket": fingers.mute,
                }[fault]()
                if fault == "jammed":
                    gripper.move(0.0)
            until(lambda: gripper.status.result is result)
            promised = 1200.0 if result is GripperResult.TIMEOUT or fault == "half-closed socket" else 300.0
            reaction(22, f"{fault}: {result}", (time.monotonic() - began_s) * 1e3, promised)
        finally:
            gripper.close()


@pytest.mark.slow
def test_22_a_gripper_in_trouble_holds_the_arm_and_never_blocks_its_loop(
    make_arm: Make, ur: URLoopback, reaction: Make, log: Make, lead: Make
) -> None:
    with RobotiqLoopback(host=ur.address, port=63352) as fingers:
        arm: ArmProcess = make_arm("UR", {"host": ur.address, "silence_s": 0.3, "gripper": "robotiq"})
        arm.connect(20.0)
        arm.arm()
        told, motion = log(arm), lead(arm)
        cycles = arm.lateness().cycles
        began_s = time.monotonic()
        fingers.set_fault(8)
        held = told.wait("gripper_fault", began_s - 0.05, "transition")
        reaction(22, "gripper fault while the arm moves: hold", (held.stamp_s - began_s) * 1e3, 100.0)
        fingers.mute()
        time.sleep(1.0)
        seconds = time.monotonic() - began_s
        share = (arm.lateness().cycles - cycles) / (125.0 * seconds)
        motion.end()
        reaction(22, "cycles missed while the gripper is silent", max(0.0, (1 - share) * 100), 5.0, unit="%")
        assert arm.mode is ArmMode.HOLD
