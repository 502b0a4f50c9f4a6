"""Options of the simulated rig and its demonstrators."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from cascade.contracts import Limits, PluginConfig
from cascade.contracts.errors import did_you_mean
from robot_io.sim.starts import Starts
from robot_io.sim.tasks import check_task
from robot_io.sim.views import CAMERAS

RendererName = Literal["raster", "ray", "egl", "osmesa", "auto"]


class LimitsConfig(PluginConfig):
    """What the arm may do; see `cascade.contracts.Limits`."""

    workspace_m: tuple[tuple[float, float, float], tuple[float, float, float]] = Field(
        description="Lower and upper corner of the box the point between the fingers must stay in, base frame [m]."
    )
    max_speed_m_s: float = Field(gt=0, description="Largest speed of the end effector [m/s].")
    max_acceleration_m_s2: float = Field(gt=0, description="Largest acceleration [m/s^2].")
    max_jerk_m_s3: float = Field(gt=0, description="Largest jerk [m/s^3].")
    max_step_m: float = Field(gt=0, description="Largest distance between consecutive targets [m].")
    max_rotation_rad: float = Field(gt=0, description="Largest rotation between consecutive targets [rad].")

    def record(self) -> Limits:
        """Return the limits as the contracts' record."""
        return Limits(**(self.model_dump() | {"workspace_m": np.array(self.workspace_m, dtype=np.float64)}))


class SimConfig(PluginConfig):
    """Options of the simulated rig."""

    name: str = Field("sim", description="Name of the rig.")
    limits: LimitsConfig = Field(description="What the arm may do.")
    task: str | None = Field(None, description="Task to reset to when none is given, such as 'door-open'.")
    starts: Starts = Field(
        "stock",
        description="'stock': the hand begins where Meta-World has it; 'avdc': up to 0.3 m away, drawn from the seed.",
    )
    cameras: tuple[str, ...] = Field(("corner",), min_length=1, description="Views to provide.")
    width: int = Field(128, ge=16, le=2048, description="Image width [px].")
    height: int = Field(128, ge=16, le=2048, description="Image height [px].")
    renderer: RendererName = Field(
        "raster",
        description="'raster' (CPU, needs no OpenGL, what the shipped weights know), 'ray' (slow reference), 'egl', "
        "'osmesa', or 'auto': the first of egl, osmesa, raster that works here.",
    )
    clock: Literal["frozen", "realtime"] = Field(
        "frozen", description="Whether the world waits for compute or goes on in wall time."
    )
    arm_process: bool = Field(
        True,
        description="Run arm and physics in a process of their own, behind the same checks, limits and times as a real "
        "arm; false: in this process, without them.",
    )
    target_ttl_s: float = Field(
        1.0,
        gt=0.0,
        description="How long the arm follows a target that no other one comes after, rig's time [s].",
    )
    depth: bool = Field(True, description="Provide depth (costs time only with OpenGL).")
    segmentation: bool = Field(True, description="Provide segmentation (costs time only with OpenGL).")

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str | None) -> str | None:
        return None if task is None else check_task(task)

    @field_validator("cameras")
    @classmethod
    def _known_cameras(cls, cameras: tuple[str, ...]) -> tuple[str, ...]:
        for camera in cameras:
            if camera not in CAMERAS:
                raise ValueError(f"camera {camera!r}: not in Meta-World. {did_you_mean(camera, CAMERAS)}")
        if len(set(cameras)) != len(cameras):
            raise ValueError(f"cameras: expected each view once, found {list(cameras)}.")
        return cameras


class ExpertConfig(PluginConfig):
    """Options of the scripted expert."""

    noise: float = Field(
        0.0, ge=0.0, le=0.1, description="Standard deviation of noise on the expert's actions (1 = 1 cm per step)."
    )
    extra_steps: int = Field(10, ge=0, description="Control steps to go on after the first success.")


class PlayConfig(PluginConfig):
    """Options of task-agnostic play."""

    steps: int = Field(210, ge=1, le=480, description="Control steps per trajectory.")
    aim_noise_m: float = Field(0.035, ge=0.0, description="Standard deviation of where play aims near objects [m].")
