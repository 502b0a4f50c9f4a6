"""Options of the value's trainer."""

from __future__ import annotations

from pydantic import Field

from cascade.contracts import PluginConfig


class ValueTrainerConfig(PluginConfig):
    """Options of `cascade train value`."""

    camera: str = Field("corner", description="view that it learns")
    frames: int = Field(20, ge=4, le=64, description="frames of each demonstration")
    hold_every: int = Field(10, ge=2, description="one seed in so many is kept for measuring")
    epochs: int = Field(10, ge=1, description="times that every frame is seen")
    batch: int = Field(128, ge=8, description="frames per step")
    learning_rate: float = Field(2e-3, gt=0, description="at its highest")
    wrong_sentence: float = Field(0.15, ge=0, lt=0.5, description="share of frames told another task's sentence")
    wrong_motion: float = Field(0.2, ge=0, lt=0.5, description="share of frames in which another task is done")
    seed: int = Field(0, ge=0, description="where chance comes from")
    threads: int | None = Field(None, ge=1, description="threads of the numerical library")
