"""A planner that slides the picture of the gripper in the direction that the sentence names."""

import numpy as np
from pydantic import Field

from cascade.contracts import DataError, ImageTransform, Needs, PluginConfig, PluginSpec, VideoPlan

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


class PanConfig(PluginConfig):
    camera: str = Field("corner", description="camera the plan looks through")
    frames: int = Field(17, ge=2, description="length of the plan, the observation included")
    distance_px: float = Field(20.0, gt=0, description="how far the gripper goes [px]")
    patch_px: int = Field(12, ge=4, description="half the width of the patch that moves [px]")


class PanPlanner:
    def __init__(self, config):
        self.config = config
        self.needs = Needs(extrinsics=True, cameras=(config.camera,))

    def plan(self, observation, instruction, *, seed, goal=None, samples=1):
        config = self.config
        image = observation.image(config.camera)
        if image.T_base_cam is None:
            raise DataError(f"camera {config.camera!r}: expected extrinsics, found none.", "Calibrate the camera.")
        in_camera = np.linalg.inv(image.T_base_cam) @ observation.arm.T_base_ee[:, 3]
        u, v = ((image.K @ in_camera[:3])[:2] / in_camera[2]).astype(int)
        words = instruction.lower().split()
        direction = next((way for word, way in DIRECTIONS.items() if word in words), DIRECTIONS["right"])
        half, (height, width) = config.patch_px, image.rgb.shape[:2]
        top, left = max(v - half, 0), max(u - half, 0)
        patch = image.rgb[top : v + half, left : u + half]
        if not patch.size:
            raise DataError(f"camera {config.camera!r}: expected the gripper in view, found it at {u}, {v} px.")
        frames = np.repeat(image.rgb[None], config.frames, axis=0)
        for t in range(1, config.frames):
            way = np.array(direction) * config.distance_px * t / (config.frames - 1)
            x = int(np.clip(left + round(way[0]), 0, width - patch.shape[1]))
            y = int(np.clip(top + round(way[1]), 0, height - patch.shape[0]))
            frames[t, y : y + patch.shape[0], x : x + patch.shape[1]] = patch
        return [
            VideoPlan(
                instruction=instruction,
                camera=config.camera,
                transform=ImageTransform(crop_px=(0, 0, width, height), size_px=(width, height)),
                frames=frames,
                seed=seed,
                provenance={"planner": "pan"},
            )
            for _ in range(samples)
        ]


PAN = PluginSpec("slides the picture of the gripper the way the sentence says", PanConfig, PanPlanner)
