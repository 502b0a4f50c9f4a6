"""One episode of a study: what a launcher sends to a worker, and what the worker does."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cascade.config import RecipeConfig, RigConfig
from cascade.contracts.interfaces import Rig
from cascade.episodes import Row, episode_row
from cascade.pipeline import Stages, build_stages
from cascade.plugins import build_plugin

Key = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyJob:
    """One episode: an arm on the scene (task, seed) under a clock."""

    arm: str
    clock: str
    task: str
    seed: int

    @property
    def key(self) -> Key:
        """What tells it from the other episodes of its study."""
        return self.arm, self.clock, self.task, self.seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What is compared: a rig and a recipe, and perhaps a control condition."""

    rig: RigConfig
    recipe: RecipeConfig
    control: str | None = None


# What a worker process has built: rigs by their options and clock, stages by their recipe. A study has a handful.
_rigs: dict[str, Rig] = {}
_stages: dict[str, Stages] = {}


def run_job(arm: Arm, job: StudyJob) -> Row:
    """Run one episode in this process and return its row; rigs and stages are kept for the next.

    Raises:
        CascadeError: the arm cannot be built. Errors within the episode are part of the row.
    """
    rig = _rig(arm, job.clock)
    key = arm.recipe.model_dump_json(include={"planner", "extractor", "reader", "execution", "gate"})
    if key not in _stages:
        _stages[key] = build_stages(arm.recipe)
    before = os.getloadavg()[0]
    row = episode_row(rig, _stages[key], task=job.task, seed=job.seed, control=arm.control)
    return {"arm": job.arm, "clock": job.clock, **row, "load": round(max(before, os.getloadavg()[0]), 2)}


def run_jobs(work: list[tuple[Arm, StudyJob]]) -> list[Row]:
    """Run several episodes one after the other (what one Slurm job does)."""
    return [run_job(arm, job) for arm, job in work]


def _rig(arm: Arm, clock: str) -> Rig:
    options = arm.rig.options | {"clock": clock}
    key = repr((arm.rig.plugin, sorted(options.items(), key=lambda item: item[0])))
    if key not in _rigs:
        built: Rig = build_plugin("rig", arm.rig.plugin, options)
        _rigs[key] = built.__enter__()
    return _rigs[key]
