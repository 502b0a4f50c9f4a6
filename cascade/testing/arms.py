"""Conformance of arm drivers: what the arm process relies on, tried on the device, or on its emulated controller."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.driver import ArmDriver, DriverInfo, Reading, Safety, Takes
from cascade.contracts.errors import CascadeError, DeviceError
from cascade.testing.requirement import require, require_members

Floats = NDArray[np.float64]

DRIVER = ("info", "connect", "arm", "read", "send", "halt", "recover", "disarm", "close")
CONNECT_S = 10.0
STILL_RAD, STILL_M = 0.02, 0.005
LIFT_M, TURN_RAD = 0.01, 0.05
MOVE_S, SETTLE_S = 1.0, 2.0
HICCUP_S = 0.5  # a busy machine may hold everything up for so long


def check_arm_driver(factory: Callable[[], ArmDriver], *, motion: bool = True) -> None:
    """Check that an arm driver keeps the contract of `cascade.contracts.driver`.

    With `motion` the arm moves 1 cm up, or its last joint by 3 degrees, and back: on a real arm clear the space and
    have the emergency stop in hand.

    Args:
        factory: makes a driver that is not connected; called three times.
        motion: also arm it and move.

    Raises:
        PluginError: what the contract wants, what was found, what to change.
        DeviceError: the device cannot be connected.
    """
    _check_unconnected(factory())
    driver = factory()
    try:
        driver.connect(CONNECT_S)
        first = _check_readings(driver)
        if motion:
            _check_armed(driver, first)
            _check_motion(driver)
            _check_halt(driver)
            driver.disarm()
            driver.disarm()
            _check_read(driver, "read() after disarm()")
    finally:
        driver.close()
    _quietly("close() after close()", driver.close)
    _check_closed(driver)
    again = factory()
    try:
        again.connect(CONNECT_S)
        _check_read(again, "read() of a second driver after the first was closed")
    finally:
        again.close()


def _check_unconnected(driver: ArmDriver) -> None:
    require_members(driver, DRIVER, "ArmDriver")
    info = driver.info
    require(isinstance(info, DriverInfo), f"info: expected DriverInfo, found {type(info).__name__}.")
    joints = len(info.joint_names)
    require(joints > 0 and len(set(info.joint_names)) == joints, "info.joint_names: expected names, each once.")
    found = len(info.joint_limits.lower_rad)
    require(found == joints, f"info.joint_limits: expected {joints} joints, found {found}.")
    require(0 < info.slowest_hz <= info.rate_hz, "info: expected 0 < slowest_hz <= rate_hz.")
    require(
        info.takes is Takes.POSE or info.kinematics is not None,
        "info.kinematics: expected a model for a device that takes joints, found none.",
        "Name a model of robot_io.process.models.",
    )
    if info.rest_q is not None:
        require(len(info.rest_q) == joints, f"info.rest_q: expected {joints} joints, found {len(info.rest_q)}.")
    _quietly("halt() before connect()", driver.halt)
    _quietly("close() before connect()", driver.close)


def _check_readings(driver: ArmDriver) -> Reading:
    first = _check_read(driver, "read() after connect()")
    info, low, high = driver.info, driver.info.joint_limits.lower_rad, driver.info.joint_limits.upper_rad
    inside = np.all(first.q > low - 0.1) and np.all(first.q < high + 0.1)
    require(bool(inside), f"read(): expected joints within their limits, found {np.round(first.q, 2).tolist()} rad.")
    if info.has_gripper:
        require(first.gripper_opening is not None, "read(): expected a gripper opening (info.has_gripper).")
    last = first
    deadline = time.monotonic() + 2.0
    while last.t_dev_s <= first.t_dev_s and time.monotonic() < deadline:
        time.sleep(1.0 / info.rate_hz)
        last = _check_read(driver, "read()")
    require(
        last.t_dev_s > first.t_dev_s,
        f"read(): expected the device's clock to advance, found it at {first.t_dev_s} for 2 s.",
        "Put the controller's own time into t_dev_s, so that frozen data is told from fresh.",
    )
    _require_still(first, last, "before it is armed")
    return last


def _check_armed(driver: ArmDriver, before: Reading) -> None:
    held = _setpoint(driver, before)  # before arming: from then on a watchdog may run
    driver.arm()
    deadline = time.monotonic() + 5.0
    reading = _check_read(driver, "read() after arm()")
    while not reading.running and not reading.faults and time.monotonic() < deadline:
        time.sleep(0.2 / driver.info.rate_hz)
        reading = _check_read(driver, "read() after arm()")
    require(reading.running, f"arm(): expected the device to take setpoints, found it does not{_why(reading)}.")
    safe = reading.safety in (Safety.NORMAL, Safety.REDUCED)
    require(safe, f"arm(): expected a normal safety state, found {reading.safety.value}.")
    _stream(driver, held, held, 0.5)
    _require_still(before, _check_read(driver, "read()"), "on setpoints where it stands")


def _check_motion(driver: ArmDriver) -> None:
    start = _check_read(driver, "read()")
    here = _setpoint(driver, start)
    driver.send(here, None)
    there = here.copy()
    if driver.info.takes is Takes.POSE:
        there[2] += LIFT_M
    else:
        limits = driver.info.joint_limits
        up = start.q[-1] + 2 * TURN_RAD < limits.upper_rad[-1]
        there[-1] += TURN_RAD if up else -TURN_RAD
    _stream(driver, here, there, MOVE_S)
    way, left = _apart(driver, here, there), _apart(driver, _settled(driver, there), there)
    require(
        left < 0.4 * way,
        f"send(): expected the arm to follow a slow ramp, found it {left:.4f} of {way:.4f} short (m or rad).",
        "Setpoints are absolute, xyz + quaternion wxyz or joint angles, in SI units.",
    )
    _stream(driver, there, here, MOVE_S)
    _settled(driver, here)


def _check_halt(driver: ArmDriver) -> None:
    _quietly("halt()", driver.halt)
    deadline = time.monotonic() + SETTLE_S
    reading = _check_read(driver, "read() after halt()")
    while float(np.abs(reading.qd).max()) > 0.02 and time.monotonic() < deadline:
        time.sleep(1.0 / driver.info.rate_hz)
        reading = _check_read(driver, "read() after halt()")
    speed = float(np.abs(reading.qd).max())
    require(speed <= 0.02, f"halt(): expected the arm to stand within {SETTLE_S:.0f} s, found {speed:.3f} rad/s.")


def _check_closed(driver: ArmDriver) -> None:
    try:
        driver.read()
    except DeviceError:
        return
    except Exception as error:
        require(False, f"read() after close(): expected DeviceError, found {type(error).__name__}: {error}.")
    require(False, "read() after close(): expected DeviceError, found a reading.", "Old data must not look fresh.")


def _check_read(driver: ArmDriver, where: str) -> Reading:
    try:
        reading = driver.read()
    except CascadeError:
        raise
    except Exception as error:
        require(False, f"{where}: expected a Reading or a DeviceError, found {type(error).__name__}: {error}.")
        raise
    require(isinstance(reading, Reading), f"{where}: expected Reading, found {type(reading).__name__}.")
    joints = len(driver.info.joint_names)
    for name in ("q", "qd"):
        value = np.asarray(getattr(reading, name))
        shaped = value.shape == (joints,) and bool(np.isfinite(value).all())
        require(shaped, f"{where}: expected {name} of {joints} finite numbers, found shape {value.shape}.")
    if driver.info.kinematics is None:
        require(reading.T_base_ee is not None, f"{where}: expected T_base_ee of a device without a kinematic model.")
    if reading.T_base_ee is not None:
        R = np.asarray(reading.T_base_ee)[:3, :3]
        require(
            bool(np.allclose(R @ R.T, np.eye(3), atol=1e-6)) and float(np.linalg.det(R)) > 0,
            f"{where}: expected a rotation in T_base_ee.",
            "It is a (4, 4) pose [m], not a rotation vector.",
        )
    opening = reading.gripper_opening
    require(
        opening is None or -1e-6 <= opening <= 1 + 1e-6,
        f"{where}: expected a gripper opening of 0 (closed) to 1 (open), found {opening}.",
    )
    if reading.wrench is not None:
        require(np.asarray(reading.wrench).shape == (6,), f"{where}: expected a wrench of 6 numbers.")
    return reading


def _setpoint(driver: ArmDriver, reading: Reading) -> Floats:
    if driver.info.takes is Takes.JOINTS:
        return np.array(reading.q, dtype=np.float64)
    if reading.T_base_ee is None:
        require(False, "read(): expected T_base_ee of a device that takes poses.")
        raise AssertionError("unreachable")
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(reading.T_base_ee[:3, :3]).as_quat()
    return np.concatenate([reading.T_base_ee[:3, 3], [w, x, y, z]])


def _stream(driver: ArmDriver, start: Floats, end: Floats, seconds: float) -> None:
    steps, taken_s = max(1, round(seconds * driver.info.rate_hz)), time.monotonic()
    for index in range(steps):
        began = time.monotonic()
        share = (index + 1) / steps
        gripper = 1.0 if index == 0 and driver.info.has_gripper else None
        driver.send(start + (3 * share**2 - 2 * share**3) * (end - start), gripper)
        reading = _check_read(driver, "read() between setpoints")
        taken_s = time.monotonic() if reading.running else taken_s
        stopped = any(fault.latches for fault in reading.faults) or time.monotonic() - taken_s > HICCUP_S
        require(
            not stopped,
            f"send(): expected the device to go on taking setpoints, found that it stopped{_why(reading)}",
        )
        time.sleep(max(0.0, 1.0 / driver.info.rate_hz - (time.monotonic() - began)))


def _settled(driver: ArmDriver, goal: Floats) -> Floats:
    """Hold a goal until the arm is near it or time is over; returns where it is."""
    deadline = time.monotonic() + SETTLE_S
    here = _setpoint(driver, _check_read(driver, "read()"))
    while _apart(driver, here, goal) > 0.002 and time.monotonic() < deadline:
        driver.send(goal, None)
        time.sleep(1.0 / driver.info.rate_hz)
        here = _setpoint(driver, _check_read(driver, "read()"))
    return here


def _why(reading: Reading) -> str:
    return "".join(f"; {fault.code}: {fault.message}" for fault in reading.faults)


def _apart(driver: ArmDriver, a: Floats, b: Floats) -> float:
    count = 3 if driver.info.takes is Takes.POSE else len(a)
    return float(np.linalg.norm(a[:count] - b[:count]))


def _require_still(before: Reading, after: Reading, when: str) -> None:
    turned = float(np.abs(after.q - before.q).max())
    require(turned < STILL_RAD, f"expected the arm to stand still {when}, found a joint turned by {turned:.3f} rad.")
    if before.T_base_ee is not None and after.T_base_ee is not None:
        moved = float(np.linalg.norm(after.T_base_ee[:3, 3] - before.T_base_ee[:3, 3]))
        require(moved < STILL_M, f"expected the arm to stand still {when}, found it moved by {moved:.4f} m.")


def _quietly(what: str, call: Callable[[], None]) -> None:
    try:
        call()
    except Exception as error:
        require(False, f"{what}: expected it not to raise, found {type(error).__name__}: {error}.")
