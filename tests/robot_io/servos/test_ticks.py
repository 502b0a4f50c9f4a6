from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.contracts.errors import DataError, DeviceError
from robot_io.arms import feetech_registers as reg
from robot_io.arms.dynamixel_config import DynamixelJoint
from robot_io.arms.feetech_calibration_file import (
    GripperCalibration,
    JointCalibration,
    load_calibration,
    save_calibration,
)
from robot_io.loopback.servo_bus_serve import so101_calibration

HALF_TICK = math.pi / 4096
signs = st.sampled_from((-1, 1))


@st.composite
def joints(draw: st.DrawFn) -> JointCalibration:
    lower = draw(st.integers(0, 4000))
    upper = draw(st.integers(lower + 1, 4095))
    zero = draw(st.integers(0, 4095))
    return JointCalibration(
        id=1, offset_ticks=0, zero_ticks=zero, sign=draw(signs), lower_ticks=lower, upper_ticks=upper
    )


@given(joint=joints(), share=st.floats(0, 1))
def test_ticks_survive_the_way_to_radians_and_back(joint: JointCalibration, share: float) -> None:
    ticks = round(joint.lower_ticks + share * (joint.upper_ticks - joint.lower_ticks))
    assert joint.to_ticks(joint.to_rad(ticks)) == ticks


@given(joint=joints(), share=st.floats(0, 1))
def test_angles_inside_the_range_come_back_within_half_a_tick(joint: JointCalibration, share: float) -> None:
    angle = joint.lower_rad + share * (joint.upper_rad - joint.lower_rad)
    assert joint.to_rad(joint.to_ticks(angle)) == pytest.approx(angle, abs=HALF_TICK * 1.01)


@given(joint=joints(), angle=st.floats(-100, 100))
def test_no_angle_leaves_the_calibrated_range(joint: JointCalibration, angle: float) -> None:
    assert joint.lower_ticks <= joint.to_ticks(angle) <= joint.upper_ticks


@given(joint=joints())
def test_the_sign_turns_the_direction(joint: JointCalibration) -> None:
    step = joint.to_rad(joint.upper_ticks) - joint.to_rad(joint.lower_ticks)
    assert math.copysign(1, step) == joint.sign


@given(zero=st.integers(1000, 3000), sign=signs, share=st.floats(0, 1))
def test_dynamixel_ticks_survive_the_way_to_radians_and_back(zero: int, sign: int, share: float) -> None:
    joint = DynamixelJoint(
        id=1, model="xl430-w250", name="a", zero_ticks=zero, sign=sign, lower_rad=-1.5, upper_rad=1.5
    )
    ticks = joint.to_ticks(-1.5 + 3 * share)
    assert joint.to_ticks(joint.to_rad(ticks)) == ticks


@given(closed=st.integers(0, 2000), open_=st.integers(2100, 4095), swap=st.booleans(), opening=st.floats(-1, 2))
def test_gripper_openings_stay_between_closed_and_open(closed: int, open_: int, swap: bool, opening: float) -> None:
    if swap:
        closed, open_ = open_, closed
    gripper = GripperCalibration(id=6, offset_ticks=0, closed_ticks=closed, open_ticks=open_)
    inside = min(max(opening, 0.0), 1.0)
    assert gripper.to_opening(gripper.to_ticks(opening)) == pytest.approx(inside, abs=1 / abs(open_ - closed))


@given(value=st.integers(-2047, 2047))
def test_signs_in_a_bit_survive_the_way_back(value: int) -> None:
    assert reg.signed(reg.with_sign(value, 11), 11) == value


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    written = so101_calibration()
    save_calibration(tmp_path / "a.yaml", written)
    assert load_calibration(tmp_path / "a.yaml", "so101", tuple(written.joints)) == written


def test_a_calibration_of_another_model_is_refused(tmp_path: Path) -> None:
    save_calibration(tmp_path / "a.yaml", so101_calibration())
    with pytest.raises(DataError, match="expected a calibration of so100"):
        load_calibration(tmp_path / "a.yaml", "so100", ())


@pytest.mark.parametrize("text", ["", "{", "model: so101", "[1, 2]"])
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises((DataError, DeviceError), match="cascade calibrate servos"):
        load_calibration(tmp_path / "a.yaml", "so101", ())
