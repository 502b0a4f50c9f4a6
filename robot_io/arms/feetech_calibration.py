"""Measures a servo arm: its joints are moved by hand to both ends, the file of its calibration is written.

Each servo first gets a homing offset that puts the middle of its range in the middle of its encoder: otherwise the
range may straddle the encoder's jump from 4095 to 0, which a position servo cannot cross.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from cascade.contracts.errors import DataError, DeviceError
from robot_io.arms import feetech_registers as reg
from robot_io.arms.feetech_bus import FeetechBus
from robot_io.arms.feetech_calibration_file import (
    GripperCalibration,
    JointCalibration,
    ServoCalibration,
    save_calibration,
)
from robot_io.arms.feetech_identity import check_models
from robot_io.process.models import arm_model

FULL_TURN = ("wrist_roll",)
"""Joints without ends that a hand can feel: their middle counts, their range is the model's."""

_MIDDLE = reg.TICKS_PER_TURN // 2
_LARGEST_OFFSET = 2047
_LONGEST_STEP = 1000  # ticks between samples: more is the encoder's jump, or a hand too fast to follow
_LEAST_SHARE = 0.75  # of the model's range, which printed parts shorten a little
_LEAST_GRIPPER_TICKS = 400
_SETTLE_S = 0.05


class Operator(Protocol):
    """The person at the arm, through whatever interface."""

    def confirm(self, text: str) -> None:
        """Show a text and wait until it is confirmed; raises OperatorStop to end."""
        ...

    def finished(self, text: str) -> bool:
        """Say, without waiting, whether the person is done with what the text asks; called again and again."""
        ...

    def show(self, ranges: Mapping[str, tuple[int, int, int]]) -> None:
        """Show per joint: smallest, present and largest tick so far; called again and again."""
        ...


@dataclass(slots=True)
class _Range:
    lower: int
    upper: int
    now: int
    jumped: bool = field(default=False)

    def take(self, ticks: int) -> None:
        self.jumped = self.jumped or abs(ticks - self.now) > _LONGEST_STEP
        self.lower, self.upper, self.now = min(self.lower, ticks), max(self.upper, ticks), ticks


def calibrate_servos(
    port: str,
    out: Path,
    operator: Operator,
    *,
    model: str = "so101",
    signs: Mapping[str, int] | None = None,
    baud_hz: int = 1_000_000,
    bus_budget_s: float = 0.1,
    overwrite: bool = False,
) -> ServoCalibration:
    """Calibrate an SO-100 or SO-101 whose servos have the ids 1 to 6 from the base to the gripper.

    Args:
        port: serial port.
        out: file to write.
        operator: the person who moves the joints.
        model: 'so101' or 'so100'.
        signs: -1 for joints that are mounted the other way round; all others +1.
        baud_hz: speed of the bus.
        bus_budget_s: silence after which a servo counts as dead [s].
        overwrite: whether a file that exists is replaced.

    Returns:
        What was written.

    Raises:
        DataError: the file exists, or a joint was not moved over its range.
        DeviceError: the bus or a servo is missing or foreign.
    """
    if out.exists() and not overwrite:
        raise DataError(f"{out}: exists already.", "Ask for it to be replaced, or name another file.")
    names = arm_model("so101").joint_names
    unknown = set(signs or {}) - set(names)
    if unknown:
        raise DataError(f"signs: no joint of the name {', '.join(sorted(unknown))}.", f"Known: {', '.join(names)}.")
    ids = {name: number for number, name in enumerate((*names, "gripper"), start=1)}
    bus = FeetechBus(port, baud_hz=baud_hz, budget_s=bus_budget_s)
    bus.open()
    try:
        check_models(bus, tuple(ids.values()), time.monotonic() + 60.0)
        operator.confirm("Hold the arm: torque goes off now, and it will sink.")
        offsets = _home(bus, ids, operator)
        ranges = _explore(bus, ids, operator)
    finally:
        bus.close()
    calibration = _result(model, ids, offsets, ranges, dict(signs or {}))
    save_calibration(out, calibration)
    return calibration


def _home(bus: FeetechBus, ids: Mapping[str, int], operator: Operator) -> dict[str, int]:
    """Take torque off, and write homing offsets that make the present pose the middle of every encoder."""
    for servo in ids.values():
        bus.write(servo, reg.TORQUE_ENABLE, b"\x00")
        _write_offset(bus, servo, 0)
    operator.confirm("Put every joint in the middle of its range, the gripper half open.")
    offsets = {}
    for name, servo in ids.items():
        found = reg.signed(int.from_bytes(bus.read(servo, reg.SENSORS, 2).data, "little"), 15)
        offsets[name] = min(max(found - _MIDDLE, -_LARGEST_OFFSET), _LARGEST_OFFSET)
        _write_offset(bus, servo, offsets[name])
    return offsets


def _write_offset(bus: FeetechBus, servo: int, offset: int) -> None:
    bus.write(servo, reg.LOCK, b"\x00")
    bus.write(servo, reg.OFFSET, reg.word(reg.with_sign(offset, 11)))
    bus.write(servo, reg.LOCK, b"\x01")
    kept = reg.signed(int.from_bytes(bus.read(servo, reg.OFFSET, 2).data, "little"), 11)
    if kept != offset:
        raise DeviceError(
            f"servo id {servo}: expected it to keep the homing offset {offset}, found {kept}.", "Switch it off and on."
        )


def _explore(bus: FeetechBus, ids: Mapping[str, int], operator: Operator) -> dict[str, _Range]:
    """Follow the joints while they are moved by hand."""
    time.sleep(_SETTLE_S)
    ranges: dict[str, _Range] = {}
    text = "Move every joint slowly to both ends, the gripper too."
    done = False
    while not done:
        done = operator.finished(text)  # asked before the sample, so that the last pose counts
        answers, missing = bus.sync_read(ids.values(), reg.SENSORS, 2)
        if missing:
            raise bus.silent(missing)
        for name, servo in ids.items():
            ticks = reg.signed(int.from_bytes(answers[servo].data, "little"), 15)
            ranges.setdefault(name, _Range(ticks, ticks, ticks)).take(ticks)
        operator.show({name: (seen.lower, seen.now, seen.upper) for name, seen in ranges.items()})
    return ranges


def _result(
    model: str, ids: Mapping[str, int], offsets: Mapping[str, int], ranges: Mapping[str, _Range], signs: dict[str, int]
) -> ServoCalibration:
    limits = arm_model("so101").joint_limits
    joints = {}
    for name, lower, upper in zip(arm_model("so101").joint_names, limits.lower_rad, limits.upper_rad, strict=True):
        zero, low, high = _joint(name, ranges[name], float(lower), float(upper), signs.get(name, 1))
        joints[name] = JointCalibration(
            id=ids[name],
            offset_ticks=offsets[name],
            zero_ticks=zero,
            sign=-1 if signs.get(name, 1) < 0 else 1,
            lower_ticks=low,
            upper_ticks=high,
        )
    fingers = ranges["gripper"]
    _check_jump("gripper", fingers)
    if fingers.upper - fingers.lower < _LEAST_GRIPPER_TICKS:
        raise _too_short("gripper", fingers, _LEAST_GRIPPER_TICKS)
    gripper = GripperCalibration(
        id=ids["gripper"],
        offset_ticks=offsets["gripper"],
        closed_ticks=fingers.lower,
        open_ticks=fingers.upper,
    )
    return ServoCalibration(model=model, date=datetime.now(UTC), joints=joints, gripper=gripper)


def _joint(name: str, seen: _Range, lower_rad: float, upper_rad: float, sign: int) -> tuple[float, int, int]:
    """Return zero, lower and upper ticks of a joint from the ends it was moved to."""
    ends = np.array([lower_rad, upper_rad]) * reg.TICKS_PER_RAD * (1 if sign > 0 else -1)
    if name in FULL_TURN:
        low, high = np.clip(np.sort(_MIDDLE + ends), 0, reg.TICKS_PER_TURN - 1)
        return float(_MIDDLE), int(np.ceil(low)), int(np.floor(high))
    _check_jump(name, seen)
    least = _LEAST_SHARE * float(np.ptp(ends))
    if seen.upper - seen.lower < least:
        raise _too_short(name, seen, round(least))
    zero = (seen.lower + seen.upper) / 2.0 - float(np.mean(ends))
    return round(zero, 1), seen.lower, seen.upper


def _check_jump(name: str, seen: _Range) -> None:
    if seen.jumped:
        raise DataError(
            f"{name}: its position jumped, so its range crosses the encoder's end or it was moved too fast.",
            "Calibrate again: begin with the joint in the middle of its range, and move it slowly.",
        )


def _too_short(name: str, seen: _Range, least: int) -> DataError:
    return DataError(
        f"{name}: expected a range of at least {least} ticks, found {seen.upper - seen.lower}.",
        "Calibrate again, and move it to both ends.",
    )
