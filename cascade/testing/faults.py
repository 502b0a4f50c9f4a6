"""Known faults to inject, to see whether they are found.

A distorted extractor, moved cameras, a late arm, a gripper that is stuck, a push. The extractor is a plug-in, since
what a model does wrong belongs to the recipe. The rig's faults are in no configuration, as in the real world: wrap a
simulated rig in `FaultyRig`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cascade.contracts import (
    ActionChunk,
    ActionExtractor,
    ActionSpace,
    ArmSpec,
    ArmState,
    CameraImage,
    EeReadout,
    IncompatibleError,
    Needs,
    Observation,
    PlanReader,
    VideoPlan,
)
from cascade.contracts.interfaces import Arm, Camera, Rig
from cascade.contracts.plugin import PluginConfig, PluginSpec
from cascade.plugins import build_plugin

Floats = NDArray[np.float64]
HAND = "hand"  # body of the simulated arm


class DistortedConfig(PluginConfig):
    """Options of the extractor 'distorted'."""

    extractor: str = Field("idm", description="Extractor whose reading is distorted.")
    options: dict[str, Any] = Field(default_factory=dict, description="Its options.")
    scale: float = Field(1.0, gt=0, description="Factor on the way of the hand, from where it begins.")
    bias_m: tuple[float, float, float] = Field((0.0, 0.0, 0.0), description="Added to every position [m].")


class DistortedExtractor:
    """Another extractor whose positions are scaled about where the hand begins, and shifted."""

    def __init__(self, config: DistortedConfig) -> None:
        self._config = config
        self._inner: ActionExtractor = build_plugin("extractor", config.extractor, config.options)
        self._starts: dict[str, Floats] = {}

    @property
    def needs(self) -> Needs:
        """Those of the other extractor."""
        return self._inner.needs

    @property
    def produces(self) -> ActionSpace:
        """As the other extractor."""
        return self._inner.produces

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return the other extractor's reading, distorted.

        Raises:
            IncompatibleError: the other extractor reads no hands.
        """
        if not isinstance(self._inner, PlanReader):
            raise IncompatibleError(f"extractor {self._config.extractor!r}: expected one that reads hands.")
        reading = self._inner.read(plan, observation)
        position = np.asarray(reading.position_m)
        return replace(reading, position_m=self._distort(position, position[0]))

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        """Return the other extractor's targets, distorted."""
        chunk = self._inner.extract(plan, observation)
        start = self._starts.setdefault(plan.plan_id, np.array(observation.arm.position_m))
        values = np.array(chunk.values)
        values[:, :3] = self._distort(values[:, :3], start)
        return replace(chunk, values=values)

    def _distort(self, position_m: Floats, start_m: Floats) -> Floats:
        bias = np.array(self._config.bias_m)
        return np.asarray(start_m + self._config.scale * (position_m - start_m) + bias, dtype=np.float64)

    def close(self) -> None:
        """Close the other extractor."""
        close = getattr(self._inner, "close", None)
        if callable(close):
            close()


DISTORTED: PluginSpec[DistortedExtractor] = PluginSpec(
    summary="Another extractor, scaled and shifted: a known fault, to see whether it is found.",
    config=DistortedConfig,
    build=DistortedExtractor,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RigFault:
    """What is wrong with a rig.

    Attributes:
        camera_shift_m: (3,) by which the cameras stand elsewhere than their calibration says, base frame.
        lag_steps: control periods by which targets reach the arm late.
        gripper: opening at which the gripper is stuck, None: it works.
        push_n: (3,) force of something that pushes the hand aside while it is sent somewhere, base frame; the simulated
            hand hangs on a stiff constraint, so that it takes some 2500 N for 0.3 m.
        push_after: control periods before the push begins.
    """

    camera_shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lag_steps: int = 0
    gripper: float | None = None
    push_n: tuple[float, float, float] = (0.0, 0.0, 0.0)
    push_after: int = 0


class FaultyRig:
    """A simulated rig with a fault that it does not know of (a Rig): its name, clock and judge are the rig's own.

    Args:
        rig: the rig 'sim', entered by the caller.
        fault: what is wrong.
    """

    def __init__(self, rig: Rig, fault: RigFault) -> None:
        self._rig, self._fault = rig, fault
        self._arm = FaultyArm(rig.arm, fault, self._push)
        self.name, self.clock, self.monitor, self.provides = rig.name, rig.clock, rig.monitor, rig.provides
        self.arm: Arm = self._arm
        self.cameras: Mapping[str, Camera] = {name: _Moved(camera, self) for name, camera in rig.cameras.items()}

    def __enter__(self) -> Self:
        """Nothing to do: the rig is entered by the caller."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to do."""

    def reset(self, *, task: str | None, seed: int) -> None:
        """Reset the rig and move its cameras, before anything is drawn."""
        self._rig.reset(task=task, seed=seed)
        self._arm.begin()
        if not any(self._fault.camera_shift_m):
            return
        import mujoco

        model, data = self._world().model, self._world().data
        for name in self._rig.cameras:
            index = model.cam(name).id
            built = _BUILT.setdefault((id(model), name), np.array(model.cam_pos[index]))
            model.cam_pos[index] = built + np.array(self._fault.camera_shift_m)
        mujoco.mj_camlight(model, data)

    def _push(self, force_n: tuple[float, float, float]) -> None:
        world = self._world()
        world.data.xfrc_applied[world.model.body(HAND).id, :3] = force_n

    def _world(self) -> Any:
        world = getattr(self._rig, "world", None)
        if world is None:
            raise IncompatibleError("faulty rig: expected the rig 'sim', found another.")
        return world

    def restore(self) -> None:
        """Put the cameras back, for whoever uses the rig next."""
        model = self._world().model
        for name in self._rig.cameras:
            built = _BUILT.get((id(model), name))
            if built is not None:
                model.cam_pos[model.cam(name).id] = built

    def observe(self) -> Observation:
        """Images as the moved cameras see them, with the poses they were calibrated at."""
        seen = self._rig.observe()
        return replace(seen, images={name: self.as_calibrated(image) for name, image in seen.images.items()})

    def as_calibrated(self, image: CameraImage) -> CameraImage:
        """Return an image with the pose its camera was calibrated at."""
        if image.T_base_cam is None:
            return image
        T = np.array(image.T_base_cam)
        T[:3, 3] -= np.array(self._fault.camera_shift_m)
        return replace(image, T_base_cam=T)

    def describe(self) -> Mapping[str, Any]:
        """As the rig: it knows nothing of the fault."""
        return self._rig.describe()


_BUILT: dict[tuple[int, str], Floats] = {}  # where a model's cameras were built


class _Moved:
    """A camera of a faulty rig."""

    def __init__(self, camera: Camera, rig: FaultyRig) -> None:
        self._camera, self._rig = camera, rig

    @property
    def name(self) -> str:
        """Name of the view."""
        return self._camera.name

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to do."""

    def read(self, *, max_age_s: float = 0.15) -> CameraImage:
        """What it sees, with the pose it was calibrated at."""
        return self._rig.as_calibrated(self._camera.read(max_age_s=max_age_s))


class FaultyArm:
    """An arm whose targets come late, whose gripper is stuck, or that is pushed; it says that it did as told (an Arm).

    Args:
        arm: the arm.
        fault: what is wrong.
        push: puts a force on the hand, in the rig's world.
    """

    def __init__(self, arm: Arm, fault: RigFault, push: Callable[[tuple[float, float, float]], None]) -> None:
        self._arm, self._fault, self._push = arm, fault, push
        self._late: deque[Floats] = deque()
        self._sent = 0

    @property
    def spec(self) -> ArmSpec:
        """As the arm."""
        return self._arm.spec

    def begin(self) -> None:
        """An episode begins: forget what is under way."""
        self._late.clear()
        self._sent = 0

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to do."""

    def read(self) -> ArmState:
        """Measured state now."""
        return self._arm.read()

    def send(self, target: Floats, gripper: float) -> Floats:
        """Send a target, or the one of `lag_steps` periods ago; says that it sent this one."""
        stuck = self._fault.gripper
        opening = gripper if stuck is None else stuck
        self._sent += 1
        if any(self._fault.push_n) and self._sent > self._fault.push_after:
            self._push(self._fault.push_n)
        if not self._fault.lag_steps:
            return self._arm.send(target, opening)
        self._late.append(np.array(target))
        if len(self._late) <= self._fault.lag_steps:
            here = np.array(target)
            here[:3] = self._arm.read().position_m
            self._arm.send(here, opening)
        else:
            self._arm.send(self._late.popleft(), opening)
        return np.array(target)

    def stop(self) -> None:
        """Hold here; what pushed lets go."""
        if any(self._fault.push_n):
            self._push((0.0, 0.0, 0.0))
        self._late.clear()
        self._arm.stop()
