"""What is known of one particular servo arm: which servo is which joint, where its zero is, how far it goes.

Ticks and radians meet here and nowhere else: `q = sign * (ticks - zero) * 2 pi / 4096`.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from cascade.contracts import PluginConfig
from cascade.contracts.errors import DataError, DeviceError
from robot_io.arms.feetech_registers import TICKS_PER_RAD, TICKS_PER_TURN

_LAST_TICK = TICKS_PER_TURN - 1


class JointCalibration(PluginConfig):
    """One joint."""

    id: int = Field(ge=0, le=252, description="Id of its servo on the bus.")
    offset_ticks: int = Field(
        ge=-2047, le=2047, description="Homing offset kept in the servo itself; checked when connecting."
    )
    zero_ticks: float = Field(ge=0, le=_LAST_TICK, description="Where the joint's angle is 0.")
    sign: Literal[-1, 1] = Field(1, description="1: angle grows with ticks.")
    lower_ticks: int = Field(ge=0, le=_LAST_TICK, description="End of the range with the smaller tick.")
    upper_ticks: int = Field(ge=0, le=_LAST_TICK, description="End of the range with the larger tick.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lower_ticks < self.upper_ticks:
            raise ValueError("expected lower_ticks below upper_ticks")
        return self

    @property
    def lower_rad(self) -> float:
        """Smallest angle of the range [rad]."""
        return min(self.to_rad(self.lower_ticks), self.to_rad(self.upper_ticks))

    @property
    def upper_rad(self) -> float:
        """Largest angle of the range [rad]."""
        return max(self.to_rad(self.lower_ticks), self.to_rad(self.upper_ticks))

    def to_rad(self, ticks: float) -> float:
        """Return the angle at a tick [rad]."""
        return self.sign * (ticks - self.zero_ticks) / TICKS_PER_RAD

    def to_ticks(self, angle_rad: float) -> int:
        """Return the nearest tick of an angle, kept inside the range."""
        ticks = round(self.zero_ticks + self.sign * angle_rad * TICKS_PER_RAD)
        return min(max(ticks, self.lower_ticks), self.upper_ticks)


class GripperCalibration(PluginConfig):
    """The gripper."""

    id: int = Field(ge=0, le=252, description="Id of its servo on the bus.")
    offset_ticks: int = Field(ge=-2047, le=2047, description="Homing offset kept in the servo itself.")
    closed_ticks: int = Field(ge=0, le=_LAST_TICK, description="Where it is closed.")
    open_ticks: int = Field(ge=0, le=_LAST_TICK, description="Where it is fully open.")

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if abs(self.open_ticks - self.closed_ticks) < 50:
            raise ValueError("expected open_ticks well away from closed_ticks")
        return self

    def to_opening(self, ticks: float) -> float:
        """Return the opening, 0 closed .. 1 open."""
        opening = (ticks - self.closed_ticks) / (self.open_ticks - self.closed_ticks)
        return min(max(opening, 0.0), 1.0)

    def to_ticks(self, opening: float) -> int:
        """Return the nearest tick of an opening; values outside 0..1 are taken as the nearest end."""
        inside = min(max(opening, 0.0), 1.0)
        return round(self.closed_ticks + inside * (self.open_ticks - self.closed_ticks))


class ServoCalibration(PluginConfig):
    """One arm."""

    schema_version: Literal[1] = 1
    model: str = Field(description="Arm it holds for, such as 'so101'.")
    date: datetime = Field(description="When it was measured, with time zone.")
    joints: dict[str, JointCalibration] = Field(description="By joint name, in order from the base.")
    gripper: GripperCalibration

    @model_validator(mode="after")
    def _every_servo_once(self) -> Self:
        ids = self.ids
        if len(set(ids)) != len(ids):
            raise ValueError(f"expected every servo id once, found {ids}")
        return self

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the joints in order, then the gripper's."""
        return (*(joint.id for joint in self.joints.values()), self.gripper.id)

    @property
    def offsets(self) -> dict[int, int]:
        """Homing offset that each servo should carry, by id: together, the arm's fingerprint."""
        offsets = {joint.id: joint.offset_ticks for joint in self.joints.values()}
        return {**offsets, self.gripper.id: self.gripper.offset_ticks}

    def name(self, servo: int) -> str:
        """Return the name of the joint that a servo moves."""
        return next((name for name, joint in self.joints.items() if joint.id == servo), "gripper")


def load_calibration(path: Path, model: str, joint_names: tuple[str, ...]) -> ServoCalibration:
    """Read a calibration and check that it is for this arm.

    Raises:
        DeviceError: there is none.
        DataError: it cannot be read, has a wrong value, or is of another model.
    """
    remedy = f"Calibrate the arm: cascade calibrate servos PORT --set model={model} -o {path}"
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
        calibration = ServoCalibration.model_validate(described)
    except FileNotFoundError as error:
        raise DeviceError(f"{path}: expected the servo arm's calibration, found no file.", remedy) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: the calibration cannot be read ({error}).", remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise DataError(f"{path}: {where}: {first['msg']}.", remedy) from error
    if calibration.model != model:
        raise DataError(f"{path}: expected a calibration of {model}, found one of {calibration.model}.", remedy)
    if tuple(calibration.joints) != joint_names:
        raise DataError(
            f"{path}: expected the joints {', '.join(joint_names)}, found {', '.join(calibration.joints)}.", remedy
        )
    return calibration


def save_calibration(path: Path, calibration: ServoCalibration) -> None:
    """Write a calibration, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    described = calibration.model_dump(mode="json")
    partial.write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    os.replace(partial, path)
