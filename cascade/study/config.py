"""A study as a file: which arms, on which scenes, under which clocks, and what is compared with what."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cascade.compose import compose
from cascade.config import Loaded, RecipeConfig, RigConfig, find_config, load_yaml, resolved, validated
from cascade.contracts.errors import ConfigError, did_you_mean
from cascade.study.jobs import Arm, StudyJob
from cascade.suites import find_suite, suite_settings

Clock = Literal["frozen", "realtime"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PartConfig(_Strict):
    """One side of the cross: a planner, or the recipe whose extractor, execution and gate are used."""

    planner: str | None = Field(None, description="Planner plug-in; of a planner's entry.")
    recipe: str | None = Field(None, description="Recipe that extracts, executes and checks; of an extractor's entry.")
    set: tuple[str, ...] = Field((), description="Settings as of `--set`, such as planner.options.steps=4.")
    clocks: tuple[Clock, ...] | None = Field(None, description="Only under these clocks; of a planner's entry.")


class ArmConfig(_Strict):
    """An arm that is not a pair of the cross."""

    recipe: str = Field(description="Recipe by name or path.")
    planner: str | None = Field(None, description="Planner instead of the recipe's.")
    set: tuple[str, ...] = Field((), description="Settings as of `--set`.")
    control: Literal["wrong-layout"] | None = Field(None, description="Plan from the first frame of another layout.")
    clocks: tuple[Clock, ...] | None = Field(None, description="Only under these clocks; default: all of the study.")


class StudyConfig(_Strict):
    """A study; scenes are the layouts `seed`, `seed` + 1, ... of every task, the same for every arm."""

    name: str = Field(description="Name of the study.")
    summary: str = Field("", description="One line for people.")
    suite: str = Field("metaworld-11", description="Suite of tasks, with the conditions of its protocol.")
    tasks: tuple[str, ...] | None = Field(None, description="Only these tasks of the suite.")
    rig: str = Field("sim", description="Rig by name or path.")
    set: tuple[str, ...] = Field((), description="Settings of all arms, as of `--set`.")
    seed: int = Field(200, ge=0, description="First layout.")
    layouts: dict[Clock, int] = Field(
        description="Layouts per task under each clock: frozen (the world waits) and realtime (it does not)."
    )
    planners: dict[str, PartConfig] = Field(default_factory=dict, description="Planners of the cross.")
    extractors: dict[str, PartConfig] = Field(default_factory=dict, description="Extractors of the cross.")
    arms: dict[str, ArmConfig] = Field(default_factory=dict, description="Arms besides the cross.")
    compare: tuple[tuple[str, str], ...] = Field(
        (), description="Pairs of arms to compare, fixed beforehand; default: the first arm with all others."
    )

    @field_validator("layouts")
    @classmethod
    def _some_layouts(cls, layouts: dict[Clock, int]) -> dict[Clock, int]:
        if not layouts or any(count < 1 for count in layouts.values()):
            raise ValueError("expected at least one layout per clock")
        return layouts

    @model_validator(mode="after")
    def _whole_cross(self) -> StudyConfig:
        if bool(self.planners) != bool(self.extractors):
            raise ValueError("expected both planners and extractors of the cross, or neither")
        if any(part.planner is None for part in self.planners.values()):
            raise ValueError("planners: expected a `planner` in every entry")
        if any(part.recipe is None for part in self.extractors.values()):
            raise ValueError("extractors: expected a `recipe` in every entry")
        if not self.arm_names:
            raise ValueError("expected at least one arm, found none")
        unknown = [name for pair in self.compare for name in pair if name not in self.arm_names]
        if unknown:
            raise ValueError(f"compare: {unknown[0]!r} is no arm; arms are {', '.join(self.arm_names)}")
        return self

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Names of all arms: `planner+extractor` for those of the cross, then the others."""
        return tuple(f"{a}+{b}" for a, b in product(self.planners, self.extractors)) + tuple(self.arms)

    @property
    def comparisons(self) -> tuple[tuple[str, str], ...]:
        """Pairs of arms that are compared."""
        first, *others = self.arm_names
        return self.compare or tuple((first, other) for other in others)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Tasks of the scenes.

        Raises:
            ConfigError: a task is not in the suite.
        """
        known = find_suite(self.suite).tasks
        unknown = [name for name in self.tasks or () if name not in known]
        if unknown:
            raise ConfigError(f"task {unknown[0]!r}: not in suite {self.suite!r}.", did_you_mean(unknown[0], known))
        return self.tasks or known

    def jobs(self) -> list[StudyJob]:
        """All episodes: clock by clock, layout by layout, arm after arm, so that other work meets all arms."""
        found = []
        for clock, count in self.layouts.items():
            arms = [arm for arm in self.arm_names if self._runs(arm, clock)]
            for seed, task in product(range(self.seed, self.seed + count), self.task_names):
                found += [StudyJob(arm=arm, clock=clock, task=task, seed=seed) for arm in arms]
        return found

    def _runs(self, arm: str, clock: Clock) -> bool:
        """Whether an arm is measured under a clock."""
        part = self.arms.get(arm) or next(p for name, p in self.planners.items() if arm.startswith(f"{name}+"))
        return part.clocks is None or clock in part.clocks

    def build_arms(self) -> dict[str, Arm]:
        """Return every arm with its resolved rig and recipe; wrong names and options are told here.

        Raises:
            CascadeError: a recipe, rig, plug-in or option does not exist or is wrong.
        """
        arms = {}
        for (p, planner), (e, extractor) in product(self.planners.items(), self.extractors.items()):
            recipe = extractor.recipe or ""
            arms[f"{p}+{e}"] = self._arm(recipe, planner.planner, (*extractor.set, *planner.set), None)
        for name, arm in self.arms.items():
            arms[name] = self._arm(arm.recipe, arm.planner, arm.set, arm.control)
        return arms

    def _arm(self, recipe: str, planner: str | None, settings: tuple[str, ...], control: str | None) -> Arm:
        overrides = [*suite_settings(find_suite(self.suite)), *self.set, *settings]
        run, _ = compose(
            instruction="", task=None, seed=self.seed, rig=self.rig, recipe=recipe, planner=planner, overrides=overrides
        )
        values: dict[str, Any] = resolved(run)
        return Arm(
            rig=RigConfig.model_validate(values["rig"]),
            recipe=RecipeConfig.model_validate(values["recipe"]),
            control=control,
        )


def load_study(name: str, layouts: Mapping[str, int] | None = None) -> StudyConfig:
    """Return the study of a file, or a packaged one by name.

    Args:
        name: of a packaged study, or path of a YAML file.
        layouts: layouts per task under each clock instead of the study's, unless there are none.

    Raises:
        ConfigError: there is no such study, or a key or value is wrong; it is named.
    """
    path = find_config("studies", name) if Path(name).suffix not in (".yaml", ".yml") else Path(name)
    loaded = load_yaml(path)
    changed = {"layouts": dict(layouts)} if layouts else {}
    return validated(StudyConfig, Loaded(loaded.values | changed, loaded.origin), str(path))
