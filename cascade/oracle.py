"""The oracle planner: the scripted expert's own video of the same layout, as a plan like any other.

It needs a simulated rig and knows the layout, so it measures extractors, never planners.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.config import load_rig
from cascade.contracts.errors import DataError, IncompatibleError
from cascade.contracts.interfaces import Demonstrator, DemoStep, Needs, Rig
from cascade.contracts.keyframes import keyframe_indices
from cascade.contracts.plugin import PluginConfig, PluginSpec
from cascade.contracts.records import CameraImage, EeReadout, ImageTransform, Observation, VideoPlan
from cascade.plugins import build_plugin

SAME_START_M = 0.05  # a hand farther from where the expert began is in another layout


class OracleConfig(PluginConfig):
    """Options of the oracle planner."""

    camera: str = Field("corner", description="View the plan looks through.")
    rig: str = Field("sim", description="Rig that the expert moves: a second one of that kind, not the one that runs.")
    rig_options: dict[str, Any] = Field(default_factory=dict, description="Options of that rig to change.")
    demonstrator: str = Field("expert", description="Demonstrator plug-in.")
    frames: int = Field(16, ge=2, le=128, description="Future frames of the plan.")
    size_px: int = Field(128, ge=32, le=512, description="Side of the square plan frames.")
    view: Literal["square", "whole"] = Field(
        "square", description="What of a wide image the plan shows: its middle, or all of it, squeezed."
    )
    every: int = Field(2, ge=1, le=16, description="Control steps between the images that frames are chosen from.")
    readout: bool = Field(False, description="Add the expert's true positions and openings as the plan's readout.")


class OraclePlanner:
    """Plays the expert on a rig of its own and returns its keyframes as a plan (a Planner, and EpisodeAware)."""

    def __init__(self, config: OracleConfig) -> None:
        self._config = config
        self._rig: Rig | None = None
        self._demonstrator: Demonstrator = build_plugin("demonstrator", config.demonstrator)
        self._steps: list[DemoStep] = []
        self._episode = ("", 0)
        self._success = False
        self._fresh = False  # no plan yet in this episode: the hand is still where it begins

    @property
    def needs(self) -> Needs:
        """The camera that the expert's video is taken with."""
        return Needs(cameras=(self._config.camera,))

    def begin(self, *, task: str, seed: int) -> None:
        """Play the expert on the layout (task, seed); its video is kept until the next episode."""
        if self._rig is None:
            rig = load_rig(self._config.rig)
            options = {**rig.options, "cameras": [self._config.camera], **self._config.rig_options}
            built: Rig = build_plugin("rig", rig.plugin, options)
            self._rig = built.__enter__()
        every = self._config.every
        steps = list(self._demonstrator.demonstrate(self._rig, task=task, seed=seed, every=every))
        self._steps = [step for step in steps if step.observation is not None]
        self._success = any(step.success for step in steps)
        self._episode = (task, seed)
        self._fresh = True

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Return the expert's keyframes, `samples` times the same.

        Raises:
            DataError: no episode has begun, or the expert did not move.
            IncompatibleError: the hand begins elsewhere than on the expert's rig, so the layouts differ.
        """
        if len(self._steps) < 2:
            raise DataError(
                "oracle: expected an episode of a simulated task, found none.",
                "Name the task with --task, or use another planner.",
            )
        position, opening = _proprioception(self._steps)
        away_m = float(np.linalg.norm(observation.arm.position_m - position[0]))
        if self._fresh and away_m > SAME_START_M:
            raise IncompatibleError(
                f"oracle: expected the expert's hand, found it {100 * away_m:.0f} cm off: another layout.",
                "Set up the expert's rig like this one, such as --set 'planner.options.rig_options={starts: avdc}'.",
            )
        self._fresh = False
        chosen = keyframe_indices(position, opening, self._config.frames)
        frames = _frames([self._steps[index] for index in chosen], self._config)
        # The plan is about the camera that looks now, which may have more pixels than the expert's.
        height, width = observation.image(self._config.camera).rgb.shape[:2]
        transform = _transform(width, height, self._config)
        readout = _readout(position[chosen], opening[chosen]) if self._config.readout else None
        provenance = {
            "planner": "oracle",
            "task": self._episode[0],
            "layout_seed": self._episode[1],
            "expert_succeeded": self._success,
        }
        return [
            VideoPlan(
                instruction=instruction,
                camera=self._config.camera,
                transform=transform,
                frames=frames,
                readout=readout,
                seed=seed,
                provenance=provenance,
            )
            for _ in range(samples)
        ]

    def close(self) -> None:
        """Let go of the second rig."""
        if self._rig is not None:
            self._rig.__exit__(None, None, None)
            self._rig = None


def _proprioception(steps: list[DemoStep]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    position = np.array([step.state.position_m for step in steps], dtype=np.float64)
    return position, np.array([step.state.gripper_opening for step in steps], dtype=np.float64)


def _frames(steps: list[DemoStep], config: OracleConfig) -> NDArray[np.uint8]:
    images = [step.observation.image(config.camera) for step in steps if step.observation is not None]
    height, width = images[0].rgb.shape[:2]
    transform = _transform(width, height, config)
    return np.stack([transform.apply(image.rgb) for image in images])


def _transform(width: int, height: int, config: OracleConfig) -> ImageTransform:
    """How plan pixels are made of a camera image."""
    if config.view == "square":
        return ImageTransform.centre_square(width, height, config.size_px)
    return ImageTransform(crop_px=(0.0, 0.0, width, height), size_px=(config.size_px, config.size_px))


def _readout(position: NDArray[np.float64], opening: NDArray[np.float64]) -> EeReadout:
    n = len(position)
    return EeReadout(
        position_m=position,
        opening=opening,
        position_std_m=np.full(n, 1e-3),
        opening_std=np.full(n, 1e-2),
        progress=np.linspace(0.0, 1.0, n),
        source="oracle",
    )


def _build(config: OracleConfig) -> OraclePlanner:
    return OraclePlanner(config)


ORACLE: PluginSpec[OraclePlanner] = PluginSpec(
    summary="The scripted expert's own video of the same layout: measures extractors (simulation only).",
    config=OracleConfig,
    build=_build,
)
