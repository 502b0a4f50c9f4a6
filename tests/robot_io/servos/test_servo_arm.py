from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import ArmMode, Limits
from robot_io.loopback.servo_bus import SO101_SERVOS, ServoBus
from robot_io.process.arm_process import ArmProcess
from robot_io.process.settings import ProcessSettings

READY_Q = (0.0, -0.6, 0.6, 0.8, 0.0)
LIMITS = Limits(
    workspace_m=np.array([[-0.6, -0.6, -0.2], [0.6, 0.6, 0.8]]),
    max_speed_m_s=0.25,
    max_acceleration_m_s2=1.0,
    max_jerk_m_s3=10.0,
    max_step_m=0.3,
    max_rotation_rad=0.3,
    tracking_error_s=0.3,
)


@pytest.fixture
def moving(bus: ServoBus, calibration_file: Path) -> Iterator[ArmProcess]:
    """An SO-101 in its process, on its way four centimetres up."""
    for servo, angle in zip(SO101_SERVOS, READY_Q, strict=False):
        bus.by_hand(servo.id, 2048 + angle * 4096 / (2 * np.pi))
    options = {"port": bus.address, "calibration": str(calibration_file), "bus_budget_s": 0.4, "rest_speed_rad_s": 1.0}
    settings = ProcessSettings(ttl_s=0.5, caller_s=5.0)
    arm = ArmProcess("robot_io.arms.plugins:FEETECH", options, LIMITS, settings=settings)
    arm.connect(20.0)
    arm.arm()
    yield arm
    arm.close()


def drive_up(arm: ArmProcess, height_m: float = 0.04) -> tuple[float, float]:
    """Stream a target above the hand for a while; return the height before and after."""
    before = arm.read(max_age_s=2.0)
    w, x, y, z = _quaternion(before.T_base_ee[:3, :3])
    across, along, up = before.position_m
    target = np.array([across, along, up + height_m, w, x, y, z])
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        arm.send(target, 0.5)
        time.sleep(0.02)
    return float(before.position_m[2]), float(arm.read(max_age_s=2.0).position_m[2])


def _quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return w, x, y, z


def wait_for(arm: ArmProcess, mode: ArmMode, timeout_s: float = 3.0) -> bool:
    until = time.monotonic() + timeout_s
    while arm.mode is not mode and time.monotonic() < until:
        time.sleep(0.002)
    return arm.mode is mode


def test_a_servo_arm_moves_its_hand_and_disarms_in_its_resting_pose(moving: ArmProcess, bus: ServoBus) -> None:
    before, after = drive_up(moving)
    assert after - before == pytest.approx(0.04, abs=0.004)
    assert len(bus.goals()) > 100
    moving.disarm()
    assert wait_for(moving, ArmMode.IDLE, 15.0)
    states = bus.servos()
    assert not any(state["torque_on"] for state in states.values())
    assert states[2]["position"] == pytest.approx(2048 - 1.62 * 4096 / (2 * np.pi), abs=45)


def test_a_pulled_cable_becomes_a_fault_and_the_servos_hold(moving: ArmProcess, bus: ServoBus) -> None:
    bus.unplug()
    assert wait_for(moving, ArmMode.FAULT)
    assert moving.faults[-1].code == "link_lost"
    assert all(state["torque_on"] for state in bus.servos().values())


def test_an_overload_latches_and_is_cleared_by_its_token_alone(moving: ArmProcess, bus: ServoBus) -> None:
    bus.error(3, 32)
    assert wait_for(moving, ArmMode.FAULT)
    fault = moving.faults[-1]
    assert fault.code == "servo_overload"
    assert "elbow_flex" in fault.message
    assert all(state["torque_on"] for state in bus.servos().values())
    bus.error(3, 0)
    moving.clear_fault(fault.token)
    assert wait_for(moving, ArmMode.IDLE)
