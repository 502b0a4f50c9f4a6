"""One episode: look, imagine, read, check, move; again if it did not work.

The order is always the same: rig.reset, planner.plan, the reader if the recipe has one, then chunk after chunk through
the gate and the follower until the plan is exhausted. Nothing moves before stages and rig are known to fit together.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.config import ExecutionConfig, GateConfig, Mode
from cascade.consent import Confirm, Kind
from cascade.contracts.errors import (
    CascadeError,
    ConfigError,
    DeviceError,
    OperatorStop,
    PluginError,
)
from cascade.contracts.interfaces import EpisodeAware, Rig
from cascade.contracts.records import ActionChunk, ArmState, GateReport, Observation, Verdict, VideoPlan
from cascade.events import NoRecord, Recorder, gate_values
from cascade.gate import check_chunk, check_plan, pace_of
from cascade.imagining import Imagined, Timer, imagine
from cascade.interrupt import StopRequest
from cascade.outcome import End, EpisodeResult, judged, refusal
from cascade.overlapped import overlapped
from cascade.permission import REFUSED, Permission, fault_of, note_arm_events
from cascade.pipeline import Stages, build_stages, check_compatible
from cascade.pursuit import Pursuit
from cascade.recovery import return_chunk
from cascade.scorers.paths import hand_path
from cascade.stage_times import StageTimes
from cascade.tiles import first_view
from cascade.watching import MOST_AGAIN

__all__ = ["EpisodeResult", "Stages", "build_stages", "check_compatible", "run_episode"]

MOST_CHUNKS = 200  # of one plan; an extractor that never says `final` is broken
LONG_WAIT_S = 2.0  # after a longer wait for consent the camera is looked at again


def run_episode(
    rig: Rig,
    stages: Stages,
    *,
    instruction: str | None,
    task: str | None,
    seed: int,
    recorder: Recorder | None = None,
    stop: StopRequest | None = None,
    plan_layout: int | None = None,
    execute: bool = True,
    confirm: Confirm | None = None,
) -> EpisodeResult:
    """Run one episode on a connected rig and return how it ended; errors of stages are returned, not raised.

    Args:
        rig: connected.
        stages: from `build_stages`.
        instruction: what to do, in words; None takes the sentence of the rig's monitor.
        task: simulated task, None on real rigs.
        seed: of the layout; plans use seed, seed + 1, ...
        recorder: receives everything that happens.
        stop: setting it ends the episode with the arm holding.
        plan_layout: control condition: plans are made from the first frame of this layout of the same task instead.
        execute: False ends the episode where the arm would begin to move; the rig must then hold still in `reset`.
        confirm: asked after the gate and before every motion; None: nobody is asked.

    Raises:
        IncompatibleError: stages and rig do not fit; nothing has moved.
    """
    check_compatible(rig, stages)
    episode = _Episode(rig, stages, recorder or NoRecord(), stop or StopRequest(), plan_layout, execute, confirm)
    return episode.run(instruction, task, seed)


class _Episode:
    """The state of one episode."""

    def __init__(
        self,
        rig: Rig,
        stages: Stages,
        recorder: Recorder,
        stop: StopRequest,
        plan_layout: int | None,
        execute: bool,
        confirm: Confirm | None,
    ) -> None:
        self._permission = Permission(rig, recorder, execute, confirm)
        self._rig = rig
        self._stages = stages
        self._recorder = recorder
        self._stop = stop
        self._plan_layout = plan_layout
        self._imagined_from: Observation | None = None
        self._times = StageTimes(recorder)
        self._plans = self._chunks = 0
        self._pace: dict[int, float] = {}  # plan -> share of the speed limit
        self._followed: NDArray[np.float64] | None = None  # way of the plan that is being executed
        self._failed: list[NDArray[np.float64]] = []  # ways of plans that failed in this episode
        self._extracting = RLock()  # plans, chunks and looks may be made in different threads, by one extractor
        self._pursuit = Pursuit(rig, stages, recorder, self._times, stop, judge=self.judge, guard=self._extracting)

    @property
    def _execution(self) -> ExecutionConfig:
        return self._stages.recipe.execution

    def note(self, kind: str, **values: Any) -> None:
        """Put an event into the record."""
        self._recorder.event(kind, **values)

    def add_time(self, name: str, ms: float, **where: int) -> None:
        """Note how long a stage took that ran elsewhere."""
        self._times.add(name, ms, **where)

    def blame(self, stage: str) -> None:
        """Name the stage that an error from now on belongs to."""
        self._times.stage = stage

    def extract(self, imagined: Imagined, observation: Observation) -> ActionChunk:
        """Return the first targets of a plan; may run in another thread."""
        return imagined.chunk or self._extract(imagined.plan, observation)

    def _extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        with self._extracting:
            return self._stages.extractor.extract(plan, observation)

    def run(self, instruction: str | None, task: str | None, seed: int) -> EpisodeResult:
        """Run the episode; whatever happens the arm ends holding and the outcome is noted."""
        error: CascadeError | None = None
        try:
            end = self._run(instruction, task, seed)
        except (OperatorStop, KeyboardInterrupt) as caught:
            end = End("interrupted", "none", self._stopped(caught))
        except DeviceError as caught:
            error = fault_of(self._rig) or caught
        except CascadeError as caught:
            error = caught
        except Exception as caught:
            error = PluginError(
                f"{self._times.stage} failed with {type(caught).__name__}: {caught}.",
                "Run with --debug for the traceback.",
            )
            error.__cause__ = caught
        finally:
            self._rig.arm.stop()
        if error is not None:
            end = End("error", self._times.stage, f"Ended by an error: {error.problem}")
        note_arm_events(self._rig, self._recorder)
        monitor = self._rig.monitor
        success = (monitor.success if end.outcome != "error" else False) if monitor else None
        self._recorder.event("outcome", outcome=end.outcome, failure_stage=end.failure_stage, verdict=end.verdict)
        return EpisodeResult(
            success=success,
            outcome=end.outcome,
            failure_stage=end.failure_stage,
            verdict=end.verdict,
            stage_ms=self._times.ms,
            steps=self._pursuit.steps,
            plans=self._plans,
            moved=self._pursuit.steps > 0,
            error=error,
        )

    def _run(self, instruction: str | None, task: str | None, seed: int) -> End:
        layout = seed if self._plan_layout is None else self._plan_layout
        self._permission.instruction = instruction or ""
        self._permission.home()
        with self._times.timed("reset"):
            if self._plan_layout is not None:
                self._rig.reset(task=task, seed=layout)
                self._imagined_from = self._rig.observe()
            self._rig.reset(task=task, seed=seed)
        if instruction is None:
            if self._rig.monitor is None:
                raise ConfigError("run: expected an instruction, found none, and the rig has no sentence for its task.")
            instruction = self._rig.monitor.instruction
        self._permission.instruction = instruction
        self._recorder.event("episode_begin", task=task, seed=seed, instruction=instruction, plan_layout=layout)
        # In the control condition only the planner is told of another layout.
        told: tuple[tuple[object, int], ...] = (
            (self._stages.planner, layout),
            (self._stages.extractor, seed),
            (self._stages.reader, seed),
        )
        for stage, known_seed in told:
            if isinstance(stage, EpisodeAware) and task is not None:
                with self._times.timed("begin"):
                    stage.begin(task=task, seed=known_seed)
        self._pursuit.began_s = self._rig.clock.now_s()
        if self._execution.mode is Mode.ASYNC:
            return overlapped(self, self._rig, self._execution, instruction, seed)
        receding = self._execution.mode is Mode.RECEDING
        attempts = self._execution.receding_plans if receding else 1 + self._execution.replans
        start = self._rig.arm.read()
        end = End("failed", "planner", "No plan was made.")
        for attempt in range(attempts):
            if attempt and not receding:
                recovered = self._return_to(start)
                if recovered is not None:
                    return recovered
            self.check_stop()
            end = self._attempt(instruction, seed + attempt)
            if end.outcome in ("success", "planned", "interrupted") or end.failure_stage == "timeout":
                return end
        return end

    def _attempt(self, instruction: str, seed: int) -> End:
        """Make one plan and execute it."""
        observation = self.observe()
        imagined = self.imagine(observation, instruction, seed)
        index, refused = self.accept(imagined, observation, seed)
        if refused is not None:
            return refused
        end = self._execute(imagined.plan, index, observation, imagined.chunk)
        whole = self._execution.mode is Mode.OPEN_LOOP
        if end.outcome == "failed" and whole and self._followed is not None:
            self._failed.append(self._followed)
        return end

    def accept(self, imagined: Imagined, observation: Observation, seed: int) -> tuple[int, End | None]:
        """Record a plan and look at it; returns its number, and how the episode would end if it is refused."""
        plan, index = imagined.plan, self._plans
        self._plans += 1
        for name, ms in imagined.made_ms.items():
            self._times.keep(f"plan.{name}", ms)
        if imagined.choice is not None:
            self._recorder.event("choice", plan=index, **imagined.choice.values())
        self._pursuit.camera = plan.camera
        self._recorder.plan(index, plan)
        self._recorder.event("plan", plan=index, plan_id=plan.plan_id, seed=seed)
        settings = self._stages.recipe.gate
        if self._imagined_from is not None:
            settings = settings.model_copy(update={"first_frame": False})  # the control plans for another scene
        with self._times.timed("gate_plan", stage="gate", plan=index):
            report = self._look_at(plan, observation, settings)
        self._pace[index] = pace_of(report, settings)
        self._recorder.event("gate", subject="plan", index=index, **gate_values(report))
        if report.verdict is Verdict.REJECT:
            return index, End("rejected", "gate", refusal("plan", report))
        return index, None

    def _look_at(self, plan: VideoPlan, observation: Observation, settings: GateConfig) -> GateReport:
        reader, limits = self._stages.hand_reader, self._rig.arm.spec.limits
        return check_plan(first_view(plan), observation, settings, reader=reader, limits=limits)

    def pace(self, index: int) -> float:
        """Return the share of speed limit and chunk length that a plan was given."""
        return self._pace.get(index, 1.0)

    def imagine(self, observation: Observation, instruction: str, seed: int, timed: Timer | None = None) -> Imagined:
        """Return a plan ready to run; with a `timed` of its own it may run in another thread."""
        with self._extracting:
            return imagine(
                self._stages,
                self._imagined_from or observation,
                observation,
                instruction,
                seed=seed,
                limits=self._rig.arm.spec.limits,
                timed=timed or (lambda name, stage: self._times.timed(name, stage=stage, plan=self._plans)),
                pixels=self._needs_pixels(),
                failed=self._failed,
            )

    def _execute(self, plan: VideoPlan, index: int, observation: Observation, first: ActionChunk | None = None) -> End:
        """Extract and follow chunk after chunk until the plan is exhausted; `first` has been extracted already."""
        self._followed, again = None, 0
        receding = self._execution.mode is Mode.RECEDING
        for number in range(MOST_CHUNKS):
            self.check_stop()
            chunk, first = first, None
            if chunk is None:
                with self._times.timed("extract", stage="extract", plan=index, chunk=self._chunks):
                    chunk = self._extract(plan, observation)
            if number == 0:
                self._followed = hand_path(chunk, observation.arm.position_m)
            count = self._execution.receding_targets if receding else None
            end = self._move(chunk, index, observation.arm, first=number == 0, count=count, plan=plan)
            if end is not None:
                return end
            asked = self._pursuit.asked
            if asked is not None:
                again += 1
                if asked.verdict == "replan" or again > MOST_AGAIN:
                    return End("failed", "motion", f"Not done: the extractor gave the plan up. {asked.why}".strip())
            elif chunk.final or receding:
                return self.judge()
            observation = self.observe()
        raise PluginError(
            f"extractor {self._stages.recipe.extractor.name!r}: expected a final chunk, found none in {MOST_CHUNKS}.",
            "Set final=True on the chunk that exhausts the plan.",
        )

    def _move(
        self,
        chunk: ActionChunk,
        index: int,
        state: ArmState,
        *,
        first: bool,
        count: int | None = None,
        plan: VideoPlan | None = None,
    ) -> End | None:
        """Take one chunk through the gate and follow it; None when the plan goes on. No `plan`: the way back."""
        number, admitted = self.admit(chunk, index, state, first=first, plan=plan)
        if isinstance(admitted, End):
            return admitted
        return self.pursue(admitted, index, number, count=count, plan=plan)

    def admit(
        self, chunk: ActionChunk, index: int, state: ArmState, *, first: bool, plan: VideoPlan | None
    ) -> tuple[int, ActionChunk | End]:
        """Take a chunk through the gate and ask for consent; returns its number, and the chunk that may run."""
        number = self._chunks
        self._chunks += 1
        self._recorder.chunk(number, index, chunk)
        self._recorder.event("chunk", chunk=number, plan=index, targets=len(chunk))
        with self._times.timed("gate_chunk", stage="gate", plan=index, chunk=number):
            report = check_chunk(chunk, state, self._rig.arm.spec.limits, self._stages.recipe.gate, first=first)
        self._recorder.event("gate", subject="chunk", index=number, **gate_values(report))
        if report.chunk is None:
            return number, End("rejected", "gate", refusal("chunk", report))
        refused = self._ask(report, index, number, plan, first)
        return number, report.chunk if refused is None else refused

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
        """Follow a chunk that may run; None when it was visited to its end, or left. With `plan` it is watched."""
        self._permission.ready()
        return self._pursuit.pursue(chunk, index, number, pace=self.pace(index), count=count, leave=leave, plan=plan)

    def _stopped(self, cause: BaseException) -> str:
        if not self._pursuit.steps and isinstance(cause, OperatorStop) and cause.problem.startswith(REFUSED):
            return f"{REFUSED}; nothing moved."
        return f"Stopped by a person after {self._pursuit.steps} control steps; the arm holds."

    def _ask(self, report: GateReport, index: int, number: int, plan: VideoPlan | None, first: bool) -> End | None:
        """Ask whether a chunk may move the arm; None when it may."""
        if not self._permission.execute:
            count = len(report.chunk) if report.chunk is not None else 0
            return End("planned", "none", f"Planned only: the gate let {count} targets through, and nothing moved.")
        waited_s = self._permission.chunk(Kind.CHUNK if plan is not None else Kind.RETURN, report, index, number)
        if plan is None or not first or waited_s < LONG_WAIT_S or self._imagined_from is not None:
            return None
        with self._times.timed("gate_plan", stage="gate", plan=index):
            again = self._look_at(plan, self.observe(), self._stages.recipe.gate)
        self._recorder.event("gate", subject="plan", index=index, **gate_values(again))
        if again.verdict is Verdict.REJECT:
            return End("rejected", "gate", f"The scene changed while the arm waited. {refusal('plan', again)}")
        return None

    def judge(self) -> End:
        """Say how a plan ended that was executed."""
        return judged(self._rig.monitor, steps=self._pursuit.steps, plans=self._plans)

    def _return_to(self, start: ArmState) -> End | None:
        """Open the gripper, lift, and go back near the start pose, so that the next plan sees a clear scene."""
        if not self._pursuit.steps:
            return None
        state = self._rig.arm.read()
        chunk = return_chunk(state, start, self._rig.arm.spec.limits.max_step_m, self._execution.lift_m)
        return self._move(chunk, self._plans - 1, state, first=True)

    def observe(self) -> Observation:
        """Look, and note how long it took."""
        with self._times.timed("observe"):
            return self._rig.observe()

    def _needs_pixels(self) -> bool:
        gate = self._stages.recipe.gate
        return gate.first_frame or gate.motion or self._recorder.wants_pixels

    def check_stop(self) -> None:
        """Raise OperatorStop when a person has asked for a stop."""
        if self._stop.is_set():
            raise OperatorStop("Stopped by a person; the arm holds.")
