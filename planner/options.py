"""Options of the planners `embedded`, `file` and `hold` and of the trainer `planner`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cascade.contracts import PluginConfig
from planner.strides import Stride


class HoldConfig(PluginConfig):
    """Options of the planner that holds still."""

    camera: str = Field("corner", description="camera whose image is repeated")
    size_px: int = Field(128, ge=16, description="width and height of plan frames [px]")
    frames: int = Field(17, ge=2, description="frames of the plan, the current image included")


class FileConfig(PluginConfig):
    """Options of the planner that reads a recorded plan."""

    path: Path | None = Field(None, description="video, plan.safetensors, or folder that holds one")
    camera: str = Field("corner", description="camera through which the video was seen")
    size_px: int = Field(128, ge=16, description="width and height of plan frames [px]")
    frames: int = Field(17, ge=2, description="frames of the plan, sampled evenly from the video")
    start_frame: int = Field(0, ge=0, description="first frame of the video to use")
    frame_count: int | None = Field(None, ge=2, description="how many frames of the video to use; default: to the end")


class EmbeddedConfig(PluginConfig):
    """Options of the planner whose weights travel with the package."""

    weights: Path | None = Field(
        None, description="folder of weights, or name of a shipped set; default: the shipped set that fits the image"
    )
    camera: str | None = Field(None, description="camera to plan in; default: the one the weights were trained on")
    steps: int | None = Field(None, ge=1, le=64, description="denoising steps; default: what the weights recommend")
    readout: bool = Field(True, description="also read hand and gripper from the planned latents")
    stop_at: float | None = Field(
        None, ge=0, lt=1, description="noise level at which to stop, 1 noise .. 0 finished; default: 0, with a tap 1"
    )
    tap: str | None = Field(None, description="module of the U-Net whose output is handed on instead of latents")
    stride: Stride = Field(
        "whole", description="what of the rest of the task a plan covers; weights must have learnt a finer one"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; default: leave as they are")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="arithmetic; auto: bfloat16 where the processor has it"
    )


class TrainMinutes(PluginConfig):
    """Wall-clock minutes of each stage."""

    autoencoder: float = Field(default=12.0, ge=0, description="auto-encoder of frames")
    sketch: float = Field(default=0.0, ge=0, description="where the hand will go, before anything is drawn")
    regression: float = Field(default=45.0, ge=0, description="planner, one step")
    flow: float = Field(default=15.0, ge=0, description="planner, rectified flow on top")
    readout: float = Field(default=4.0, ge=0, description="hand readout from planned latents")


class TrainerConfig(PluginConfig):
    """Options of `cascade train planner`."""

    minutes: TrainMinutes = Field(default_factory=TrainMinutes, description="wall-clock minutes of each stage")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; default: leave as they are")
    batch: int = Field(32, ge=1, description="plans per step")
    autoencoder_batch: int = Field(12, ge=1, description="frames per step of the auto-encoder")
    learning_rate: float = Field(6e-4, gt=0, description="peak learning rate")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute")
    seed: int = Field(0, description="seed of initial weights, order and noise")
    cameras: tuple[str, ...] = Field(
        ("corner",),
        min_length=1,
        description="cameras to learn; with several the planner is told which one looks and where the hand is",
    )
    view: Literal["square", "whole"] = Field(
        "square", description="square: the centre of the image; whole: all of it, squeezed into a square"
    )
    width: int = Field(64, ge=8, description="base width of the U-Net")
    multipliers: tuple[int, ...] = Field((1, 2, 4), description="width of each level in base widths")
    autoencoder_width: int = Field(64, ge=8, description="width of the auto-encoder")
    checkpoint_minutes: float = Field(2.0, gt=0, description="minutes between checkpoints")
    evaluate_minutes: float = Field(4.0, gt=0, description="minutes between measurements on held-out episodes")
    held_out: float = Field(0.03, ge=0, lt=1, description="share of seeds never trained on")
    compact: bool = Field(False, description="write the networks with 8 bits per weight instead of 16")
    held_out_seeds: tuple[int, int] | None = Field(None, description="first and last seed also never trained on")
    unlabelled: tuple[str, ...] = Field(
        (), description="tasks of which only the videos and their sentences are used: no hand, no gripper, no actions"
    )
    strides: tuple[Stride, ...] = Field(
        ("whole",), min_length=1, description="what of the rest of a task plans cover: whole, half, quarter"
    )
    hands: tuple[Path, ...] = Field(
        (), description="files of hands read from the videos, see benchmarks/read_hands.py; none recorded is then used"
    )
    initial: Path | None = Field(None, description="folder of planner weights to start from")
    initial_autoencoder: Path | None = Field(
        None, description="folder of planner weights of which only the auto-encoder, learnt from frames, is begun with"
    )
    looks: tuple[Path, ...] = Field((), description="files of first looks, see benchmarks/first_looks.py")
    max_steps: int | None = Field(None, ge=1, description="end every stage after this many steps (for trials)")
    start_frame: int = Field(
        0, ge=0, le=4, description="frame at which an episode starts; 1 skips a first image that is not yet settled"
    )
    start_share: float = Field(0.65, ge=0, le=1, description="share of windows that begin at an episode's start")
