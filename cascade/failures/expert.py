"""What an episode would have needed: the scripted expert's own, from the same start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.interfaces import Demonstrator, Rig
from cascade.failures.witness import world_of
from cascade.plugins import build_plugin

Floats = NDArray[np.float64]
MOVING_M = 0.001  # way of an object in one control step that counts as moving
PAUSE_STEPS = 3  # shorter halts are part of a motion
LEAST_M = 0.005  # an object that never gets farther than this has not been moved
LIFTED_M = 0.03  # higher than this above where it stood, it is carried
SELDOM = 10_000  # control steps between the expert's images: it needs none


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Need:
    """How the expert solves a layout.

    Attributes:
        succeeded: whether it does.
        hand_m: (N, 3) its way; `object_m`: (N, 3) way of the object it moves most.
        which: number of that object.
        contact: step at which the object begins to move; `goal`: step of the success, or the last one.
        lifts: whether it carries the object through the air.
    """

    succeeded: bool
    hand_m: Floats
    object_m: Floats
    which: int
    contact: int
    goal: int
    lifts: bool

    @property
    def contact_m(self) -> Floats:
        """(3,) hand at the first touch."""
        return np.asarray(self.hand_m[self.contact])

    @property
    def goal_m(self) -> Floats:
        """(3,) hand at the success."""
        return np.asarray(self.hand_m[self.goal])

    @property
    def travel_m(self) -> Floats:
        """(3,) from where the object stood to where it has to be."""
        return np.asarray(self.object_m[self.goal] - self.object_m[0])


def need_of(rig: Rig, task: str, seed: int) -> Need | None:
    """Let the expert solve a layout; None when it moves nothing. The rig stands in the expert's last step afterwards.

    Raises:
        IncompatibleError: the rig is not simulated.
    """
    world = world_of(rig)
    expert: Demonstrator = build_plugin("demonstrator", "expert")
    hands, objects, done = [], [], []
    for step in expert.demonstrate(rig, task=task, seed=seed, every=SELDOM):
        hands.append(np.array(rig.arm.read().position_m))
        objects.append(world.object_positions_m())
        done.append(step.success)
    return read_need(np.array(hands), np.array(objects), np.array(done))


def read_need(hand_m: Floats, objects_m: Floats, done: NDArray[np.bool_]) -> Need | None:
    """Return what (N, 3) hands, (N, K, 3) objects and (N,) successes of an expert tell; None where nothing moves."""
    way = np.linalg.norm(objects_m - objects_m[:1], axis=2)  # (N, K)
    which = int(way.max(axis=0).argmax())
    if way[:, which].max() < LEAST_M:
        return None
    goal = int(np.flatnonzero(done)[0]) if done.any() else len(done) - 1
    object_m = objects_m[:, which]
    contact = min(_begin(object_m), goal)
    return Need(
        succeeded=bool(done.any()),
        hand_m=hand_m,
        object_m=object_m,
        which=which,
        contact=contact,
        goal=goal,
        lifts=bool((object_m[: goal + 1, 2] - object_m[0, 2]).max() > LIFTED_M),
    )


def _begin(object_m: Floats) -> int:
    """Return the step at which the farthest motion of an object begins; settling before it is another motion."""
    moving = np.flatnonzero(np.linalg.norm(np.diff(object_m, axis=0), axis=1) > MOVING_M)
    if not len(moving):
        return 0
    runs = np.split(moving, np.flatnonzero(np.diff(moving) > PAUSE_STEPS) + 1)
    far = [float(np.linalg.norm(object_m[run[-1] + 1] - object_m[run[0]])) for run in runs]
    return int(runs[int(np.argmax(far))][0])
