"""Asynchronous execution: plan k + 1 is imagined while k runs, and joined to it at a seam (execution mode async).

Before anything moves, plans are timed: one that takes longer than the arm needs for it is refused. When some targets
of a plan have been visited, the next one is imagined from what is seen then, while the arm goes on; it takes over once
it is ready and the gripper is not about to change. A new plan that the gate refuses is dropped
and the old one goes on. When the targets run out first, the arm holds and waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from cascade.background import Background, Stopwatch
from cascade.config import ExecutionConfig
from cascade.contracts.interfaces import Rig
from cascade.contracts.records import ActionChunk, ArmState, Observation, VideoPlan
from cascade.gate import shortened
from cascade.imagining import Imagined, Timer
from cascade.outcome import End
from cascade.seam import ahead, blended, check_latency, may_leave, part


class Body(Protocol):
    """What an episode does around the plans; see `cascade.runtime`."""

    def observe(self) -> Observation:
        """Look."""

    def imagine(self, observation: Observation, instruction: str, seed: int, timed: Timer | None = None) -> Imagined:
        """Imagine; with `timed` in any thread."""

    def extract(self, imagined: Imagined, observation: Observation) -> ActionChunk:
        """Read; in any thread."""

    def accept(self, imagined: Imagined, observation: Observation, seed: int) -> tuple[int, End | None]:
        """Record and judge a plan."""

    def admit(
        self, chunk: ActionChunk, index: int, state: ArmState, *, first: bool, plan: VideoPlan | None
    ) -> tuple[int, ActionChunk | End]:
        """Record and judge a chunk."""

    def pursue(
        self,
        chunk: ActionChunk,
        index: int,
        number: int,
        *,
        count: int | None = None,
        leave: Callable[[int], bool] | None = None,
        plan: VideoPlan | None = None,
    ) -> End | None:
        """Follow a chunk; with `plan` its extractor may look on."""

    def pace(self, index: int) -> float:
        """Share of speed and chunk length of a plan."""

    def judge(self) -> End:
        """Say how it ended."""

    def blame(self, stage: str) -> None:
        """Name the stage that an error belongs to."""

    def check_stop(self) -> None:
        """Raise when a person wants a stop."""

    def note(self, kind: str, **values: Any) -> None:
        """Put an event into the record."""

    def add_time(self, name: str, ms: float, **where: int) -> None:
        """Note the time of a stage."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prepared:
    """A plan with its targets, ready to take over."""

    imagined: Imagined
    chunk: ActionChunk
    observation: Observation
    seed: int
    times: Stopwatch


@dataclass(slots=True)
class _Present:
    """The chunk that runs."""

    chunk: ActionChunk
    index: int
    number: int
    plan: VideoPlan
    done: int = 0
    left: bool = False

    @property
    def rest(self) -> ActionChunk:
        """What has not been visited yet."""
        return part(self.chunk, self.done)

    def commanded(self, otherwise: float) -> float:
        """Opening that is commanded after what has been visited."""
        return float(self.chunk.gripper[self.done - 1]) if self.done else otherwise


def overlapped(body: Body, rig: Rig, settings: ExecutionConfig, instruction: str, seed: int) -> End:
    """Run an episode whose plans overlap; returns how it ended.

    Raises:
        IncompatibleError: plans take longer than the arm needs for them; nothing has moved.
    """
    frozen = rig.describe().get("clock") == "frozen"

    def prepare(observation: Observation, plan_seed: int) -> _Prepared:
        times = Stopwatch()
        imagined = body.imagine(observation, instruction, plan_seed, times)
        with times("extract", "extract"):
            chunk = body.extract(imagined, observation)
        return _Prepared(imagined=imagined, chunk=chunk, observation=observation, seed=plan_seed, times=times)

    observation = body.observe()
    body.blame("planner")
    prepare(observation, seed)  # the first plan of a process is slow and says nothing about the next ones
    began = perf_counter()
    first = prepare(observation, seed)
    measured_s = perf_counter() - began
    latency_s = settings.latency_s if frozen and settings.latency_s is not None else measured_s
    body.note("latency", measured_s=round(measured_s, 4), counted_s=round(latency_s, 4), targets=len(first.chunk))
    check_latency(latency_s, first.chunk)
    background: Background[_Prepared] = Background(
        rig.clock, frozen=frozen, latency_s=(settings.latency_s or 0.0) if frozen else 0.0
    )
    try:
        return _Loop(body, rig, settings, background, prepare, first).run()
    finally:
        rig.arm.stop()  # before waiting for a plan that nobody wants any more
        background.close()


class _Loop:
    """Plan after plan on a moving arm."""

    def __init__(
        self,
        body: Body,
        rig: Rig,
        settings: ExecutionConfig,
        background: Background[_Prepared],
        prepare: Callable[[Observation, int], _Prepared],
        first: _Prepared,
    ) -> None:
        self._body, self._rig, self._settings = body, rig, settings
        self._background, self._prepare, self._first = background, prepare, first
        self._started = 1
        self._gripper_then = first.observation.arm.gripper_opening

    def run(self) -> End:
        """Run until the last plan has ended, or the episode."""
        present: _Present | None = None
        coming = self._first
        while True:
            taken = _take_over(self._body, self._rig, self._settings, present, coming, self._gripper_then)
            if isinstance(taken, End):
                return taken
            present = taken
            present.left = False
            # A watcher that asks for another chunk, or another plan, ends this one: the next plan sees what it saw.
            end = self._body.pursue(
                present.rest, present.index, present.number, leave=self._leaver(present), plan=present.plan
            )
            if end is not None:
                return end
            if not present.left:
                present.done = len(present.chunk)
            self._start(present)
            if not self._background.busy:
                return self._body.judge()
            self._wait()
            coming = self._background.take()

    def _start(self, present: _Present) -> None:
        """Begin with the next plan, from what is seen now, unless that is being done or was the last."""
        if self._background.busy or self._started >= self._settings.receding_plans:
            return
        observation, seed = self._body.observe(), self._first.seed + self._started
        self._gripper_then = present.commanded(self._gripper_then)
        self._background.start(lambda: self._prepare(observation, seed))
        self._started += 1

    def _leaver(self, present: _Present) -> Callable[[int], bool]:
        """Return what is asked between targets: begins with the next plan, and says when it takes over."""
        targets = shortened(self._settings.receding_targets, self._body.pace(present.index))
        before, least = present.done, min(targets, len(present.rest))

        def leave(visited: int) -> bool:
            present.done = before + visited
            if visited >= least:
                self._start(present)
            present.left = self._background.ready and may_leave(present.chunk, present.done)
            return present.left

        return leave

    def _wait(self) -> None:
        """Hold until the next plan is ready."""
        began_s, waited = self._rig.clock.now_s(), False
        while not self._background.ready:
            waited = True
            self._body.check_stop()
            self._rig.clock.tick()
        if waited:
            self._body.note("underrun", waited_s=round(self._rig.clock.now_s() - began_s, 4))


def _take_over(
    body: Body,
    rig: Rig,
    settings: ExecutionConfig,
    present: _Present | None,
    coming: _Prepared,
    gripper_then: float,
) -> _Present | End:
    """Join a new plan to the present one; the present one goes on when the new one is refused."""
    for name, _, ms in coming.times.rows:
        body.add_time(name, ms)
    index, refused = body.accept(coming.imagined, coming.observation, coming.seed)
    state, chunk = rig.arm.read(), coming.chunk
    if present is not None:
        now = present.commanded(gripper_then)
        skipped = ahead(chunk, state.position_m, gripper_then=gripper_then, gripper_now=now) if len(chunk) else 0
        chunk = blended(part(chunk, skipped), present.rest, state.position_m, settings.blend_targets)
        body.note("seam", plan=index, skipped=skipped, left=present.done, of=len(present.chunk))
    admitted: ActionChunk | End
    if refused is None:
        number, admitted = body.admit(chunk, index, state, first=present is None, plan=coming.imagined.plan)
    else:
        number, admitted = -1, refused
    if not isinstance(admitted, End):
        return _Present(admitted, index, number, coming.imagined.plan)
    if present is None or not len(present.rest):
        return admitted
    body.note("dropped", plan=index, why=admitted.verdict)
    return present
