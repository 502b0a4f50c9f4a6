from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cascade.contracts.errors import DataError, DeviceError, OperatorStop
from robot_io.arms.feetech import FeetechDriver
from robot_io.arms.feetech_calibration import calibrate_servos
from robot_io.arms.feetech_config import FeetechConfig
from robot_io.loopback.servo_bus import ServoBus, ServoSpec

# Mounted as they came: the ranges of 2 and 4 straddle the encoder's jump from 4095 to 0.
AS_BUILT = (
    ServoSpec(1, ticks=1500, lower_stop=300, upper_stop=2800),
    ServoSpec(2, ticks=4000, lower_stop=2700, upper_stop=4970),
    ServoSpec(3, ticks=2000, lower_stop=946, upper_stop=3150),
    ServoSpec(4, ticks=100, lower_stop=-1000, upper_stop=1160),
    ServoSpec(5, ticks=2200, lower_stop=-9000, upper_stop=9000),
    ServoSpec(6, ticks=2000, lower_stop=1900, upper_stop=3150),
)
MIDDLE = {servo.id: (servo.lower_stop + servo.upper_stop) / 2 for servo in AS_BUILT} | {5: 2200.0}


class Hands:
    """Moves the joints of the simulated arm as a careful person would."""

    def __init__(self, bus: ServoBus, *, leave_out: int | None = None, jump: bool = False) -> None:
        self.bus = bus
        self.leave_out = leave_out
        self.jump = jump
        self.texts: list[str] = []
        self.shown: Mapping[str, tuple[int, int, int]] = {}
        self._moves: Iterator[tuple[int, float]] | None = None

    def confirm(self, text: str) -> None:
        self.texts.append(text)
        if "middle" in text:
            for servo, ticks in MIDDLE.items():
                self.bus.by_hand(servo, ticks)

    def finished(self, text: str) -> bool:
        if self._moves is None:
            self._moves = self._way()
        move = next(self._moves, None)
        if move is not None:
            self.bus.by_hand(*move)
        return move is None

    def show(self, ranges: Mapping[str, tuple[int, int, int]]) -> None:
        self.shown = ranges

    def _way(self) -> Iterator[tuple[int, float]]:
        for servo in AS_BUILT:
            if servo.id in (self.leave_out, 5):
                continue
            step = 5000.0 if self.jump else 400.0
            for end in (servo.lower_stop, servo.upper_stop):
                ticks, sign = MIDDLE[servo.id], math.copysign(1, end - MIDDLE[servo.id])
                while abs(end - ticks) > 1:
                    ticks += sign * min(step, abs(end - ticks))
                    yield servo.id, ticks
                if not self.jump:
                    while abs(MIDDLE[servo.id] - ticks) > 1:
                        ticks -= sign * min(step, abs(MIDDLE[servo.id] - ticks))
                        yield servo.id, ticks


@pytest.fixture
def bus() -> Iterator[ServoBus]:
    with ServoBus("feetech", AS_BUILT) as running:
        yield running


def test_a_calibrated_arm_connects_and_its_middle_is_zero(bus: ServoBus, tmp_path: Path) -> None:
    out = tmp_path / "arms" / "so101.yaml"
    hands = Hands(bus)
    calibration = calibrate_servos(bus.address, out, hands, bus_budget_s=1.0)
    assert "torque goes off" in hands.texts[0]
    assert set(hands.shown) == {*calibration.joints, "gripper"}
    for servo, ticks in MIDDLE.items():
        bus.by_hand(servo, ticks)
    driver = FeetechDriver(FeetechConfig(port=bus.address, calibration=out, bus_budget_s=1.0))
    driver.connect(20.0)
    reading = driver.read()
    assert reading.q == pytest.approx([0.0] * 5, abs=0.01)
    assert reading.gripper_opening == pytest.approx(0.5, abs=0.01)
    bus.by_hand(2, AS_BUILT[1].upper_stop)
    assert driver.read().q[1] == pytest.approx(1.74, abs=0.02)
    driver.close()


def test_ranges_that_straddle_the_encoders_jump_come_out_whole(bus: ServoBus, tmp_path: Path) -> None:
    calibration = calibrate_servos(bus.address, tmp_path / "a.yaml", Hands(bus), bus_budget_s=1.0)
    for name in ("shoulder_lift", "wrist_flex"):
        joint = calibration.joints[name]
        servo = AS_BUILT[joint.id - 1]
        assert joint.upper_ticks - joint.lower_ticks == pytest.approx(servo.upper_stop - servo.lower_stop, abs=4)


def test_a_joint_mounted_the_other_way_round_gets_its_sign(bus: ServoBus, tmp_path: Path) -> None:
    calibration = calibrate_servos(
        bus.address, tmp_path / "a.yaml", Hands(bus), signs={"elbow_flex": -1}, bus_budget_s=1.0
    )
    elbow = calibration.joints["elbow_flex"]
    assert elbow.to_rad(elbow.upper_ticks) < 0 < elbow.to_rad(elbow.lower_ticks)


def test_a_joint_that_was_not_moved_is_named_and_nothing_is_written(bus: ServoBus, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="elbow_flex: expected a range of at least"):
        calibrate_servos(bus.address, tmp_path / "a.yaml", Hands(bus, leave_out=3), bus_budget_s=1.0)
    assert not (tmp_path / "a.yaml").exists()


def test_a_joint_that_jumped_is_named(bus: ServoBus, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its position jumped"):
        calibrate_servos(bus.address, tmp_path / "a.yaml", Hands(bus, jump=True), bus_budget_s=1.0)


def test_an_existing_calibration_is_not_replaced_unasked(bus: ServoBus, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        calibrate_servos(bus.address, tmp_path / "a.yaml", Hands(bus))
    assert (tmp_path / "a.yaml").read_text() == "mine"


def test_a_person_who_declines_leaves_torque_as_it_was(bus: ServoBus, tmp_path: Path) -> None:
    class Declines(Hands):
        def confirm(self, text: str) -> None:
            raise OperatorStop("declined.")

    bus.poke(2, 40, [1])
    with pytest.raises(OperatorStop):
        calibrate_servos(bus.address, tmp_path / "a.yaml", Declines(bus), bus_budget_s=1.0)
    assert bus.servos()[2]["torque_on"]


def test_a_missing_servo_is_named(bus: ServoBus, tmp_path: Path) -> None:
    bus.dead([4])
    with pytest.raises(DeviceError, match="servo id 4"):
        calibrate_servos(bus.address, tmp_path / "a.yaml", Hands(bus), bus_budget_s=0.5)
