"""Videos made while training, through the planner itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from cascade.contracts import ArmState, CameraImage, Episode, Observation, VideoPlan
from cascade.contracts.video import write_mp4
from planner.diffusers_planner.loading import Loaded
from planner.diffusers_planner.options import DiffusersConfig
from planner.diffusers_planner.planner import DiffusersPlanner
from planner.finetuning.clips import Clip
from planner.finetuning.options import FinetuneConfig
from planner.finetuning.weights import place_encoders

SIZE_PX, FRAMES, FPS = 256, 17, 8.0


class Sampler:
    """Makes videos of the same clips with the same noise every time, so that they can be compared.

    Args:
        options: of the training. loaded: the pipeline that is trained.
        scenes: (clip, its episode) of every video.
        folder: where mp4 files go.
    """

    def __init__(
        self, options: FinetuneConfig, loaded: Loaded, scenes: list[tuple[Clip, Episode]], folder: Path
    ) -> None:
        self._folder, self._options, self._pipe = folder, options, loaded.pipe
        self._scenes = [(clip, _observation(episode, options.camera, clip.indices[0])) for clip, episode in scenes]
        self._last = [_observation(episode, options.camera, clip.indices[-1]) for clip, episode in scenes]
        self._goal = loaded.family.needs_goal
        self._camera = options.camera
        self._planner = DiffusersPlanner(
            DiffusersConfig(
                model=options.model,
                camera=options.camera,
                width_px=options.width_px,
                height_px=options.height_px,
                num_frames=options.num_frames,
                steps=options.sample_steps,
                prompt_profile=options.prompt_profile,
                device=options.device,
                size_px=SIZE_PX,
                frames=FRAMES,
            ),
            loaded,
        )

    def make(self, step: int, network: Any) -> list[VideoPlan]:
        """Write samples/step-<step>-<n>.mp4 and return the plans; leaves random states and the network's mode alone."""
        plans = []
        network.eval()
        place_encoders(self._pipe, self._options, network.device)
        with torch.random.fork_rng(devices=[]):
            for number, (clip, observation) in enumerate(self._scenes):
                goal = self._last[number].image(self._camera) if self._goal else None
                plan = self._planner.plan(observation, clip.instruction, seed=number, goal=goal)[0]
                self._folder.mkdir(parents=True, exist_ok=True)
                write_mp4(self._folder / f"step-{step:06d}-{number}.mp4", plan.frames, FPS)
                plans.append(plan)
        place_encoders(self._pipe, self._options, torch.device("cpu"))
        network.train()
        return plans


def strip(plan: VideoPlan, count: int = 5) -> Any:
    """Return `count` frames of a plan side by side, (H, W * count, 3)."""
    return np.concatenate(plan.frames[np.linspace(0, len(plan.frames) - 1, count).round().astype(int)], axis=1)


def _observation(episode: Episode, camera: str, index: int) -> Observation:
    rgb = np.ascontiguousarray(episode.frames[camera][index])
    K = episode.K.get(camera, np.array([[500.0, 0, rgb.shape[1] / 2], [0, 500.0, rgb.shape[0] / 2], [0, 0, 1]]))
    image = CameraImage(rgb=rgb, K=np.asarray(K, np.float64), stamp_s=0.0, T_base_cam=np.eye(4))
    arm = ArmState(q=np.zeros(7), T_base_ee=np.eye(4), gripper_opening=1.0, stamp_s=0.0)
    return Observation(images={camera: image}, arm=arm)
