"""What the two ways of handling an object share: what they are told, and what they answer with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flowact.rigid import Floats
from flowact.scene import ObjectView
from flowact.targets import Waypoint

OPEN, CLOSED = 1.0, 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Now:
    """The arm and the object at this moment; `view` is None while the object is hidden."""

    hand_m: Floats
    opening: float
    view: ObjectView | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """Waypoints to visit next; `final` when nothing is left to do after them; `note` says what they are for."""

    waypoints: Sequence[Waypoint]
    final: bool
    note: str


class Handling(Protocol):
    """A way of handling an object, told what there is after every chunk."""

    def advance(self, now: Now) -> Step:
        """Return what to do next."""
        ...
