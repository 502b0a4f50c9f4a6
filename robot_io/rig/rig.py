"""The rig: one arm behind its process, cameras, a wall clock; with an emulated controller also a simulated table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import (
    ActionSpace,
    ArmMode,
    ArmSpec,
    ArmState,
    Camera,
    CameraImage,
    ConfigError,
    DataError,
    DeviceError,
    EpisodeMonitor,
    Needs,
    Observation,
)
from cascade.contracts.driver import DriverInfo
from cascade.contracts.hardware import Hardware
from robot_io.registry import ARMS, CAMERAS, Chosen, choose
from robot_io.rig.clock import WallClock
from robot_io.rig.config import SCENE_CAMERA, RigOptions
from robot_io.rig.emulated import emulation_of
from robot_io.rig.homing import go_to
from robot_io.rig.placed_arm import PlacedArm, Placement, target_of
from robot_io.rig.scene import Scene, SceneCamera, Witness

Floats = NDArray[np.float64]


class OneArmRig:
    """One arm and its cameras (a `cascade.contracts.Rig` and `HardwareRig`).

    Motion has to be permitted before the rig is entered, unless nothing real is behind it; without permission the arm
    is connected and read, and never armed.
    """

    def __init__(self, options: RigOptions) -> None:
        self._options = options
        self._emulation = emulation_of(options.loopback) if options.loopback else None
        self._chosen = self._choose_arm({} if self._emulation is None else self._emulation.placeholder)
        self._info: DriverInfo = self._chosen.build().info
        self._permitted = False
        limits = options.limits.record(options.speed)
        joints = limits.joints
        if joints is not None and len(joints.lower_rad) != len(self._info.joint_names):
            raise ConfigError(
                f"limits.joints: expected {len(self._info.joint_names)} joints for {self._info.model}, found "
                f"{len(joints.lower_rad)}.",
                "Give every joint of the arm, base first.",
            )
        self._placement = Placement(options.mount.matrix(), options.tool_matrix())
        spec = ArmSpec(
            name=self._info.model,
            joint_names=self._info.joint_names,
            accepts=ActionSpace(),
            control_hz=options.control_hz,
            limits=limits,
        )
        self._arm = PlacedArm(spec, self._placement)
        self._scene = None if options.scene is None else self._make_scene()
        self._clock = WallClock(options.control_hz, None if self._scene is None else self._scene.tick)
        self._cameras: dict[str, Any] = {name: self._make_camera(name) for name in options.cameras}
        self._open = ExitStack()

    def _choose_arm(self, found: Mapping[str, Any]) -> Chosen:
        arm = self._options.arm
        both = sorted(set(arm.options) & set(found))
        if self._options.loopback and both:
            raise ConfigError(
                f"arm.options.{both[0]}: given, and so is loopback, which brings its own.", f"Remove {both[0]}."
            )
        return choose(ARMS, arm.plugin, {**arm.options, **found}, "rig.options.arm.options")

    def _make_scene(self) -> Scene:
        options = self._options
        views = tuple(name for name, part in options.cameras.items() if part.plugin == SCENE_CAMERA)
        if options.scene is None or not views:
            raise ConfigError("scene: expected a camera that draws it, found none.", "Add one of plugin scene.")
        return Scene(options.scene, views, options.limits.workspace_m, options.control_hz)

    def _make_camera(self, name: str) -> Any:
        part = self._options.cameras[name]
        if part.plugin == SCENE_CAMERA:
            return SceneCamera(name, self._look_at_scene)
        where = f"rig.options.cameras.{name}.options"
        camera = choose(CAMERAS, part.plugin, {"name": name, **part.options}, where).build()
        bind = getattr(camera, "bind_arm", None)
        if bind is not None:
            bind(self._info.model)
        return camera

    @property
    def name(self) -> str:
        """Name of the rig."""
        return self._options.name

    @property
    def arm(self) -> PlacedArm:
        """The arm."""
        return self._arm

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Cameras by name."""
        return self._cameras

    @property
    def clock(self) -> WallClock:
        """The clock that paces control."""
        return self._clock

    @property
    def monitor(self) -> EpisodeMonitor | None:
        """Judge of the episode where the table is simulated; None where it is real."""
        return self._scene

    @property
    def provides(self) -> Needs:
        """Depth and extrinsics as the cameras and their calibration files give them."""
        scene, others = self._options.scene, self._real_cameras()
        return Needs(
            depth=bool(scene and scene.depth) or any(camera.provides_depth for camera in others),
            segmentation=bool(scene and scene.segmentation),
            extrinsics=scene is not None or any(camera.provides_extrinsics for camera in others),
            cameras=tuple(self._cameras),
        )

    def missing(self, signal: str) -> str:
        """Return why a signal is not provided and what to do about it, or nothing."""
        problems = [camera.calibration_problem for camera in self._real_cameras()]
        found = next((problem for problem in problems if problem is not None), None)
        if signal != "extrinsics":
            return "No camera of this rig measures it."
        return str(found) if found is not None else "Run: cascade calibrate hand-eye, and name its file in the camera."

    def _real_cameras(self) -> list[Any]:
        return [camera for camera in self._cameras.values() if not isinstance(camera, SceneCamera)]

    @property
    def hardware(self) -> Hardware | None:
        """The machine behind this rig; None with an emulated or virtual arm."""
        if self._options.loopback is not None or self._chosen.name == "virtual":
            return None
        home = self._options.home
        way = "" if home is None else f"to its home at {_point(home.xyz_m)} m, in a straight line"
        given = self._options.arm.options
        address = self._info.address or str(given.get("host") or given.get("port") or "not known")
        return Hardware(arm=f"{self._info.name} {self._info.model}", address=address, home=way)

    def permit_motion(self) -> None:
        """Let the arm be armed, from when it is next needed."""
        self._permitted = True

    def ready(self) -> None:
        """Arm the arm if motion is permitted and it stands unarmed; a latched fault is left alone.

        Raises:
            DeviceError: it cannot be armed, or may not.
        """
        if not self._permitted and self.hardware is not None:
            raise DeviceError(f"rig {self.name!r}: motion was not permitted.", "Run with --execute.")
        if self._arm.read().mode is ArmMode.HOLD:
            with suppress(DeviceError):  # its hold ran out just now, or it is in fault, which the next look shows
                self._arm.stay()
        if self._arm.read().mode is ArmMode.IDLE:
            self._arm.arm()

    def __enter__(self) -> Self:
        """Connect: emulated controller, arm, cameras. Nothing moves."""
        with ExitStack() as opening:
            opening.enter_context(self.arm_alone())
            for camera in self._cameras.values():
                opening.enter_context(camera)
            if self._scene is not None:
                opening.callback(self._scene.close)
                opening.enter_context(Witness(self._scene, self._arm.read))
            self._open = opening.pop_all()
        return self

    @contextmanager
    def arm_alone(self) -> Iterator[None]:
        """Connect the arm without the cameras, to look after it. Nothing moves."""
        with ExitStack() as opening:
            if self._emulation is not None:
                self._chosen = self._choose_arm(opening.enter_context(self._emulation.running()))
            process = self._process()
            opening.callback(process.close)
            process.connect(self._options.connect_s)
            self._arm.attach(process)
            opening.callback(self._arm.attach, None)
            yield

    def _process(self) -> Any:
        from robot_io.process.arm_process import ArmProcess
        from robot_io.process.settings import ProcessSettings

        options = self._options
        settings = ProcessSettings(
            rate_hz=min(options.process_hz, self._info.rate_hz),
            ttl_s=options.target_ttl_s,
            disarm_s=options.disarm_s,
        )
        return ArmProcess(
            self._chosen.target,
            self._chosen.options,
            self._placement.limits_to_robot(self._arm.spec.limits),
            settings=settings,
        )

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the arm and let go of everything."""
        self.close()

    def close(self) -> None:
        """Stop the arm and let go of everything, the arm first."""
        self._arm.stop()
        self._open.close()

    def reset(self, *, task: str | None, seed: int) -> None:
        """Begin an episode: build the scene where there is one, and go to its start or to the home pose.

        Raises:
            ConfigError: the scene has no such task.
            DeviceError: the arm cannot go there.
        """
        if self._scene is not None:
            self._scene.reset(task, seed)
            start = self._scene.hand
        elif self._options.home is not None:
            start = target_of(self._options.home.matrix())
        else:
            return
        if self._permitted or self.hardware is None:
            self.ready()
            go_to(self._arm, self._clock, start)
        if self._scene is not None:
            self._scene.begin()

    def observe(self) -> Observation:
        """Images of all cameras and the arm's state, now."""
        if self._scene is not None:
            self._scene.settle()
        images = {name: camera.read() for name, camera in self._cameras.items()}
        state = self._arm.read()
        return Observation(images={name: self._placed(name, image, state) for name, image in images.items()}, arm=state)

    def _placed(self, name: str, image: CameraImage, state: ArmState) -> CameraImage:
        from robot_io.calibration.files import placed

        camera = self._cameras[name]
        if isinstance(camera, SceneCamera) or image.T_base_cam is not None:
            return image
        return placed(image, camera.calibration, state.T_base_ee)

    def _look_at_scene(self, name: str) -> CameraImage:
        if self._scene is None:
            raise DataError(f"camera {name!r}: no scene to draw.")
        self._scene.note(self._arm.read())
        self._scene.catch_up()
        return self._scene.draw(name)

    def scene_for(self, instruction: str) -> str | None:
        """Return the simulated task that an instruction names, or None."""
        return None if self._scene is None else self._scene.scene_for(instruction)

    def describe(self) -> Mapping[str, Any]:
        """Options, arm, cameras, limits and scene as JSON values."""
        described = self._options.model_dump(mode="json")
        described["workspace_m"] = self._arm.spec.limits.workspace_m.tolist()
        described["arm_model"] = {"driver": self._info.name, "model": self._info.model, "takes": self._info.takes.value}
        described["real"] = self.hardware is not None
        if self._scene is not None:
            described["simulation"] = dict(self._scene.describe())
        return described


def _point(xyz: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.2f}" for value in xyz)
