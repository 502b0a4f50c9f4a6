"""Looking on: an extractor that keeps its eyes open while its targets are followed. Optional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from cascade.contracts.records import Observation, VideoPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What an extractor makes of a look taken while its chunk is followed.

    Attributes:
        verdict: 'on': go on; 'again': leave this chunk and ask for the next one now; 'replan': this plan will not do.
        why: in words, for the record; what was expected and what was seen.
        progress: how much of the plan has happened, 0..1, or None when it cannot say.
        spread: standard deviation of `progress`, or None.
        object_m: (x, y, z) where the followed object is now, base frame, or None.
    """

    verdict: Literal["on", "again", "replan"]
    why: str = ""
    progress: float | None = None
    spread: float | None = None
    object_m: tuple[float, float, float] | None = None


@runtime_checkable
class PlanWatcher(Protocol):
    """An extractor that looks on while its targets are followed. Optional."""

    @property
    def watch_hz(self) -> float | None:
        """How often it wants to look [Hz]; None: not now."""
        ...

    def watch(self, plan: VideoPlan, observation: Observation) -> Watched:
        """Say how the plan is getting on; called between control steps, so it must be quick."""
        ...
