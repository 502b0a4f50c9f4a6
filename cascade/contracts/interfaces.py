"""Protocols of the stages. Implementations inherit nothing; constructors do no I/O beyond loading weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.command import ArmEvent, CommandAck, Lateness
from cascade.contracts.records import (
    ActionChunk,
    ActionSpace,
    ArmSpec,
    ArmState,
    CameraImage,
    EeReadout,
    Episode,
    Observation,
    VideoPlan,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a stage wants of a rig; compared with the rig before anything moves."""

    depth: bool = False
    segmentation: bool = False
    extrinsics: bool = False
    latent_space: str | None = None
    cameras: tuple[str, ...] | None = None  # None: any camera


@runtime_checkable
class Planner(Protocol):
    """Imagines the task as video."""

    @property
    def needs(self) -> Needs:
        """What it wants of the rig; `cameras` names the views its weights know."""
        ...

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Return `samples` plans; the same seed, observation and instruction give the same plans."""
        ...


@runtime_checkable
class ActionExtractor(Protocol):
    """Turns a plan into targets for the end effector."""

    @property
    def needs(self) -> Needs:
        """What it wants of the rig and of the plan."""
        ...

    @property
    def produces(self) -> ActionSpace:
        """Meaning of the chunks it returns."""
        ...

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        """Return the next targets.

        Called again with the same plan and a newer observation it continues from where the plan has got to.
        """
        ...


@runtime_checkable
class PlanReader(Protocol):
    """Reads end-effector positions and gripper opening in the frames of a plan (an extractor may be one too)."""

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        """Return one reading per frame of the plan."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One of several plans for the same moment: `chunk` is what was read in it, None where nothing could be."""

    plan: VideoPlan
    chunk: ActionChunk | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a scorer's numbers mean."""

    name: str
    unit: str
    higher_is_better: bool


@runtime_checkable
class Scorer(Protocol):
    """Judges the candidates of one moment before one of them runs."""

    @property
    def needs(self) -> Needs:
        """What it wants of the rig."""
        ...

    @property
    def measure(self) -> Measure:
        """Name, unit and direction of its numbers."""
        ...

    def score(self, candidates: Sequence[Candidate], observation: Observation) -> Sequence[float | None]:
        """Return one number per candidate; None where it cannot judge, as of a plan in which nothing moves."""
        ...


class Clock(Protocol):
    """Time of a rig: real, or a simulated world that waits for compute."""

    def now_s(self) -> float:
        """Monotonic time [s]."""
        ...

    def tick(self) -> None:
        """Return at the start of the next control period, the world having moved on by one."""
        ...


class Arm(AbstractContextManager["Arm"], Protocol):
    """An arm: absolute targets in, measured state out. `__enter__` connects, `__exit__` stops and lets go."""

    @property
    def spec(self) -> ArmSpec:
        """Readable before connecting."""
        ...

    def read(self) -> ArmState:
        """Measured state now; raises DeviceError when it is stale."""
        ...

    def send(self, target: NDArray[np.float64], gripper: float) -> NDArray[np.float64]:
        """Accept one target (7,) xyz + quaternion wxyz and a gripper opening; latest wins, never queues.

        Returns the target as sent, after the arm's own limits. Raises DataError on NaN or a wrong shape.
        """
        ...

    def stop(self) -> None:
        """Hold here; any thread, idempotent, never raises."""
        ...


class Pressed(Protocol):
    """What an arm asks of a deadman: something a person holds, see `robot_io.process.deadman`."""

    def attach(self, words: Any) -> None:
        """Report from now on into the arm's shared memory."""
        ...


@runtime_checkable
class ScheduledArm(Arm, Protocol):
    """An arm that also takes targets with times, and says why it refuses one. Optional."""

    def send_checked(
        self, target: NDArray[np.float64], gripper: float, *, observed_s: float | None = None
    ) -> CommandAck:
        """As `send`, with a refusal as a value."""
        ...

    def schedule(
        self,
        values: NDArray[np.float64],
        gripper: NDArray[np.float64],
        times_s: NDArray[np.float64],
        *,
        observed_s: float | None = None,
    ) -> CommandAck:
        """Replace what is not executed yet by targets (H, 7), openings (H,) at monotonic times (H,)."""
        ...


@runtime_checkable
class ArmableArm(Arm, Protocol):
    """An arm that a person makes ready and whose faults latch. Optional."""

    def connect(self, timeout_s: float = 5.0) -> None:
        """Connect; nothing moves. Raises DeviceError naming the missing step."""
        ...

    def arm(self, deadman: Pressed | None = None) -> None:
        """Make ready to move. Raises DeviceError when it is in fault or its state is stale."""
        ...

    def disarm(self) -> None:
        """Stop, wait for standstill, refuse targets from now on."""
        ...

    def clear_fault(self, token: str) -> None:
        """Clear the latched fault that carries this token; never clears an emergency stop, never re-arms."""
        ...

    def events(self) -> list[ArmEvent]:
        """What happened since the last call, oldest first."""
        ...

    def lateness(self) -> Lateness:
        """How late the control cycles began, lately."""
        ...


class Camera(AbstractContextManager["Camera"], Protocol):
    """A camera; images are upright and come with intrinsics."""

    @property
    def name(self) -> str:
        """Name by which planners and datasets know the view."""
        ...

    def read(self, *, max_age_s: float = 0.15) -> CameraImage:
        """Latest image; raises StaleImageError when it is older than `max_age_s`."""
        ...


class EpisodeMonitor(Protocol):
    """Judge of an episode; only simulated rigs have one. Never shown to planner or extractor."""

    @property
    def task(self) -> str:
        """Suite name of the task, such as 'door-open'."""
        ...

    @property
    def instruction(self) -> str:
        """A sentence for the task."""
        ...

    @property
    def success(self) -> bool:
        """Whether the goal has been reached at any step so far (latched)."""
        ...

    @property
    def steps(self) -> int:
        """Control steps since reset."""
        ...

    @property
    def horizon(self) -> int:
        """Control steps after which the episode is over."""
        ...


class Rig(AbstractContextManager["Rig"], Protocol):
    """What stands on the table: one arm, its cameras, a clock, and in simulation a judge."""

    @property
    def name(self) -> str:
        """Name of the rig."""
        ...

    @property
    def arm(self) -> Arm:
        """The arm."""
        ...

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Cameras by name."""
        ...

    @property
    def clock(self) -> Clock:
        """The clock that paces control."""
        ...

    @property
    def monitor(self) -> EpisodeMonitor | None:
        """Judge of the episode, or None on real rigs."""
        ...

    @property
    def provides(self) -> Needs:
        """Which of the optional signals exist (depth, segmentation, extrinsics, camera names)."""
        ...

    def reset(self, *, task: str | None, seed: int) -> None:
        """Begin an episode: in simulation build the layout of (task, seed); on a real rig go to the rest pose."""
        ...

    def observe(self) -> Observation:
        """Images of all cameras and the arm's state, now."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """JSON values that say how this rig was built (renderer, versions, limits), for the run folder."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemoStep:
    """One control step of a demonstration.

    Attributes:
        observation: what was seen before acting, or None on steps whose images were not asked for.
        state: measured arm state before acting.
        action_sent, action_asked: (8,) xyz, quaternion wxyz, gripper opening; as sent after limits, and as asked.
        success: whether the goal has been reached at any step so far.
    """

    observation: Observation | None
    state: ArmState
    action_sent: NDArray[np.float64]
    action_asked: NDArray[np.float64]
    success: bool
    stamp_s: float


class Demonstrator(Protocol):
    """Moves a rig to make data: a scripted expert, or task-agnostic play."""

    @property
    def kind(self) -> str:
        """'expert' or 'play'."""
        ...

    def demonstrate(self, rig: Rig, *, task: str, seed: int, every: int = 1) -> Iterator[DemoStep]:
        """Reset the rig to (task, seed) and act; images are taken on every `every`-th step."""
        ...


@runtime_checkable
class EpisodeAware(Protocol):
    """A stage that wants to know which episode begins, such as the oracle planner. Optional."""

    def begin(self, *, task: str, seed: int) -> None:
        """Called once after every rig reset."""
        ...


class EpisodeSource(Protocol):
    """A dataset as trainers see it."""

    @property
    def digest(self) -> str:
        """Name of the exact data: hash of its manifest."""
        ...

    def __len__(self) -> int:
        """Number of episodes."""
        ...

    def __getitem__(self, index: int) -> Episode:
        """Decode one episode."""
        ...


class Trainer(Protocol):
    """Trains the weights of a stage; resumable, wall-clock scheduled."""

    def train(self, episodes: EpisodeSource, output: Path, *, resume: bool) -> Mapping[str, Any]:
        """Train into the folder `output` and return the scores that belong on the model card."""
        ...
