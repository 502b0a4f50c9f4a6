"""Options of a UR arm, as a rig file gives them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cascade.contracts import PluginConfig
from robot_io.arms.robotiq import ROBOTIQ_PORT


class URConfig(PluginConfig):
    """Options of a UR arm."""

    host: str = Field(description="Name or address of the controller.")
    model: Literal["ur3e", "ur5e", "ur10e"] = Field("ur5e", description="Model; the controller is asked whether it is.")
    lookahead_s: float = Field(0.1, ge=0.03, le=0.2, description="servoL look-ahead [s]: larger is smoother and later.")
    gain: float = Field(300.0, ge=100.0, le=2000.0, description="servoL gain: larger follows more stiffly.")
    watchdog_hz: float = Field(
        25.0, ge=25.0, le=125.0, description="The controller ends its program when setpoints come more rarely [Hz]."
    )
    stop_deceleration_m_s2: float = Field(2.5, ge=0.5, le=10.0, description="Deceleration of the stop [m/s^2].")
    silence_s: float = Field(
        0.032, ge=0.01, le=0.5, description="The link counts as lost when the controller is silent for longer [s]."
    )
    registers: Literal["lower", "upper"] = Field(
        "lower", description="Half of the controller's registers to use; 'upper' where a fieldbus has the lower ones."
    )
    tcp_offset: tuple[float, float, float, float, float, float] | None = Field(
        None, description="Tool centre point in the flange: xyz [m], rotation vector [rad]. Null: the pendant's."
    )
    payload_kg: float | None = Field(None, ge=0.0, le=20.0, description="Mass of the tool [kg]. Null: the pendant's.")
    payload_cog_m: tuple[float, float, float] = Field((0.0, 0.0, 0.0), description="Its centre in the flange [m].")
    power_on: bool = Field(False, description="Power the arm and release its brakes when arming; they click.")
    gripper: Literal["none", "robotiq"] = Field("none", description="Gripper behind the controller.")
    gripper_port: int = Field(ROBOTIQ_PORT, ge=1, le=65535, description="Port of the Robotiq URCap.")
    gripper_speed: int = Field(255, ge=0, le=255, description="As the gripper takes it.")
    gripper_force: int = Field(100, ge=0, le=255, description="As the gripper takes it.")
