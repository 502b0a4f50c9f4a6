"""Entry points of the simulated rig and its demonstrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.contracts import Demonstrator, PluginSpec, Rig
from robot_io.sim.config import ExpertConfig, PlayConfig, SimConfig

if TYPE_CHECKING:
    from robot_io.sim.rig import SimRig


def _rig(config: SimConfig) -> SimRig:
    from robot_io.sim.rig import SimRig

    return SimRig(config)


def _expert(config: ExpertConfig) -> Demonstrator:
    from robot_io.sim.demonstrators import ScriptedExpert

    return ScriptedExpert(config)


def _play(config: PlayConfig) -> Demonstrator:
    from robot_io.sim.play import TaskAgnosticPlay

    return TaskAgnosticPlay(config)


SIM: PluginSpec[Rig] = PluginSpec("Meta-World's Sawyer on MuJoCo, fifty tasks", SimConfig, _rig)
EXPERT: PluginSpec[Demonstrator] = PluginSpec("Meta-World's scripted experts", ExpertConfig, _expert)
PLAY: PluginSpec[Demonstrator] = PluginSpec("Task-agnostic play: reaches, pushes, grasps", PlayConfig, _play)
