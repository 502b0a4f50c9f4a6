"""Options of the planner `policy` and of its trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cascade.contracts import PluginConfig

Kind = Literal["bc", "cotrained", "joint"]


class PolicyConfig(PluginConfig):
    """Options of the planner that is a policy."""

    weights: Path = Field(Path("bc"), description="folder of weights, or a shipped set: bc, cotrained or joint")
    camera: str = Field("corner", description="camera it looks through; the shipped weights know only this one")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; default: leave as they are")


class PolicyTrainerConfig(PluginConfig):
    """Options of `cascade train planner --backend policy`."""

    kinds: tuple[Kind, ...] = Field(
        ("bc", "cotrained", "joint"),
        min_length=1,
        description="policies to train, one after the other on the same data. bc: actions alone; cotrained: learns to "
        "predict video too, and does without it when it acts; joint: imagines video and reads its actions from it",
    )
    minutes: float = Field(4.0, ge=0.01, description="minutes of processor time for each kind")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; default: leave as they are")
    batch: int = Field(16, ge=1, description="states per step")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak learning rate")
    video_weight: float = Field(0.3, ge=0, description="weight of the video's error beside that of the actions")
    seed: int = Field(0, description="seed of initial weights and order")
    camera: str = Field("corner", description="camera to learn from")
    autoencoder: Path | None = Field(None, description="weights whose auto-encoder is used; default: the shipped ones")
    held_out: float = Field(0.03, ge=0, lt=1, description="share of seeds never trained on")
    max_steps: int | None = Field(None, ge=1, description="end each kind after this many steps (for trials)")
