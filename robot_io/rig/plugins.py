"""Entry point of the rig with one arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.contracts import PluginSpec, Rig
from robot_io.rig.config import RigOptions

if TYPE_CHECKING:
    from robot_io.rig.rig import OneArmRig


def _rig(options: RigOptions) -> OneArmRig:
    from robot_io.rig.rig import OneArmRig

    return OneArmRig(options)


REAL: PluginSpec[Rig] = PluginSpec("One arm with its cameras, real or emulated", RigOptions, _rig)
