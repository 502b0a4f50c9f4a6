"""Checks that the arm on a serial port is the one that was calibrated."""

from __future__ import annotations

import time

from cascade.contracts.errors import DeviceError
from robot_io.arms import feetech_registers as reg
from robot_io.arms.feetech_bus import FeetechBus
from robot_io.arms.feetech_calibration_file import ServoCalibration


def check_identity(bus: FeetechBus, calibration: ServoCalibration, deadline_s: float) -> bool:
    """Check ids, models and homing offsets, which together name one arm.

    Args:
        bus: open.
        calibration: what should be there.
        deadline_s: monotonic time by which the check must be done.

    Returns:
        Whether any servo has torque on.

    Raises:
        DeviceError: naming the servo that is missing, foreign or calibrated otherwise.
    """
    check_models(bus, calibration.ids, deadline_s)
    torque = False
    for servo, expected in calibration.offsets.items():
        _in_time(bus, deadline_s)
        raw = int.from_bytes(bus.read(servo, reg.OFFSET, 2).data, "little")
        found = reg.signed(raw, 11)
        if found != expected:
            raise DeviceError(
                f"{calibration.name(servo)} (servo id {servo}): expected the homing offset {expected} of the "
                f"calibration, found {found}: another arm, or one that was calibrated since.",
                "Name the calibration of this arm, or calibrate it again: cascade calibrate servos.",
            )
        torque = torque or bus.read(servo, reg.TORQUE_ENABLE, 1).data != b"\x00"
    return torque


def check_models(bus: FeetechBus, ids: tuple[int, ...], deadline_s: float) -> None:
    """Check that servos of the right model answer at these ids; raises DeviceError naming those that do not."""
    missing = tuple(servo for servo in ids if servo not in bus.present([servo]))
    if len(missing) == len(ids):
        raise DeviceError(
            f"{bus.port}: expected servos {', '.join(map(str, ids))}, found none that answers.",
            "Switch the arm's power on; check that this is the arm's port and the cable to the first servo.",
        )
    if missing:
        raise bus.silent(missing)
    for servo in ids:
        _in_time(bus, deadline_s)
        found = int.from_bytes(bus.read(servo, reg.MODEL, 2).data, "little")
        if found != reg.STS3215_MODEL:
            raise DeviceError(
                f"servo id {servo} on {bus.port}: expected model {reg.STS3215_MODEL} (STS3215), found {found}.",
                "This is another device: name the arm's own serial port.",
            )


def _in_time(bus: FeetechBus, deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise DeviceError(f"{bus.port}: the servos answered too slowly to be checked in time.", "Check the cable.")
