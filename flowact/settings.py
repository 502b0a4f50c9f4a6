"""Options of the flow extractor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cascade.contracts import PluginConfig


class FlowConfig(PluginConfig):
    """Options of the extractor `flow`."""

    mask: Literal["segment", "motion"] = Field(
        "segment", description="Where the object is: a named segment of the camera, or what moves in the plan."
    )
    segment: str = Field("object", description="Name of the object's segment, for `mask: segment`.")
    hand_hint: Literal["none", "gripper", "depth"] = Field(
        "gripper",
        description="What of the plan's read-out is used when there is one: nothing (push or grasp from the object's "
        "motion alone), the gripper's opening, or also the hand's path for the carried object's depth.",
    )
    points: int = Field(80, ge=3, le=1000, description="Points followed on the object, at most.")
    watch_hz: float | None = Field(
        20.0,
        gt=0.0,
        le=200.0,
        description="How often the object is looked at while a chunk is followed [Hz]; none: only between chunks.",
    )
    working_px: int = Field(256, ge=64, le=1024, description="Frames are enlarged to this width for the flow [px].")
