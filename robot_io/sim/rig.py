"""The simulated rig: Meta-World's Sawyer, its cameras, a clock and a judge."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from cascade.contracts import CameraImage, ConfigError, Needs, Observation
from robot_io.sim import tasks
from robot_io.sim.arm import SimArm
from robot_io.sim.clock import FrozenClock, MirrorClock, RealtimeClock
from robot_io.sim.config import SimConfig
from robot_io.sim.geometry import segment_names
from robot_io.sim.process import SimProcess
from robot_io.sim.renderers import make_renderer, resolve_renderer
from robot_io.sim.views import CameraView, Picture, Renderer
from robot_io.sim.world import HORIZON, World

_KEPT_RENDERERS = {"raster": 12, "ray": 12, "egl": 2, "osmesa": 2}


class SimCamera:
    """One view of the simulated scene; images are upright."""

    def __init__(self, rig: SimRig, name: str) -> None:
        self._rig, self._name = rig, name

    @property
    def name(self) -> str:
        """Name of the view."""
        return self._name

    def __enter__(self) -> Self:
        """Connect: nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go: nothing to do."""

    def read(self, *, max_age_s: float = 0.15) -> CameraImage:
        """Draw the scene as it is now; never older than now, so `max_age_s` always holds."""
        self._rig.clock.catch_up()
        return self._rig.draw(self._name)


class SimMonitor:
    """Judge of the episode: Meta-World's success, latched. Never shown to planner or extractor."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def task(self) -> str:
        """Task of the episode."""
        return self._world.task

    @property
    def instruction(self) -> str:
        """The task's own sentence."""
        return tasks.INSTRUCTIONS.get(self._world.task, "")

    @property
    def success(self) -> bool:
        """Whether the goal has been reached at any step so far."""
        return self._world.success

    @property
    def steps(self) -> int:
        """Control steps since reset."""
        return self._world.steps

    @property
    def horizon(self) -> int:
        """Control steps after which the episode is over."""
        return HORIZON


class SimRig:
    """A table with Meta-World's Sawyer. The arm's base frame is Meta-World's world frame."""

    def __init__(self, config: SimConfig) -> None:
        self._config = config
        self.world = World(config.starts)
        limits, frozen = config.limits.record(), config.clock == "frozen"
        self._process: SimProcess | None = None
        if config.arm_process:
            self._process = SimProcess(self.world, limits, frozen=frozen, ttl_s=config.target_ttl_s)
        self._arm = SimArm(self.world, limits, self._process)
        self._clock: FrozenClock | MirrorClock | RealtimeClock
        if frozen:
            self._clock = FrozenClock(self.world, self._advance)
        elif self._process is not None:
            self._clock = MirrorClock(self._process.pull)
        else:
            self._clock = RealtimeClock(self._advance)
        self._arm.attach(self._clock)
        self._cameras = {name: SimCamera(self, name) for name in config.cameras}
        self._monitor = SimMonitor(self.world)
        self._renderer_name = resolve_renderer(config.renderer)
        self._renderers: OrderedDict[str, tuple[Renderer, Mapping[str, tuple[int, ...]], Any]] = OrderedDict()

    @property
    def name(self) -> str:
        """Name of the rig."""
        return self._config.name

    @property
    def arm(self) -> SimArm:
        """The arm."""
        return self._arm

    @property
    def cameras(self) -> Mapping[str, SimCamera]:
        """Cameras by name."""
        return self._cameras

    @property
    def clock(self) -> FrozenClock | MirrorClock | RealtimeClock:
        """The clock that paces control at 80 Hz."""
        return self._clock

    @property
    def monitor(self) -> SimMonitor:
        """Judge of the episode."""
        return self._monitor

    @property
    def provides(self) -> Needs:
        """Depth and segmentation as configured, extrinsics always."""
        return Needs(
            depth=self._config.depth,
            segmentation=self._config.segmentation,
            extrinsics=True,
            cameras=self._config.cameras,
        )

    def __enter__(self) -> Self:
        """Connect: nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the arm and release the renderers."""
        self.close()

    def close(self) -> None:
        """Stop the arm, end its process and release the renderers; the rig can be reset again."""
        self._arm.stop()
        if self._process is not None:
            self._process.close()
        while self._renderers:
            self._renderers.popitem()[1][0].close()

    def reset(self, *, task: str | None, seed: int) -> None:
        """Build the layout of (task, seed), bit-identical every time.

        Raises:
            ConfigError: no task is known, or Meta-World has none of that name.
        """
        chosen = task or self._config.task
        if chosen is None:
            raise ConfigError(
                "sim: expected a task to reset to, found none.",
                "Give one, such as 'door-open', or set `task` in the rig's options.",
            )
        if self._process is not None:
            self._process.reset(tasks.check_task(chosen), seed)
        else:
            self.world.reset(chosen, seed)
        self._arm.begin()
        self._begin_drawing()
        self._clock.start()

    def observe(self) -> Observation:
        """Images of all cameras and the arm's state, now."""
        self._clock.catch_up()
        images = {name: self.draw(name) for name in self._config.cameras}
        return Observation(images=images, arm=self._arm.read())

    def scene_for(self, instruction: str) -> str | None:
        """Return the task whose own words fit an instruction best, or None when that is unclear."""
        return tasks.scene_for(instruction)

    def describe(self) -> Mapping[str, Any]:
        """Versions, renderer, seed, views and limits as JSON values."""
        import cv2

        return {
            **self._config.model_dump(mode="json"),
            "renderer": self._renderer_name,
            "task": self.world.task or self._config.task,
            "seed": self.world.seed,
            "versions": {
                "metaworld": version("metaworld"),
                "mujoco": version("mujoco"),
                "numpy": version("numpy"),
                "opencv": cv2.__version__,
            },
        }

    def draw(self, camera: str) -> CameraImage:
        """Draw one camera's image of the scene as it stands, without letting time pass."""
        config, world = self._config, self.world
        view = CameraView.of(world.model, world.data, camera, config.width, config.height)
        renderer, names, _ = self._renderers[world.task]
        picture: Picture = renderer.render(world.data, view, depth=config.depth, segmentation=config.segmentation)
        return CameraImage(
            rgb=picture.rgb,
            K=view.K,
            stamp_s=self._clock.now_s() if isinstance(self._clock, FrozenClock) else time.monotonic(),
            depth_m=picture.depth_m,
            segmentation=picture.segmentation,
            segment_names=names,
            T_base_cam=view.T_base_cam,
        )

    def _advance(self) -> None:
        if self._process is not None:
            self._process.tick()
            return
        self.world.step(self._arm.action())

    def _begin_drawing(self) -> None:
        task, world = self.world.task, self.world
        known = self._renderers.get(task)
        if known is not None and known[2] is not world.model:  # the world has been built anew meanwhile
            self._renderers.pop(task)[0].close()
        if task not in self._renderers:
            while len(self._renderers) >= _KEPT_RENDERERS[self._renderer_name]:
                self._renderers.popitem(last=False)[1][0].close()
            renderer = make_renderer(self._renderer_name, world.model, world.data, self._config)
            self._renderers[task] = (renderer, segment_names(world.model, task), world.model)
        self._renderers.move_to_end(task)
        self._renderers[task][0].begin(world.data)
