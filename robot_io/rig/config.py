"""Options of a rig with one arm and its cameras."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from cascade.contracts import PluginConfig
from robot_io.rig.limits import LimitsConfig, Point

SCENE_CAMERA = "scene"


class PartConfig(PluginConfig):
    """An arm or a camera by the name of its plug-in."""

    plugin: str = Field(description="Registered name, see `cascade plugins arm` and `cascade plugins camera`.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the plug-in.")


class PlaceConfig(PluginConfig):
    """Where a frame lies in another one."""

    xyz_m: Point = Field((0.0, 0.0, 0.0), description="Origin [m].")
    rpy_deg: Point = Field((0.0, 0.0, 0.0), description="Turns about the fixed x, then y, then z axis [deg].")

    def matrix(self) -> NDArray[np.float64]:
        """Return it as a (4, 4) transform."""
        from scipy.spatial.transform import Rotation

        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("xyz", self.rpy_deg, degrees=True).as_matrix()
        T[:3, 3] = self.xyz_m
        return T


class SceneConfig(PluginConfig):
    """A simulated table under an emulated arm: its hand follows the arm's measured pose, in real time."""

    kind: Literal["metaworld"] = Field("metaworld", description="Whose physics it is.")
    task: str | None = Field(None, description="Task when the run names none, such as 'door-open'.")
    horizon_s: float = Field(60.0, gt=0, le=600.0, description="Motion after which an episode is over [s].")
    width: int = Field(128, ge=16, le=2048, description="Image width [px].")
    height: int = Field(128, ge=16, le=2048, description="Image height [px].")
    depth: bool = Field(True, description="Provide depth.")
    segmentation: bool = Field(True, description="Provide segmentation.")


class RigOptions(PluginConfig):
    """Options of a rig with one arm and its cameras."""

    name: str = Field("real", description="Name of the rig.")
    arm: PartConfig = Field(description="The arm.")
    cameras: dict[str, PartConfig] = Field(
        min_length=1, description="Cameras by the names under which planners know the views."
    )
    limits: LimitsConfig = Field(description="What the arm may do.")
    control_hz: float = Field(20.0, ge=1.0, le=100.0, description="Targets per second from the cascade to the arm.")
    process_hz: float = Field(125.0, ge=20.0, le=500.0, description="Setpoints per second of the arm process.")
    disarm_s: float = Field(
        2.0, ge=0.5, le=300.0, description="Hold after which the arm is disarmed [s]; servo arms go to rest then."
    )
    connect_s: float = Field(10.0, ge=1.0, le=60.0, description="Longest wait for the arm to answer [s].")
    speed: float = Field(1.0, gt=0.0, le=1.0, description="Share of the speed caps to use, as --speed.")
    mount: PlaceConfig = Field(
        default_factory=PlaceConfig,
        description="Where the arm's own base stands in the rig's base frame; turned by right angles only.",
    )
    tool_rpy_deg: Point = Field(
        (0.0, 0.0, 0.0),
        description="How the hand is turned in the arm's end-effector frame, about fixed x, y, z [deg]. Their common "
        "origin, the point between the finger tips, is an option of the driver (the tool's centre point).",
    )
    target_ttl_s: float = Field(
        0.1, gt=0.0, le=0.5, description="How long the arm follows a target that no other one comes after [s]."
    )
    home: PlaceConfig | None = Field(
        None, description="Pose of the hand that a run begins at, base frame; null: where the arm is."
    )
    loopback: str | None = Field(
        None, description="Emulated controller to start for this arm, such as ur5e; null: the arm is real."
    )
    scene: SceneConfig | None = Field(None, description="Simulated table; only with an emulated controller.")

    @field_validator("mount")
    @classmethod
    def _right_angles(cls, mount: PlaceConfig) -> PlaceConfig:
        if any(abs(angle / 90.0 - round(angle / 90.0)) > 1e-9 for angle in mount.rpy_deg):
            raise ValueError("rpy_deg: expected multiples of 90, so that the workspace stays a box.")
        return mount

    def tool_matrix(self) -> NDArray[np.float64]:
        """Return the hand in the arm's end-effector frame, (4, 4)."""
        return PlaceConfig(rpy_deg=self.tool_rpy_deg).matrix()

    @model_validator(mode="after")
    def _one_world(self) -> Self:
        drawn = [name for name, part in self.cameras.items() if part.plugin == SCENE_CAMERA]
        if self.scene is not None and self.loopback is None and self.arm.plugin != "virtual":
            raise ValueError("scene: expected an emulated arm under a simulated table; set loopback, or remove scene.")
        if self.scene is None and drawn:
            raise ValueError(f"cameras.{drawn[0]}: expected a scene to draw, found none; set scene.")
        if self.scene is not None and self.home is not None:
            raise ValueError("home: the scene says where the hand begins; remove home.")
        if self.home is not None:
            low, high = np.array(self.limits.workspace_m)
            if np.any(np.array(self.home.xyz_m) < low) or np.any(np.array(self.home.xyz_m) > high):
                raise ValueError("home: lies outside limits.workspace_m.")
        return self
