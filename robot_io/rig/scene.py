"""A simulated table under an emulated arm: the simulated hand goes where the arm says that its own one is.

The arm's driver, process and controller know nothing of it. Time is wall time; the world catches up whenever somebody
looks, along the straight line between the poses that were measured in between.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmState, CameraImage, DeviceError
from robot_io.rig.config import SceneConfig
from robot_io.rig.limits import Box
from robot_io.sim import tasks
from robot_io.sim.config import LimitsConfig, SimConfig
from robot_io.sim.rig import SimRig
from robot_io.sim.world import CONTROL_HZ

Floats = NDArray[np.float64]

MOST_STEPS = 24  # of physics at once, so that the arm never waits long for them; what is left is done the next time
STILL_M = 1e-4
MOST_NOTES = 12000  # two minutes
NOTE_S = 0.01
ANY_TURN_RAD = 3.15


class Scene:
    """Meta-World's table and hand; its world frame is the rig's base frame.

    Args:
        config: of the scene.
        cameras: views to draw.
        workspace_m: of the rig.
        control_hz: of the rig, for the horizon.
    """

    def __init__(self, config: SceneConfig, cameras: tuple[str, ...], workspace_m: Box, control_hz: float) -> None:
        limits = LimitsConfig(
            workspace_m=workspace_m,
            max_speed_m_s=1.0,
            max_acceleration_m_s2=80.0,
            max_jerk_m_s3=8000.0,
            max_step_m=1.0,
            max_rotation_rad=ANY_TURN_RAD,
        )
        self._sim = SimRig(
            SimConfig(
                name="scene",
                limits=limits,
                cameras=cameras,
                width=config.width,
                height=config.height,
                depth=config.depth,
                segmentation=config.segmentation,
                arm_process=False,  # the world is moved by an arm process of its own already
            )
        )
        self._sim.world.endless = True
        self._config = config
        self._horizon = round(config.horizon_s * control_hz)
        self._due_s: float | None = None  # time of the simulated world; None: it stands still
        self._ticks = 0
        self._trail: deque[tuple[float, ...]] = deque(maxlen=MOST_NOTES)

    def reset(self, task: str | None, seed: int) -> None:
        """Build the layout of (task, seed); the hand begins where the task wants it, and waits for `begin`."""
        self._sim.reset(task=task or self._config.task, seed=seed)
        self._due_s, self._ticks = None, 0
        self._trail.clear()

    @property
    def hand(self) -> Floats:
        """(7,) xyz + quaternion wxyz of the hand as the simulation holds it."""
        held = self._sim.world.held_quaternion
        return np.concatenate([self._sim.world.T_base_ee[:3, 3], held / np.linalg.norm(held)])

    def begin(self) -> None:
        """Let time pass from now on."""
        self._due_s = time.monotonic()
        self._trail.clear()

    def note(self, state: ArmState) -> None:
        """Keep a measured pose for `catch_up`; any thread."""
        self._trail.append((state.stamp_s, *state.position_m, state.gripper_opening))

    def catch_up(self, until_s: float | None = None) -> int:
        """Move on towards now (or `until_s`), by a few steps at once; returns how many were left.

        The hand goes along the poses that were noted on the way, so a world that is behind misses nothing.
        """
        if self._due_s is None or not self._trail:
            return 0
        trail = np.array(self._trail)
        behind = int(((time.monotonic() if until_s is None else until_s) - self._due_s) * CONTROL_HZ)
        held = self.hand[3:]
        for _ in range(min(behind, MOST_STEPS)):
            self._due_s += 1.0 / CONTROL_HZ
            x, y, z, opening = (float(np.interp(self._due_s, trail[:, 0], column)) for column in trail.T[1:])
            self._sim.arm.send(np.array([x, y, z, *held]), min(max(opening, 0.0), 1.0))
            self._sim.clock.tick()
        return max(0, behind - MOST_STEPS)

    def settle(self) -> None:
        """Catch up with the time of the call, before somebody judges or plans from what is seen."""
        self._skip_stillness()
        now = time.monotonic()  # a busy machine may never catch up with a later one
        while self.catch_up(now) > 0:
            pass

    def _skip_stillness(self) -> None:
        """Leave out what nobody waits for: the time in which the hand stood still, but for a second."""
        if self._due_s is None or not self._trail:
            return
        trail = np.array(self._trail)
        moved = np.linalg.norm(trail[:, 1:4] - trail[-1, 1:4], axis=1) > STILL_M
        last_s = float(trail[moved, 0].max()) if moved.any() else float(trail[0, 0])
        if self._due_s > last_s + 1.0:
            self._due_s = max(self._due_s, time.monotonic() - 1.0)

    def tick(self) -> None:
        """One control period is over."""
        self._ticks += 1
        self.catch_up()

    def draw(self, camera: str) -> CameraImage:
        """Return the view of a camera as things are."""
        return replace(self._sim.draw(camera), stamp_s=time.monotonic())

    def scene_for(self, instruction: str) -> str | None:
        """Return the task whose own words fit an instruction best, or None when that is unclear."""
        return tasks.scene_for(instruction)

    def describe(self) -> Mapping[str, Any]:
        """Versions, renderer, task and seed as JSON values."""
        described = dict(self._sim.describe())
        return {key: described[key] for key in ("renderer", "task", "seed", "versions")}

    def close(self) -> None:
        """Release the renderers."""
        self._sim.close()

    @property
    def task(self) -> str:
        """Task of the episode."""
        return self._sim.world.task

    @property
    def instruction(self) -> str:
        """The task's own sentence."""
        return tasks.INSTRUCTIONS.get(self.task, "")

    @property
    def success(self) -> bool:
        """Whether the goal has been reached so far; see `settle`."""
        return self._sim.world.success

    @property
    def steps(self) -> int:
        """Control steps since reset."""
        return self._ticks

    @property
    def horizon(self) -> int:
        """Control steps after which the episode is over."""
        return self._horizon


class Witness:
    """A thread that notes the arm's measured poses for a scene, so that it follows the way and not only its ends."""

    def __init__(self, scene: Scene, read: Callable[[], ArmState]) -> None:
        self._scene, self._read = scene, read
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="scene-witness", daemon=True)

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(NOTE_S):
            try:
                self._scene.note(self._read())
            except DeviceError:  # stale or in fault: the hand stays where it was last seen
                continue


class SceneCamera:
    """One view of a scene (a `cascade.contracts.Camera`); looking lets the scene catch up first."""

    def __init__(self, name: str, look: Callable[[str], CameraImage]) -> None:
        self._name, self._look = name, look

    @property
    def name(self) -> str:
        """Name of the view."""
        return self._name

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to do."""

    def read(self, *, max_age_s: float = 0.15) -> CameraImage:
        """Draw the scene as it is now; never older than now, so `max_age_s` always holds."""
        return self._look(self._name)
