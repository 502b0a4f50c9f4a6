"""How long the stages of an episode take, and which of them is at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from cascade.events import Recorder


class StageTimes:
    """Milliseconds of every call of every stage; each goes into the record too.

    Args:
        recorder: is told every time.

    Attributes:
        ms: stage -> milliseconds of each call.
        stage: the one at work, which an error belongs to.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.ms: dict[str, list[float]] = {}
        self.stage = "planner"

    def keep(self, name: str, ms: float) -> None:
        """Keep a time that is in the record already."""
        self.ms.setdefault(name, []).append(ms)

    def add(self, name: str, ms: float, **where: int) -> None:
        """Keep and record how long a stage took; `where` names plan and chunk."""
        self.keep(name, ms)
        self._recorder.event("stage", stage=name, ms=round(ms, 3), **where)

    @contextmanager
    def timed(self, name: str, *, stage: str = "motion", **where: int) -> Iterator[None]:
        """Time a block, which is the work of a stage; nothing is kept where it raises."""
        self.stage = stage
        began = perf_counter()
        yield
        self.add(name, (perf_counter() - began) * 1e3, **where)
