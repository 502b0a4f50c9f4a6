"""Task-agnostic play: reaches, pushes, grasps and gripper exercise near whatever stands on the table.

The data from which an inverse-dynamics model learns what the hand does, not what the task is. Play looks up where
things are to aim at them, with noise; it knows no goal, no reward and no expert.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DemoStep, Rig
from robot_io.sim.config import PlayConfig
from robot_io.sim.demonstrators import act, simulated
from robot_io.sim.geometry import name_of, segment_names, visible_geoms
from robot_io.sim.rig import SimRig

Floats = NDArray[np.float64]
Motion = Generator[tuple[Floats, float], None, None]
"""Yields (target of the tool (3,) [m], wanted opening) once per control step."""

_LOW, _HIGH = np.array([-0.50, 0.40, 0.004]), np.array([0.50, 0.98, 0.45])
_OPEN, _CLOSED = 1.3, 0.0  # beyond what can be reached, so that the gripper is driven with full force
_FURNITURE = frozenset({"world", "tablelink", "RetainingWall", "controller_box", "pedestal_feet", "torso", "pedestal"})


def _up(height_m: float) -> Floats:
    return np.array([0.0, 0.0, height_m])


class TaskAgnosticPlay:
    """Plays on the table of a task for a fixed number of control steps."""

    def __init__(self, config: PlayConfig) -> None:
        self._config = config

    @property
    def kind(self) -> str:
        """Return 'play'."""
        return "play"

    def demonstrate(self, rig: Rig, *, task: str, seed: int, every: int = 1) -> Iterator[DemoStep]:
        """Reset the rig to (task, seed) and play; the seed decides the layout and every motion."""
        sim = simulated(rig, every)
        sim.reset(task=task, seed=seed)
        player = _Player(
            sim, np.random.default_rng([seed, zlib.crc32(sim.world.task.encode())]), self._config.aim_noise_m
        )
        motion = player.motions()
        for step in range(self._config.steps):
            target, wanted = next(motion)
            # The gripper is driven by force: this servo holds openings in between, too.
            opening = float(np.clip(0.5 + 2.0 * (wanted - sim.world.opening), 0.0, 1.0))
            yield act(sim, target, opening, look=step % every == 0)


class _Player:
    """Random motions around the things on one table."""

    def __init__(self, sim: SimRig, rng: np.random.Generator, aim_noise_m: float) -> None:
        self._sim, self._rng, self._aim_noise_m = sim, rng, aim_noise_m
        model = sim.world.model
        names = segment_names(model, sim.world.task)
        robot = {*names["arm"], *names["gripper"]}
        self._things = [
            g
            for g in visible_geoms(model)
            if g not in robot and name_of(model, "body", model.geom_bodyid[g]) not in _FURNITURE
        ]
        self._object = [g for g in names["object"] if g in self._things]
        self._wanted = self._any_opening()

    def motions(self) -> Motion:
        """Endless play; kinds are drawn anew each time."""
        kinds = (self._reach, self._push, self._grasp, self._exercise, self._skim)
        while True:
            yield from kinds[int(self._rng.choice(len(kinds), p=(0.24, 0.21, 0.39, 0.08, 0.08)))]()

    def _aim(self) -> Floats:
        """Return a point near a thing: mostly the object, sometimes any other part of the scene."""
        data, rng = self._sim.world.data, self._rng
        if rng.random() < 0.35:
            point = np.array(rng.permutation(self._sim.world.object_positions_m())[0])
        else:
            candidates = self._object if self._object and rng.random() < 0.65 else self._things
            point = np.array(data.geom_xpos[rng.choice(candidates)]) if candidates else rng.uniform(_LOW, _HIGH)
        return self._inside(point + self._aim_noise_m * rng.standard_normal(3))

    @staticmethod
    def _inside(point: Floats) -> Floats:
        return np.clip(point, _LOW, _HIGH)

    def _anywhere(self) -> Floats:
        point = self._rng.uniform(_LOW, _HIGH)
        if self._rng.random() < 0.3:
            point[2] = self._rng.uniform(_LOW[2], 0.08)  # hands work at table level more often than chance has it
        return np.array(point)

    def _travel(self, goal: Floats, speed: float | None = None) -> Motion:
        """Go to a point at a share of full speed until there or stuck."""
        speed = float(self._rng.uniform(0.4, 1.0)) if speed is None else speed
        where = self._position()
        patience = int(np.linalg.norm(goal - where) / (0.01 * speed)) + 12
        for _ in range(patience):
            offset = goal - self._position()
            distance = float(np.linalg.norm(offset))
            if distance < 0.01:
                return
            yield self._position() + offset * min(1.0, 0.05 * speed / distance), self._wanted

    def _wait(self, steps: int) -> Motion:
        here = self._position()
        for _ in range(steps):
            yield here, self._wanted

    def _position(self) -> Floats:
        return np.array(self._sim.world.T_base_ee[:3, 3])

    def _any_opening(self) -> float:
        return float(self._rng.choice([_OPEN, _CLOSED, self._rng.uniform(0.3, 1.0)], p=[0.3, 0.4, 0.3]))

    def _reach(self) -> Motion:
        """Go anywhere, with the gripper doing anything on the way."""
        if self._rng.random() < 0.8:
            self._wanted = self._any_opening()
        yield from self._travel(self._anywhere())

    def _push(self) -> Motion:
        """Go beside a thing, then through it; sideways, or from above."""
        rng = self._rng
        self._wanted = self._any_opening() if rng.random() < 0.4 else _CLOSED
        point = self._aim()
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.2, 0.2)])
        if rng.random() < 0.3:
            direction = np.array([0.1 * np.cos(angle), 0.1 * np.sin(angle), -1.0])
        start = self._inside(point - direction * rng.uniform(0.08, 0.16))
        if rng.random() < 0.7:
            yield from self._travel(self._inside(start + _up(rng.uniform(0.05, 0.15))), 1.0)
        yield from self._travel(start)
        yield from self._travel(self._inside(point + direction * rng.uniform(0.02, 0.15)))

    def _grasp(self) -> Motion:
        """Open above a thing, go down, close, lift, carry, let go."""
        rng = self._rng
        point = self._aim()
        if rng.random() < 0.6:  # at the thing itself: else play hardly ever holds something
            point = self._inside(np.array(rng.permutation(self._sim.world.object_positions_m())[0]))
            point += 0.008 * rng.standard_normal(3)
        self._wanted = _OPEN
        yield from self._travel(self._inside(point + _up(rng.uniform(0.07, 0.15))), rng.uniform(0.6, 1.0))
        yield from self._travel(self._inside(point), rng.uniform(0.6, 1.0))
        self._wanted = _CLOSED if rng.random() < 0.8 else self._any_opening()
        yield from self._wait(int(rng.integers(9, 20)))
        yield from self._travel(self._inside(self._position() + _up(rng.uniform(0.04, 0.25))))
        destination = self._aim() + _up(rng.uniform(0, 0.15)) if rng.random() < 0.4 else self._anywhere()
        yield from self._travel(self._inside(destination))
        if rng.random() < 0.8:
            self._wanted = _OPEN
            yield from self._wait(int(rng.integers(4, 14)))

    def _exercise(self) -> Motion:
        """Open and close in free air, fully and partly."""
        for _ in range(int(self._rng.integers(1, 4))):
            self._wanted = self._any_opening()
            yield from self._wait(int(self._rng.integers(4, 16)))

    def _skim(self) -> Motion:
        """Go down to the table and along it."""
        rng = self._rng
        point = self._anywhere()
        point[2] = rng.uniform(_LOW[2], 0.05)
        yield from self._travel(point)
        self._wanted = self._any_opening()
        yield from self._travel(self._inside(point + np.append(rng.uniform(-0.25, 0.25, 2), 0.0)))
