"""Options of the extractor `arbiter`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cascade.config import StageConfig
from cascade.contracts.plugin import PluginConfig


def _stage(name: str, **options: Any) -> Any:
    return lambda: StageConfig(name=name, options=options)


class ArbiterConfig(PluginConfig):
    """Who is asked, and from when on two answers count as different."""

    hand: StageConfig = Field(
        default_factory=_stage("idm"), description="Extractor that reads the hand's path; also the one that `read`s."
    )
    object: StageConfig = Field(
        default_factory=_stage("flow", hand_hint="depth"),
        description="Extractor that reads the object's motion; it is shown what the first one read.",
    )
    agree_sigmas: float = Field(
        3.0, gt=0, description="Contacts and paths agree within so many standard deviations of their difference."
    )
    plan_std_m: float = Field(
        0.015, gt=0, description="How far an imagined hand is off the scene, beside the spread of its reading [m]."
    )
    contact_std_m: float = Field(
        0.006, gt=0, description="Error of a contact point that was measured in the scene [m]."
    )
    object_std_m: float = Field(
        0.015,
        ge=0,
        description="Error of an object's way beside what its fit leaves over: depth and joint are guessed [m].",
    )
    reach_m: float = Field(
        0.06, ge=0, description="A push may touch with any part of the hand: this far from the tool centre [m]."
    )
