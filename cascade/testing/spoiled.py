"""The planner `spoiled`: another planner's plan, spoiled on purpose. It finds out what gate and consistency notice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.config import StageConfig, load_rig
from cascade.contracts.errors import DataError
from cascade.contracts.interfaces import EpisodeAware, Needs, Planner, Rig
from cascade.contracts.plugin import PluginConfig, PluginSpec
from cascade.contracts.records import CameraImage, Observation, VideoPlan
from cascade.plugins import build_plugin
from cascade.testing.spoils import Spoil, spoil

OTHER_LAYOUT = 5000  # added to the episode's seed for the layout whose motion is borrowed
OBJECT = "object"


class SpoiledConfig(PluginConfig):
    """Options of the planner that spoils plans."""

    planner: StageConfig = Field(default_factory=lambda: StageConfig(name="embedded"), description="Whose plans.")
    kind: Spoil = Field(Spoil.NONE, description="How they are spoiled.")
    strength: float = Field(1.0, ge=0.0, le=1.0, description="How thoroughly, 0 to 1.")
    other_instruction: str = Field("", description="Sentence of the other task (kind other_task).")
    rig: str = Field("sim", description="Rig that shows another layout (kind wrong_goal): a second one of that kind.")


class SpoiledPlanner:
    """Asks another planner and spoils what it imagines (a Planner, and EpisodeAware).

    A spoiled plan has neither latents nor a reading of its own: those would tell the truth about it.

    Args:
        inner: whose plans.
        kind: how they are spoiled; may be changed between plans, as `strength` and `other_instruction` may.
        strength: how thoroughly, 0..1.
        other_instruction: sentence of the other task.
        rig: configuration of the rig that shows another layout.
    """

    def __init__(
        self,
        inner: Planner,
        *,
        kind: Spoil = Spoil.NONE,
        strength: float = 1.0,
        other_instruction: str = "",
        rig: str = "sim",
    ) -> None:
        self.kind, self.strength, self.other_instruction = kind, strength, other_instruction
        self._inner, self._rig_name = inner, rig
        self._rig: Rig | None = None
        self._episode = ("", 0)

    @property
    def needs(self) -> Needs:
        """What the other planner needs."""
        return self._inner.needs

    def begin(self, *, task: str, seed: int) -> None:
        """Remember the layout, so that another one can be found."""
        self._episode = (task, seed)
        if isinstance(self._inner, EpisodeAware):
            self._inner.begin(task=task, seed=seed)

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Return the other planner's plans, spoiled.

        Raises:
            DataError: what the kind of spoil needs is missing.
        """
        plans = self._inner.plan(observation, instruction, seed=seed, goal=goal, samples=samples)
        if self.kind is Spoil.NONE:
            return plans
        others = self._others(observation, seed, samples)
        return [self._spoiled(plan, observation, others[k] if others else None) for k, plan in enumerate(plans)]

    def close(self) -> None:
        """Let go of the other planner and of the second rig."""
        close = getattr(self._inner, "close", None)
        if callable(close):
            close()
        if self._rig is not None:
            self._rig.__exit__(None, None, None)
            self._rig = None

    def _others(self, observation: Observation, seed: int, samples: int) -> list[VideoPlan]:
        """The plans whose motion is borrowed."""
        if self.kind is Spoil.OTHER_TASK:
            if not self.other_instruction:
                raise DataError("spoiled: other_task needs the option `other_instruction`, found none.", "Give one.")
            return self._inner.plan(observation, self.other_instruction, seed=seed, samples=samples)
        if self.kind is not Spoil.WRONG_GOAL:
            return []
        task, layout = self._episode
        if not task:
            raise DataError("spoiled: wrong_goal needs a simulated task, found none.", "Name it with --task.")
        if self._rig is None:
            config = load_rig(self._rig_name)
            built: Rig = build_plugin("rig", config.plugin, {**config.options, "arm_process": False})
            self._rig = built.__enter__()
        self._rig.reset(task=task, seed=layout + OTHER_LAYOUT)
        monitor = self._rig.monitor
        sentence = monitor.instruction if monitor else ""
        return self._inner.plan(self._rig.observe(), sentence, seed=seed, samples=samples)

    def _spoiled(self, plan: VideoPlan, observation: Observation, other: VideoPlan | None) -> VideoPlan:
        rng = np.random.default_rng([plan.seed, list(Spoil).index(self.kind)])
        frames = spoil(
            self.kind,
            plan.frames,
            strength=self.strength,
            rng=rng,
            mask=object_mask(plan, observation) if self.kind is Spoil.VANISH else None,
            other=None if other is None else other.frames,
        )
        return VideoPlan(
            instruction=plan.instruction,
            camera=plan.camera,
            transform=plan.transform,
            frames=frames,
            frame_dt_s=plan.frame_dt_s,
            seed=plan.seed,
            provenance={**plan.provenance, "spoil": self.kind.value, "strength": self.strength},
        )


def object_mask(plan: VideoPlan, observation: Observation) -> NDArray[np.bool_] | None:
    """Return the (H, W) mask of the handled object in plan pixels, None where the rig does not segment."""
    try:
        return plan.transform.apply_mask(observation.image(plan.camera).mask(OBJECT))
    except DataError:
        return None


def _build(config: Any) -> SpoiledPlanner:
    inner: Planner = build_plugin("planner", config.planner.name, config.planner.options)
    return SpoiledPlanner(
        inner,
        kind=config.kind,
        strength=config.strength,
        other_instruction=config.other_instruction,
        rig=config.rig,
    )


SPOILED: PluginSpec[SpoiledPlanner] = PluginSpec(
    summary="Another planner's plan, spoiled on purpose: tests what a gate notices.",
    config=SpoiledConfig,
    build=_build,
)
