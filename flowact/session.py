"""What the two ways of handling an object share: what they are told, and what they answer with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flowact.rigid import Floats
from flowact.scene import ObjectView
from flowact.targets import Waypoint

OPEN, CLOSED = 1.0, 0.0


class TrackedPose(Protocol):
    """Where the object is: `shift_m` (3,) since the plan was made, joint position `q`, and whether it was `seen`."""

    @property
    def shift_m(self) -> Floats:
        """(3,) shift of its centre."""
        ...

    @property
    def q(self) -> float:
        """Joint position, 0 for what is carried."""
        ...

    @property
    def seen(self) -> bool:
        """Whether the last look saw it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Now:
    """The arm and the object at this moment.

    Attributes:
        hand_m: (3,) measured.
        opening: of the gripper, measured.
        view: the object's surface under its mask; None while it is hidden, or where there is no mask.
        tracked: the object's pose as followed from image to image, None where it is not followed.
    """

    hand_m: Floats
    opening: float
    view: ObjectView | None
    tracked: TrackedPose | None = None


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
