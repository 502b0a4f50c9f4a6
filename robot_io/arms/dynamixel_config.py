"""Options of the Dynamixel driver: which servo is which joint, where its zero is, how far it goes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from cascade.contracts import PluginConfig
from cascade.contracts.errors import did_you_mean
from robot_io.arms.dynamixel_registers import MODELS, TICKS_PER_RAD


class _Servo(PluginConfig):
    id: int = Field(ge=0, le=252, description="Id on the bus.")
    model: str = Field(description="Model, such as 'xl430-w250'; checked when connecting.")

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        if model not in MODELS:
            raise ValueError(f"unknown model {model!r}. {did_you_mean(model, MODELS)}")
        return model


class DynamixelJoint(_Servo):
    """One joint: q = sign * (ticks - zero_ticks) * 2 pi / 4096."""

    name: str = Field(description="Name of the joint.")
    sign: Literal[-1, 1] = Field(1, description="1: angle grows with ticks.")
    zero_ticks: int = Field(2048, ge=0, le=4095, description="Where the joint's angle is 0.")
    lower_rad: float = Field(description="Smallest angle [rad].")
    upper_rad: float = Field(description="Largest angle [rad].")
    rest_rad: float = Field(0.0, description="Angle in the pose in which torque may be taken off without a fall [rad].")
    shadow_id: int | None = Field(
        None, ge=0, le=252, description="A second servo on the same axis that follows this one by its secondary id."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.lower_rad < self.upper_rad:
            raise ValueError("expected lower_rad below upper_rad")
        if not self.lower_rad <= self.rest_rad <= self.upper_rad:
            raise ValueError("expected rest_rad between lower_rad and upper_rad")
        for angle in (self.lower_rad, self.upper_rad):
            ticks = self.zero_ticks + self.sign * angle * TICKS_PER_RAD
            if not -0.5 <= ticks <= 4096.5:
                raise ValueError(
                    f"expected a range within one turn of the servo; {angle} rad would be tick {ticks:.0f}"
                )
        return self

    def to_rad(self, ticks: float) -> float:
        """Return the angle at a tick [rad]."""
        return self.sign * (ticks - self.zero_ticks) / TICKS_PER_RAD

    def to_ticks(self, angle_rad: float) -> int:
        """Return the nearest tick of an angle, kept inside the range."""
        inside = min(max(angle_rad, self.lower_rad), self.upper_rad)
        return min(max(round(self.zero_ticks + self.sign * inside * TICKS_PER_RAD), 0), 4095)


class DynamixelGripper(_Servo):
    """The gripper."""

    closed_ticks: int = Field(ge=0, le=4095, description="Where it is closed.")
    open_ticks: int = Field(ge=0, le=4095, description="Where it is fully open.")
    current_a: float | None = Field(
        0.3, gt=0.0, le=3.0, description="Largest current while it holds [A]; null for servos without current control."
    )

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if abs(self.open_ticks - self.closed_ticks) < 50:
            raise ValueError("expected open_ticks well away from closed_ticks")
        return self

    def to_opening(self, ticks: float) -> float:
        """Return the opening, 0 closed .. 1 open."""
        return min(max((ticks - self.closed_ticks) / (self.open_ticks - self.closed_ticks), 0.0), 1.0)

    def to_ticks(self, opening: float) -> int:
        """Return the nearest tick of an opening; values outside 0..1 are taken as the nearest end."""
        inside = min(max(opening, 0.0), 1.0)
        return round(self.closed_ticks + inside * (self.open_ticks - self.closed_ticks))


class DynamixelConfig(PluginConfig):
    """Options of the Dynamixel driver."""

    port: str = Field(description="Serial port of the arm, best one of /dev/serial/by-id/.")
    model: str = Field("custom", description="Name of the arm, for people: 'koch', 'vx300s', ...")
    joints: tuple[DynamixelJoint, ...] = Field(min_length=1, max_length=7, description="In order from the base.")
    gripper: DynamixelGripper | None = Field(None, description="The gripper, where there is one.")
    kinematics: str | None = Field(None, description="Name of the arm's kinematic model, where there is one.")
    baud_hz: int = Field(1_000_000, gt=0, description="Speed of the bus [bit/s].")
    rate_hz: float = Field(100.0, ge=50.0, le=100.0, description="Setpoints per second.")
    bus_budget_s: float = Field(0.1, gt=0.0, le=2.0, description="Silence after which a servo counts as dead [s].")
    watchdog_s: float = Field(
        0.2, ge=0.02, le=2.54, description="Silence on the bus after which the servos stop by themselves [s]."
    )
    max_speed_rad_s: float = Field(3.0, gt=0.0, le=10.0, description="Speed of the joints [rad/s].")
    max_acceleration_rad_s2: float = Field(20.0, gt=0.0, description="Acceleration of the joints [rad/s^2].")
    max_jerk_rad_s3: float = Field(500.0, gt=0.0, description="Jerk of the joints [rad/s^3].")
    rest_speed_rad_s: float = Field(0.5, gt=0.0, le=1.0, description="Speed on the way to rest [rad/s].")
    max_temperature_c: float = Field(65.0, gt=30.0, le=80.0, description="Hotter than this is a fault [°C].")
    reduced_share: float = Field(0.5, gt=0.1, le=1.0, description="Share of its torque that a hot servo keeps.")

    @model_validator(mode="after")
    def _every_servo_once(self) -> Self:
        ids = [*self.ids, *(joint.shadow_id for joint in self.joints if joint.shadow_id is not None)]
        if len(set(ids)) != len(ids):
            raise ValueError(f"expected every servo id once, found {ids}")
        return self

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the joints in order, then the gripper's."""
        last = () if self.gripper is None else (self.gripper.id,)
        return (*(joint.id for joint in self.joints), *last)

    def name(self, servo: int) -> str:
        """Return the name of the joint that a servo moves."""
        return next((joint.name for joint in self.joints if joint.id == servo), "gripper")
