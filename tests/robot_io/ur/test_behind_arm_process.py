"""The driver where it belongs, behind the arm process: what a caller sees of a UR."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cascade.contracts import ArmMode, DeviceError, Limits
from robot_io.loopback.ur import URLoopback
from robot_io.process.arm_process import ArmProcess

pytest.importorskip("rtde_control")
Until = Callable[..., Any]

LIMITS = Limits(
    workspace_m=np.array([[-0.9, -0.6, 0.0], [0.9, 0.6, 1.0]]),
    max_speed_m_s=0.25,
    max_acceleration_m_s2=1.0,
    max_jerk_m_s3=10.0,
    max_step_m=0.1,
    max_rotation_rad=0.3,
    max_tracking_error_m=0.1,
)


@pytest.fixture
def arm(loopback: URLoopback) -> Iterator[ArmProcess]:
    made = ArmProcess("robot_io.arms.plugins:UR", {"host": loopback.address, "silence_s": 0.5}, LIMITS)
    made.connect()
    yield made
    made.close()


def lift(arm: ArmProcess, rise_m: float, seconds: float) -> None:
    """Lead the arm upwards."""
    start = arm.read().T_base_ee[:3, 3]
    steps = round(seconds / 0.02)
    for step in range(1, steps + 1):
        target = np.array([*start, 0.0, 0.70710678, 0.70710678, 0.0])
        target[2] += rise_m * step / steps
        arm.send_checked(target, 1.0)  # a busy machine may hold the arm for a cycle: the next target counts
        time.sleep(0.02)


def test_targets_move_the_arm_inside_its_limits(arm: ArmProcess, loopback: URLoopback, until: Until) -> None:
    assert arm.mode is ArmMode.IDLE
    arm.arm()
    before = loopback.state()["pose"][2]
    lift(arm, 0.06, 1.0)
    until(lambda: loopback.state()["pose"][2] - before > 0.04)
    sent = np.array([values[:3] for _, _, values in loopback.setpoints()])
    assert np.linalg.norm(np.diff(sent, axis=0), axis=1).max() <= 0.25 / 125 * 1.01
    assert arm.read().wrench is not None
    arm.disarm()
    assert loopback.state()["runtime_state"] == 1


@pytest.mark.parametrize("knob", ["cut", "mute"])
def test_a_lost_link_ends_the_process_and_connecting_again_leads_to_idle_only(
    arm: ArmProcess, loopback: URLoopback, until: Until, knob: str
) -> None:
    arm.arm()
    begun = time.monotonic()
    getattr(loopback, knob)()
    until(lambda: arm.mode is ArmMode.FAULT)
    print(f"{knob}: fault after {(time.monotonic() - begun) * 1e3:.0f} ms")
    until(lambda: "link_lost" in [fault.code for fault in arm.faults])  # a clock that stands still may show first
    loopback.mute(False)
    until(lambda: loopback.state()["runtime_state"] == 1)
    until(lambda: loopback.state()["clients"] == 0)  # the process is gone, with all its connections
    arm.clear_fault(arm.faults[0].token)
    assert arm.mode is ArmMode.DISCONNECTED
    arm.connect()
    assert arm.mode is ArmMode.IDLE
    assert loopback.state()["runtime_state"] == 1


def test_a_protective_stop_latches_and_early_clearing_is_refused(
    arm: ArmProcess, loopback: URLoopback, until: Until
) -> None:
    arm.arm()
    loopback.protective_stop()
    until(lambda: arm.mode is ArmMode.FAULT)
    (fault,) = arm.faults
    assert fault.code == "protective_stop"
    with pytest.raises(DeviceError, match="5 s since the protective stop"):
        arm.clear_fault(fault.token)
    assert arm.mode is ArmMode.FAULT


def test_nothing_moves_when_a_safeguard_closes_again(arm: ArmProcess, loopback: URLoopback, until: Until) -> None:
    arm.arm()
    lift(arm, 0.1, 0.5)
    loopback.safeguard_stop(True)
    until(lambda: arm.mode is ArmMode.HOLD)
    until(lambda: np.allclose(loopback.state()["qd"], 0))
    where = np.array(loopback.state()["pose"])
    loopback.safeguard_stop(False)
    time.sleep(0.3)
    assert np.linalg.norm(np.array(loopback.state()["pose"]) - where) < 0.012
    assert {fault.code for fault in arm.faults} <= {"safeguard_resume"}
