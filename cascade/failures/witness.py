"""What happened in an episode, with the objects of the simulation: for what is said afterwards, never for acting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import IncompatibleError
from cascade.contracts.interfaces import Rig
from cascade.contracts.records import ActionChunk, VideoPlan
from cascade.events import Look, NoRecord
from cascade.follower import ControlStep

Floats = NDArray[np.float64]
WAY_BACK = "return to start"  # what chunks of `cascade.recovery` say of themselves
PICTURE_EVERY = 10  # control steps between kept pictures


@runtime_checkable
class World(Protocol):
    """A simulated world that tells where its objects are."""

    def object_positions_m(self) -> Floats:
        """(K, 3) positions of the task's objects [m]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment:
    """One control step.

    Attributes:
        plan: number of the plan that is followed; `back`: whether this is the way back from it.
        hand_m: (3,) measured; `objects_m`: (K, 3); `opening`: as commanded, 0..1.
    """

    plan: int
    back: bool
    hand_m: Floats
    objects_m: Floats
    opening: float


@dataclass(slots=True, kw_only=True, eq=False)
class Account:
    """What a witness saw of one episode.

    Attributes:
        start_m: (3,) hand before anything moved; `objects_m`: (K, 3) objects then.
        plans: number -> plan; `chunks`: number of a plan -> chunks read in it, ways back left out.
        moments: every control step; `pictures`: step -> (H, W, 3) what the plan's camera saw.
    """

    start_m: Floats = field(default_factory=lambda: np.zeros(3))
    objects_m: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    plans: dict[int, VideoPlan] = field(default_factory=dict)
    chunks: dict[int, list[ActionChunk]] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    pictures: dict[int, NDArray[np.uint8]] = field(default_factory=dict)


def world_of(rig: Rig) -> World:
    """Return the world behind a simulated rig.

    Raises:
        IncompatibleError: there is none that could be asked.
    """
    world = getattr(rig, "world", None)
    if not isinstance(world, World):
        raise IncompatibleError(
            f"diagnosis: expected a simulated rig that knows its objects, found {rig.name!r}.",
            "Leave --diagnose out.",
        )
    return world


class Witness(NoRecord):
    """Watches one episode on a simulated rig (a Recorder)."""

    def __init__(self, rig: Rig) -> None:
        self.account = Account()
        self._world, self._arm = world_of(rig), rig.arm
        self._back: set[int] = set()

    def event(self, kind: str, **values: Any) -> None:
        """Note how everything stands when the episode begins."""
        if kind == "episode_begin":
            self.account.start_m = np.array(self._arm.read().position_m)
            self.account.objects_m = self._world.object_positions_m()

    def plan(self, index: int, plan: VideoPlan) -> None:
        """Keep it."""
        self.account.plans[index] = plan

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        """Keep it, unless it leads back."""
        if chunk.provenance.get("extractor") == WAY_BACK:
            self._back.add(index)
        else:
            self.account.chunks.setdefault(plan, []).append(chunk)

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: ControlStep, look: Look) -> None:
        """Note where hand and objects are."""
        moment = Moment(
            plan=plan,
            back=chunk in self._back,
            hand_m=np.array(step.state.position_m),
            objects_m=self._world.object_positions_m(),
            opening=step.gripper,
        )
        self.account.moments.append(moment)
        if number % PICTURE_EVERY == 0:
            self.account.pictures[number] = look()

    def picture(self, number: int, t_s: float, look: Look) -> None:
        """Keep the first look."""
        self.account.pictures[number] = look()
