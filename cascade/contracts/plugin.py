"""How a stage is offered to cascade: an entry point that resolves to a PluginSpec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T_co = TypeVar("T_co", covariant=True)


class PluginConfig(BaseModel):
    """Base of plug-in options: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class PluginSpec(Generic[T_co]):
    """What an entry point of one of the groups in `cascade.plugins.GROUPS` resolves to.

    Attributes:
        summary: one line for `cascade plugins`.
        config: pydantic model of the options (subclass PluginConfig).
        build: makes the stage from its validated options; heavy imports belong inside it.
    """

    summary: str
    config: type[BaseModel]
    build: Callable[[Any], T_co]
