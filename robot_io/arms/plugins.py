"""Entry points of the arm drivers; each vendor's SDK is imported only when its driver connects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.contracts import PluginSpec
from robot_io.arms.franka import FrankaConfig
from robot_io.arms.ur_config import URConfig
from robot_io.arms.xarm import XArmConfig

if TYPE_CHECKING:
    from robot_io.arms.driver import ArmDriver


def _franka(config: FrankaConfig) -> ArmDriver:
    from robot_io.arms.franka import FrankaDriver

    return FrankaDriver(config)


def _ur(config: URConfig) -> ArmDriver:
    from robot_io.arms.ur import URDriver

    return URDriver(config)


def _xarm(config: XArmConfig) -> ArmDriver:
    from robot_io.arms.xarm import XArmDriver

    return XArmDriver(config)


FRANKA: PluginSpec[ArmDriver] = PluginSpec(
    "Franka Research 3 by joint impedance; experimental, never run on a robot", FrankaConfig, _franka
)
UR: PluginSpec[ArmDriver] = PluginSpec("Universal Robots UR3e, UR5e and UR10e, poses by servoL", URConfig, _ur)
XARM: PluginSpec[ArmDriver] = PluginSpec("UFACTORY xArm 6 and 7, joints or poses in servo mode", XArmConfig, _xarm)
