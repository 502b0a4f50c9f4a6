"""An extractor looks on while its chunk is followed: when, through which camera, and what its word changes.

What it says is evidence, not the control: a look that fails is noted and the arm goes on. In a simulated world that
waits for compute a look is judged at once. In real time it is judged in another thread, the arm goes on meanwhile, and
looks that fall due before the last one has been judged are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from cascade.background import Background
from cascade.contracts.errors import DataError, PluginError, StaleImageError
from cascade.contracts.interfaces import Rig
from cascade.contracts.records import Observation, VideoPlan
from cascade.contracts.watching import PlanWatcher, Watched

MOST_AGAIN = 24  # chunks of one plan that may be left for another look at it


@dataclass(frozen=True, slots=True)
class _Judged:
    """What came of one look: a word or why there is none, and how long that took."""

    watched: Watched | None
    problem: str
    ms: float


class Watching:
    """Looks taken while one chunk of one plan is followed; a context manager, which waits for a look under way.

    Args:
        rig: connected.
        watcher: the extractor.
        plan: the plan whose chunk is followed.
        note: puts an event `watch` into the record: step, progress, spread, verdict, why, object_m [m], ms.
        guard: held while the extractor is asked; keeps out who else may ask it, in another thread.
    """

    def __init__(
        self,
        rig: Rig,
        watcher: PlanWatcher,
        plan: VideoPlan,
        *,
        note: Callable[..., None],
        guard: AbstractContextManager[Any],
    ) -> None:
        self._rig, self._watcher, self._plan, self._note, self._guard = rig, watcher, plan, note, guard
        self._background: Background[_Judged] | None = None
        self._step = 0  # of the episode, at which was looked last
        self.asked: Watched | None = None  # the word for which the chunk is to be left

    def __enter__(self) -> Watching:
        """Begin; looks in real time get a thread when the first is due."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for a look under way."""
        if self._background is not None:
            self._background.close()

    def after_step(self, step: int) -> bool:
        """Look if it is time to, after control step `step` of the episode; returns whether the chunk is to be left."""
        hz = self._watcher.watch_hz
        if hz is None or hz <= 0:
            return False
        if self._background is None:
            frozen = self._rig.describe().get("clock") == "frozen"
            self._background = Background(self._rig.clock, frozen=frozen)
        if self._background.ready:
            self._take(self._background)
        if self.asked is None and not self._background.busy and step % self.every(hz) == 0:
            self._step = step
            self._look(self._background)
        return self.asked is not None

    def at_end(self) -> None:
        """Hear what a look that is still being judged has to say: the chunk has been followed to its end."""
        if self._background is not None and self._background.busy:
            self._take(self._background)

    def every(self, hz: float) -> int:
        """Return how many control steps lie between looks at a rate [Hz]."""
        return max(1, round(self._rig.arm.spec.control_hz / hz))

    def _look(self, background: Background[_Judged]) -> None:
        try:
            observation = seen(self._rig, self._plan.camera)
        except (DataError, StaleImageError) as error:
            self._note("watch", step=self._step, error=error.problem)
            return
        background.start(lambda: self._judge(observation))
        if background.ready:
            self._take(background)

    def _judge(self, observation: Observation) -> _Judged:
        began, watched, problem = perf_counter(), None, ""
        with self._guard:
            try:
                watched = self._watcher.watch(self._plan, observation)
            except DataError as error:
                problem = error.problem
        return _Judged(watched, problem, (perf_counter() - began) * 1e3)

    def _take(self, background: Background[_Judged]) -> None:
        judged = background.take()
        watched, ms = judged.watched, round(judged.ms, 3)
        if watched is None:
            self._note("watch", step=self._step, error=judged.problem, ms=ms)
            return
        if watched.verdict not in ("on", "again", "replan"):
            raise PluginError(f"watch: expected a verdict on, again or replan, found {watched.verdict!r}.")
        place = None if watched.object_m is None else [round(float(x), 4) for x in watched.object_m]
        self._note(
            "watch",
            step=self._step,
            progress=watched.progress,
            spread=watched.spread,
            verdict=watched.verdict,
            why=watched.why,
            object_m=place,
            ms=ms,
        )
        if watched.verdict != "on":
            self.asked = watched


def seen(rig: Rig, camera: str) -> Observation:
    """Return what one camera sees now, or all of them where only the rig knows how that camera stands to the arm."""
    if camera not in rig.cameras:
        return rig.observe()
    image = rig.cameras[camera].read()
    if image.T_base_cam is None and rig.provides.extrinsics:
        return rig.observe()
    return Observation(images={camera: image}, arm=rig.arm.read())
