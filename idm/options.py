"""Options of the extractor and the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cascade.contracts import PluginConfig


class ExtractorConfig(PluginConfig):
    """Options of the extractor 'idm'."""

    weights: Path | None = Field(
        None,
        description="Folder of weights, or name of shipped ones that read latents; default: those for frames.",
    )
    fuse: Literal["variance", "pixels", "latents"] = Field(
        "variance", description="Whose reading counts when the planner reads its own plan too."
    )
    steps: int | None = Field(
        None, ge=1, description="Targets per chunk; when not given the whole plan, or 3 with closed_loop."
    )
    closed_loop: bool = Field(
        False, description="Read the next plan frames against the present image before each chunk; needs pixels."
    )
    device: str = Field("cpu", description="torch device.")
    threads: int | None = Field(None, ge=1, description="torch threads; torch's own choice when not given.")
    bf16: bool | None = Field(None, description="bfloat16 convolutions; where the processor has them when not given.")
    bias_frames: float = Field(
        0.0, ge=0, description="Frames over which the error seen in frame 0 is taken off; 0 to trust the network."
    )
    speed_m_s: float = Field(0.5, gt=0, description="Nominal speed of the hand.")
    tolerance_m: float = Field(0.02, gt=0, description="Distance at which a target counts as reached.")
    grasp_tolerance_m: float = Field(0.01, gt=0, description="The same where the gripper closes.")
    close_ratio: float = Field(0.8, gt=0, lt=1, description="Share of the open level below which the gripper closes.")
    dig_m: float = Field(0.015, ge=0, description="How far below the lowest neighbouring frame the gripper closes.")
    carry_share: float = Field(
        1.0, ge=0, le=1, description="Share of the dig that the hand stays lower while it carries."
    )
    floor_m: float | None = Field(0.0, description="Height below which no target lies, base frame.")
    dwell_s: float = Field(15 / 80, ge=0, description="Time to wait while the gripper closes.")
    overshoot_m: float = Field(0.05, ge=0, description="How far the last motion is carried on.")
    anchor: Literal["none", "segment", "depth"] = Field(
        "none",
        description="Move the closing of the gripper onto the thing that stands there: the mask 'segment', or, by "
        "depth alone, what stands out of the table.",
    )
    segment: str = Field("object", description="Name of the mask for anchor=segment.")
    regrasp: int = Field(
        0, ge=0, le=10, description="How often within a plan a grasp that took nothing is tried again; 0: never."
    )


class TrainerConfig(PluginConfig):
    """Options of the trainer 'idm'."""

    minutes: float = Field(25.0, gt=0, description="Wall-clock training time.")
    steps: int | None = Field(None, ge=1, description="Train this many steps instead, however long they take.")
    camera: str = Field("corner", description="The view to learn.")
    cameras: tuple[str, ...] = Field((), description="Several views for one network; `camera` then counts for nothing.")
    image_size_px: int = Field(128, ge=64, multiple_of=32, description="Side of the square frames.")
    batch: int = Field(48, ge=4, description="Frames per step.")
    learning_rate: float = Field(1.5e-3, gt=0, description="Peak of the schedule.")
    ema: float = Field(0.998, ge=0, lt=1, description="Decay of the weights' running average, which is what is saved.")
    pair_weight: float = Field(0.3, ge=0, description="Weight of the pair head's loss.")
    reach_s: float = Field(0.35, gt=0, description="Largest time between the two frames of a pair.")
    held_out: float = Field(0.06, gt=0, lt=1, description="Share of the episodes kept for scores and calibration.")
    limit_episodes: int | None = Field(None, ge=2, description="Read no more episodes than this.")
    init: Path | None = Field(None, description="Folder of weights to fine-tune, perhaps of other views.")
    extra_frames: tuple[Path, ...] | Path | None = Field(
        None,
        description="npz or safetensors to mix in: frames (N, H, W, 3) uint8, position_m (N, 3), opening (N,); "
        "with several views one file for each, in their order.",
    )
    extra_share: float = Field(0.3, ge=0, le=0.8, description="Share of the batch taken from extra_frames.")
    threads: int | None = Field(None, ge=1, description="torch threads; 1 is fastest where the processor is shared.")
    device: str = Field("cpu", description="torch device.")
    bf16: bool | None = Field(None, description="bfloat16 convolutions; where the processor has them when not given.")
    checkpoint_s: float = Field(120.0, gt=0, description="Time between checkpoints.")
    compact: bool = Field(False, description="Store 8 bits per weight, half of bfloat16; scores are of those.")
    seed: int = Field(0, description="Seed of the split, the weights and the batches.")


class PlannerChoice(PluginConfig):
    """The planner whose latents are learnt to be read."""

    name: str = Field("embedded", description="Registered name, see `cascade plugins planner`.")
    options: dict[str, Any] = Field(default_factory=dict, description="Its options, such as tap or stop_at.")


class LatentTrainerConfig(PluginConfig):
    """Options of the trainer 'idm-latents'."""

    planner: PlannerChoice = Field(default_factory=PlannerChoice, description="Whose latents are read.")
    minutes: float = Field(4.0, gt=0, description="Wall-clock training time, making the plans not counted.")
    steps: int | None = Field(None, ge=1, description="Train this many steps instead, however long they take.")
    windows: int = Field(4, ge=1, description="Plans made of each episode: one from its start, others from later on.")
    held_out: float = Field(0.1, gt=0, lt=1, description="Share of the episodes kept for scores and calibration.")
    limit_episodes: int | None = Field(None, ge=2, description="Read no more demonstrations than this.")
    batch: int = Field(32, ge=2, description="Plans per step.")
    learning_rate: float = Field(1.5e-3, gt=0, description="Peak of the schedule.")
    ema: float = Field(0.995, ge=0, lt=1, description="Decay of the weights' running average, which is what is saved.")
    noise: float = Field(0.1, ge=0, description="Most noise added to latents, in their standard deviations.")
    width: int = Field(40, ge=8, description="Channels of the network's maps.")
    hidden: int = Field(112, ge=16, description="Width of the network's layers over time.")
    threads: int | None = Field(None, ge=1, description="torch threads; 1 is fastest where the processor is shared.")
    device: str = Field("cpu", description="torch device.")
    checkpoint_s: float = Field(60.0, gt=0, description="Time between checkpoints.")
    seed: int = Field(0, description="Seed of the split, the weights, the plans and the batches.")
