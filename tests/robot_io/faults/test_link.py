"""Faults 1 to 12: caller, process, link and controller, on an emulated UR with the vendor's client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cascade.contracts import ArmMode, DeviceError
from robot_io.loopback.ur import URLoopback
from robot_io.process.arm_process import ArmProcess

# At 0.25 m/s, 1 m/s^2 and 10 m/s^3: 27 mm while the target lives and a cycle, 44 mm of braking inside the arm's own
# limits, 25 mm that the controller's look-ahead of 0.1 s is behind. When the process is gone, the controller brakes.
WORST_MM = 96.0
Make = Callable[..., Any]


@pytest.fixture
def arm(make_arm: Make, ur: URLoopback) -> ArmProcess:
    made: ArmProcess = make_arm("UR", {"host": ur.address, "silence_s": 0.3})
    made.connect(20.0)
    made.arm()
    return made


def stands(loopback: URLoopback) -> bool:
    return bool(np.allclose(loopback.state()["qd"], 0, atol=1e-4))


def test_01_a_caller_that_falls_silent_ends_in_a_hold_and_nothing_replays(
    arm: ArmProcess, ur: URLoopback, reaction: Make, lead: Make, log: Make, until: Make, travel_mm: Make
) -> None:
    told = log(arm)
    motion = lead(arm)
    last_s = motion.end()
    held = told.wait("ttl", last_s)
    reaction(1, "braking begins after the last target (100 ms to live, 1 cycle)", (held.stamp_s - last_s) * 1e3, 108.0)
    until(lambda: stands(ur))
    reaction(1, "way after the last target", travel_mm(ur, last_s), WORST_MM, unit="mm", hard=True)
    where = np.array(ur.state()["pose"])
    time.sleep(0.4)
    assert np.allclose(ur.state()["pose"], where, atol=1e-4)
    assert arm.mode is ArmMode.HOLD


CALLER = """
import sys, time
import numpy as np
from cascade.contracts import Limits
from robot_io.process.arm_process import ArmProcess
from robot_io.process.poses import pose_of
limits = Limits(workspace_m=np.array([[-0.9, -0.6, 0.0], [0.9, 0.6, 1.0]]), max_speed_m_s=0.25, max_step_m=0.3,
    max_acceleration_m_s2=1.0, max_jerk_m_s3=10.0, max_rotation_rad=0.3, max_tracking_error_m=0.1)
arm = ArmProcess("robot_io.arms.plugins:UR", {"host": sys.argv[1], "silence_s": 0.3}, limits)
arm.connect(20.0)
arm.arm()
target = pose_of(arm.read(max_age_s=5.0).T_base_ee)
target[2] += 0.25
while True:
    arm.send_checked(target, 1.0)
    twist = arm.last_known().twist
    if twist is not None and np.linalg.norm(twist) > 0.15:
        print(arm.pid, flush=True)
    time.sleep(0.02)
"""


@pytest.mark.slow
def test_02_a_caller_that_is_killed_leaves_an_arm_that_stops(
    ur: URLoopback, reaction: Make, until: Make, travel_mm: Make
) -> None:
    with subprocess.Popen([sys.executable, "-c", CALLER, ur.address], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        child = int(caller.stdout.readline())
        killed_s = time.monotonic()
        caller.kill()
        caller.wait()
    until(lambda: stands(ur))
    reaction(2, "way after the caller was killed", travel_mm(ur, killed_s), WORST_MM, unit="mm", hard=True)
    until(lambda: ur.state()["runtime_state"] == 1)
    until(lambda: not _alive(child))
    reaction(2, "arm process has let go and ended", (time.monotonic() - killed_s) * 1e3, 3000.0)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.slow)])
def test_03_a_driver_that_dies_is_a_fault_and_the_controller_stops_by_itself(
    number: signal.Signals, make_arm: Make, reaction: Make, lead: Make, log: Make, until: Make, travel_mm: Make
) -> None:
    pytest.importorskip("rtde_control")
    with URLoopback("ur5e") as strict:  # the watchdog of a real controller, no patience
        arm: ArmProcess = make_arm("UR", {"host": strict.address, "silence_s": 0.3})
        arm.connect(20.0)
        for _ in range(5):  # this machine may be late by 40 ms: then the watchdog is right, and we begin again
            if arm.mode is ArmMode.FAULT:
                arm.clear_fault(arm.faults[0].token)
                arm.connect(20.0)
            try:
                arm.arm()
                motion = lead(arm)
                break
            except (AssertionError, DeviceError):
                continue
        told = log(arm)
        assert arm.pid is not None
        killed_s = time.monotonic()
        os.kill(arm.pid, number)
        died = told.wait("driver_died")
        until(lambda: any("watchdog" in text for t, text in strict.state()["events"] if t > killed_s))
        ended_s = next(t for t, text in strict.state()["events"] if t > killed_s and "watchdog" in text)
        motion.end()
        name = number.name
        reaction(3, f"{name}: the controller ends its program", (ended_s - killed_s) * 1e3, 42.0)
        reaction(3, f"{name}: fault driver_died", (died.stamp_s - killed_s) * 1e3, 100.0)
        until(lambda: stands(strict))
        reaction(3, f"{name}: way after the death", travel_mm(strict, killed_s), WORST_MM, unit="mm", hard=True)
        with pytest.raises(DeviceError):
            arm.arm()
        arm.clear_fault(arm.faults[0].token)
        assert arm.mode is ArmMode.DISCONNECTED


@pytest.mark.parametrize(("number", "knob"), [(4, "cut"), (5, "mute")])
def test_04_05_a_lost_link_is_a_fault_and_connecting_again_leads_to_idle_only(
    number: int, knob: str, make_arm: Make, ur: URLoopback, reaction: Make, lead: Make, log: Make, until: Make
) -> None:
    arm: ArmProcess = make_arm("UR", {"host": ur.address})  # counts 32 ms of silence as lost, as on a real table
    for _ in range(5):  # the emulation may be silent for as long without being told to
        try:
            arm.connect(20.0)
            arm.arm()
            motion = lead(arm)
            break
        except (AssertionError, DeviceError):
            arm.close()
    told, pid = log(arm), arm.pid
    told.look()
    lost_s = time.monotonic()
    getattr(ur, knob)()
    fault = told.wait("link_lost", lost_s - 0.05, "fault")
    motion.end()
    reaction(number, f"{knob}: fault link_lost", (fault.stamp_s - lost_s) * 1e3, 50.0)
    until(lambda: not _alive(pid))
    reaction(number, f"{knob}: the process, and ur_rtde with it, is gone", (time.monotonic() - lost_s) * 1e3, 500.0)
    ur.mute(False)
    until(lambda: ur.state()["runtime_state"] == 1)
    assert sum(text == "program uploaded" for _, text in ur.state()["events"]) >= 1
    uploads = sum(text == "program uploaded" for _, text in ur.state()["events"])
    arm.clear_fault(arm.faults[0].token)
    arm.connect(20.0)
    assert arm.mode is ArmMode.IDLE
    time.sleep(0.3)
    assert sum(text == "program uploaded" for _, text in ur.state()["events"]) == uploads
    assert stands(ur)


def test_06_a_controller_that_accepts_and_stays_silent_is_given_up_in_time(
    make_arm: Make, ur: URLoopback, reaction: Make
) -> None:
    ur.half_open([30004])
    arm: ArmProcess = make_arm("UR", {"host": ur.address})
    gaps, ended = [0.0], threading.Event()

    def breathe() -> None:
        before = time.monotonic()
        while not ended.is_set():
            time.sleep(0.005)
            now = time.monotonic()
            gaps.append(now - before - 0.005)
            before = now

    other = threading.Thread(target=breathe)
    arm.start(5.0)  # loading the driver's library is not waiting for the controller
    other.start()
    time.sleep(0.1)
    began_s = time.monotonic()
    with pytest.raises(DeviceError, match=r"30004.*found silence"):
        arm.connect(5.0)
    took_ms = (time.monotonic() - began_s) * 1e3
    ended.set()
    other.join()
    reaction(6, "connecting ends with the port named, library loaded meanwhile", took_ms, 5000.0)
    reaction(6, "longest stall of another thread of the caller", max(gaps) * 1e3, 100.0)
    assert arm.mode is ArmMode.DISCONNECTED


@pytest.mark.parametrize(
    ("knob", "with_", "match"),
    [
        ("close_ports", [[30004]], "30004 .RTDE.*Settings > Security > Services"),
        pytest.param("close_ports", [[30003, 30004]], "3000[34].*Services", marks=pytest.mark.slow),
        pytest.param("local_mode", [], "local control.*Remote Control", marks=pytest.mark.slow),
    ],
)
def test_07_what_is_missing_is_named(
    knob: str, with_: list[Any], match: str, make_arm: Make, ur: URLoopback, reaction: Make
) -> None:
    getattr(ur, knob)(*with_)
    arm: ArmProcess = make_arm("UR", {"host": ur.address})
    began_s = time.monotonic()
    with pytest.raises(DeviceError, match=match):
        arm.connect(5.0)
    reaction(7, f"{knob} {with_ or ''}: told, with starting a process".strip(), (time.monotonic() - began_s) * 1e3, 5e3)


@pytest.mark.slow
def test_08_a_protective_stop_latches_and_motion_begins_anew_from_where_the_arm_is(
    arm: ArmProcess, ur: URLoopback, reaction: Make, lead: Make, log: Make, until: Make
) -> None:
    told, motion = log(arm), lead(arm)
    stopped_s = time.monotonic()
    ur.protective_stop()
    fault = told.wait("protective_stop", stopped_s - 0.05, "fault")
    motion.end()
    reaction(8, "fault, targets dropped", (fault.stamp_s - stopped_s) * 1e3, 20.0)
    with pytest.raises(DeviceError, match="5 s since the protective stop"):
        arm.clear_fault(arm.faults[0].token)
    with pytest.raises(DeviceError, match="token"):
        arm.clear_fault("wrong")
    until(lambda: stands(ur))
    where = np.array(ur.state()["pose"])
    time.sleep(5.2)
    arm.clear_fault(arm.faults[0].token)
    assert arm.mode is ArmMode.IDLE
    arm.arm()
    time.sleep(0.5)
    moved_mm = float(np.linalg.norm(np.array(ur.state()["pose"])[:3] - where[:3]) * 1e3)
    reaction(8, "way by itself after clearing and arming", moved_mm, 1.0, unit="mm", hard=True)
    assert told.faults() == ["protective_stop"]


def test_09_every_stop_has_a_code_of_its_own(
    arm: ArmProcess, ur: URLoopback, reaction: Make, lead: Make, log: Make, until: Make
) -> None:
    told, motion = log(arm), lead(arm, to_m=0.25)
    ur.reduced_mode()
    reduced = told.wait("reduced")
    assert reduced.kind == "warning"
    ur.reduced_mode(False)
    began_s = time.monotonic()
    ur.safeguard_stop(True)
    held = told.wait("safeguard_stop", began_s - 0.05)
    motion.end()
    reaction(9, "safeguard: hold", (held.stamp_s - began_s) * 1e3, 20.0)
    assert arm.mode is ArmMode.HOLD
    ur.safeguard_stop(False)
    until(lambda: ur.state()["runtime_state"] == 2)
    for knob in ("violation", "fault"):
        began_s = time.monotonic()
        getattr(ur, knob)(True)
        fault = told.wait(knob, began_s - 0.05, "fault")
        reaction(9, f"{knob}: fault", (fault.stamp_s - began_s) * 1e3, 20.0)
        with pytest.raises(DeviceError):
            arm.clear_fault(arm.faults[0].token)  # only a person at the controller ends it
        getattr(ur, knob)(False)
        ur.power(True)
        until(lambda: _cleared(arm))
        arm.arm()
    assert told.faults() == ["violation", "fault"]


def _cleared(arm: ArmProcess) -> bool:
    try:
        arm.clear_fault(arm.faults[0].token)
    except DeviceError:
        return False
    return True


def test_10_an_emergency_stop_is_left_only_by_hand_and_by_connecting_anew(
    arm: ArmProcess, ur: URLoopback, reaction: Make, lead: Make, log: Make, until: Make
) -> None:
    told, motion = log(arm), lead(arm)
    pressed_s = time.monotonic()
    ur.emergency_stop(True)
    stopped = told.wait("estop", pressed_s - 0.05, "fault")
    motion.end()
    reaction(10, "ESTOP, latched", (stopped.stamp_s - pressed_s) * 1e3, 20.0)
    assert arm.mode is ArmMode.ESTOP
    found: list[str] = []
    again = threading.Thread(target=lambda: found.append(arm.send_checked(motion.target, 1.0).code))
    again.start()
    again.join()
    assert found in (["estop"], ["wrong_thread"])
    ur.emergency_stop(False)
    ur.power(True)
    for refused in (lambda: arm.clear_fault(arm.faults[0].token), arm.arm):
        with pytest.raises(DeviceError):
            refused()
    assert arm.mode is ArmMode.ESTOP
    arm.close()
    arm.connect(20.0)
    assert arm.mode is ArmMode.IDLE
    arm.arm()
    assert arm.mode is ArmMode.ARMED


def test_11_a_controller_that_finds_no_way_ends_its_program_and_that_is_a_fault(
    arm: ArmProcess, ur: URLoopback, reaction: Make, lead: Make, log: Make
) -> None:
    told, motion = log(arm), lead(arm)
    began_s = time.monotonic()
    ur.no_inverse(True)
    fault = told.wait("program_stopped", began_s - 0.05, "fault")
    motion.end()
    reaction(11, "the controller halts its program: fault", (fault.stamp_s - began_s) * 1e3, 50.0)
    ur.no_inverse(False)
    arm.clear_fault(fault.code and arm.faults[0].token)
    assert arm.mode is ArmMode.IDLE


def test_12_a_clock_that_stands_still_while_the_link_lives_stops_the_arm(
    arm: ArmProcess, ur: URLoopback, reaction: Make, lead: Make, log: Make, until: Make, travel_mm: Make
) -> None:
    told, motion = log(arm), lead(arm)
    frozen_s = time.monotonic()
    ur.freeze_timestamp()
    held = told.wait("stale_state", frozen_s - 0.05)  # the first line: it may have been held for its caller before
    fault = told.wait("stale_state", frozen_s - 0.05, "fault")
    motion.end()
    reaction(12, "hold after 50 ms without a new time", (held.stamp_s - frozen_s) * 1e3, 50.0 + 16.0)
    reaction(12, "fault after 200 ms", (fault.stamp_s - frozen_s) * 1e3, 200.0 + 16.0)
    until(lambda: stands(ur))
    reaction(12, "way after the clock froze", travel_mm(ur, frozen_s), WORST_MM, unit="mm", hard=True)
    ur.freeze_timestamp(False)
    until(lambda: _cleared(arm))
    assert arm.mode is ArmMode.IDLE
