"""Following the chunks of one episode: steps are filmed, the extractor looks on, and every motion ends in words."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DeviceError, OperatorStop
from cascade.contracts.interfaces import Rig
from cascade.contracts.records import ActionChunk, VideoPlan
from cascade.contracts.watching import PlanWatcher, Watched
from cascade.events import Recorder, gate_values
from cascade.follower import ControlStep, Motion, MotionEnd, follow
from cascade.gate import shortened, tube_of
from cascade.interrupt import StopRequest
from cascade.outcome import End, aborted
from cascade.permission import fault_of, note_arm_events
from cascade.pipeline import Stages
from cascade.stage_times import StageTimes
from cascade.watching import Watching


class Pursuit:
    """The motions of one episode.

    Args:
        rig: connected.
        stages: whose extractor may look on, and whose gate says how far the hand may leave its way.
        recorder: receives steps, pictures and ends.
        times: of stages.
        stop: ends a motion with the arm holding.
        judge: says how a plan ended that reached the goal.
        guard: held while the extractor is asked.

    Attributes:
        steps: control steps so far.
        began_s: when the episode began, by the rig's clock.
        camera: films the steps: the one the last plan looks through.
        asked: the word for which the last chunk was left, or None.
    """

    def __init__(
        self,
        rig: Rig,
        stages: Stages,
        recorder: Recorder,
        times: StageTimes,
        stop: StopRequest,
        *,
        judge: Callable[[], End],
        guard: AbstractContextManager[Any],
    ) -> None:
        self._rig, self._stages, self._recorder = rig, stages, recorder
        self._times, self._stop, self._judge, self._guard = times, stop, judge, guard
        self._filmed = False
        self.steps = 0
        self.began_s = 0.0
        self.camera = ""
        self.asked: Watched | None = None

    def pursue(
        self,
        chunk: ActionChunk,
        index: int,
        number: int,
        *,
        pace: float,
        count: int | None = None,
        leave: Callable[[int], bool] | None = None,
        plan: VideoPlan | None = None,
    ) -> End | None:
        """Follow chunk `number` of plan `index`; None when it was visited to its end, or left.

        With `plan` its extractor may look on.

        Raises:
            OperatorStop: a person asked for a stop.
            DeviceError: the arm is in fault.
        """
        tube = tube_of(chunk, self._rig.arm.read().position_m, self._stages.recipe.gate)
        watching = self._watching(plan, index, number)
        with watching or nullcontext():
            look = None if watching is None else lambda: watching.after_step(self.steps)
            motion = self._follow(chunk, index, number, pace, count, leave, None if tube is None else tube.left, look)
            if watching is not None and motion.end is MotionEnd.DONE:
                watching.at_end()
        self.asked = None if watching is None else watching.asked
        note_arm_events(self._rig, self._recorder)
        self._recorder.event("motion", chunk=number, steps=motion.steps, end=motion.end.value)
        if tube is not None:
            self._recorder.event("gate", subject="motion", index=number, **gate_values(tube.report()))
        if motion.end is MotionEnd.SUCCESS:
            return self._judge()
        if motion.end is MotionEnd.HORIZON:
            text = f"Not done: the goal was not reached within the episode's {self.steps} control steps."
            return End("failed", "timeout", text)
        if motion.end is MotionEnd.ASTRAY and tube is not None:
            return End("rejected", "motion", aborted(tube.report()))
        if motion.end is MotionEnd.STOPPED:
            raise OperatorStop("Stopped by a person; the arm holds.")
        if motion.end is MotionEnd.FAULT:
            raise fault_of(self._rig) or DeviceError(f"arm {self._rig.arm.spec.name!r}: in fault, no cause given.")
        return None

    def _watching(self, plan: VideoPlan | None, index: int, number: int) -> Watching | None:
        extractor = self._stages.extractor
        if plan is None or not isinstance(extractor, PlanWatcher):
            return None
        note = partial(self._recorder.event, plan=index, chunk=number)
        return Watching(self._rig, extractor, plan, note=note, guard=self._guard)

    def _follow(
        self,
        chunk: ActionChunk,
        index: int,
        number: int,
        pace: float,
        count: int | None,
        leave: Callable[[int], bool] | None,
        astray: Callable[[NDArray[np.float64]], bool] | None,
        watch: Callable[[], bool] | None,
    ) -> Motion:
        def look() -> NDArray[np.uint8]:
            return self._rig.cameras[self.camera].read().rgb

        def on_step(step: ControlStep) -> None:
            self.steps += 1
            self._recorder.step(self.steps, step.t_s - self.began_s, index, number, step, look)

        if not self._filmed:
            self._filmed = True
            self._recorder.picture(0, self._rig.clock.now_s() - self.began_s, look)
        with self._times.timed("motion", stage="motion", plan=index, chunk=number):
            self._stop.moving = True
            try:
                return follow(
                    self._rig,
                    chunk,
                    stop=self._stop,
                    on_step=on_step,
                    count=None if count is None else shortened(count, pace),
                    leave=leave,
                    astray=astray,
                    look=watch,
                    pace=pace,
                )
            finally:
                self._stop.moving = False
