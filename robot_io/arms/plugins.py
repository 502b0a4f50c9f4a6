"""Entry points of the arm drivers; each vendor's SDK is imported only when its driver connects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.contracts import PluginSpec
from robot_io.arms.dynamixel_config import DynamixelConfig
from robot_io.arms.feetech_config import FeetechConfig
from robot_io.arms.franka import FrankaConfig
from robot_io.arms.ur_config import URConfig
from robot_io.arms.virtual import VirtualConfig
from robot_io.arms.xarm import XArmConfig

if TYPE_CHECKING:
    from robot_io.arms.driver import ArmDriver


def _dynamixel(config: DynamixelConfig) -> ArmDriver:
    from robot_io.arms.dynamixel import DynamixelDriver

    return DynamixelDriver(config)


def _feetech(config: FeetechConfig) -> ArmDriver:
    from robot_io.arms.feetech import FeetechDriver

    return FeetechDriver(config)


def _franka(config: FrankaConfig) -> ArmDriver:
    from robot_io.arms.franka import FrankaDriver

    return FrankaDriver(config)


def _ur(config: URConfig) -> ArmDriver:
    from robot_io.arms.ur import URDriver

    return URDriver(config)


def _virtual(config: VirtualConfig) -> ArmDriver:
    from robot_io.arms.virtual import VirtualDriver

    return VirtualDriver(config)


def _xarm(config: XArmConfig) -> ArmDriver:
    from robot_io.arms.xarm import XArmDriver

    return XArmDriver(config)


DYNAMIXEL: PluginSpec[ArmDriver] = PluginSpec(
    "arms of Dynamixel X servos, such as Koch and ViperX, joints", DynamixelConfig, _dynamixel
)
FEETECH: PluginSpec[ArmDriver] = PluginSpec(
    "SO-100 and SO-101: Feetech STS servos on a serial bus, joints", FeetechConfig, _feetech
)
FRANKA: PluginSpec[ArmDriver] = PluginSpec(
    "Franka Research 3 by joint impedance; experimental, never run on a robot", FrankaConfig, _franka
)
UR: PluginSpec[ArmDriver] = PluginSpec("Universal Robots UR3e, UR5e and UR10e, poses by servoL", URConfig, _ur)
VIRTUAL: PluginSpec[ArmDriver] = PluginSpec(
    "No hardware: a point that goes where it is told, for trying things", VirtualConfig, _virtual
)
XARM: PluginSpec[ArmDriver] = PluginSpec("UFACTORY xArm 6 and 7, joints or poses in servo mode", XArmConfig, _xarm)
