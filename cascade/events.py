"""What a run tells about itself while it happens: the interface of recorders, and one that keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.records import ActionChunk, GateReport, VideoPlan
from cascade.follower import ControlStep

Look = Callable[[], NDArray[np.uint8]]


class Recorder(Protocol):
    """Receives what happens in an episode, in order; indices of plans and chunks count from 0."""

    @property
    def wants_pixels(self) -> bool:
        """Whether plans should be decoded for it."""
        ...

    def event(self, kind: str, **values: Any) -> None:
        """Note one event; `values` are JSON values."""
        ...

    def plan(self, index: int, plan: VideoPlan) -> None:
        """Note a plan, after its readout if it has one."""
        ...

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        """Note a chunk as the extractor asked for it."""
        ...

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: ControlStep, look: Look) -> None:
        """Note one control period; `look` takes a picture with the camera of the plan."""
        ...

    def picture(self, number: int, t_s: float, look: Look) -> None:
        """Note what the camera sees before the first control period."""
        ...


class NoRecord:
    """Keeps nothing; evaluations use it, and displays that only listen to events build on it."""

    @property
    def wants_pixels(self) -> bool:
        """No."""
        return False

    def event(self, kind: str, **values: Any) -> None:
        """Keep nothing."""

    def plan(self, index: int, plan: VideoPlan) -> None:
        """Keep nothing."""

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        """Keep nothing."""

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: ControlStep, look: Look) -> None:
        """Keep nothing."""

    def picture(self, number: int, t_s: float, look: Look) -> None:
        """Keep nothing."""


class Both:
    """Tells two recorders, the first one first."""

    def __init__(self, first: Recorder, second: Recorder) -> None:
        self._all = (first, second)

    @property
    def wants_pixels(self) -> bool:
        """Whether one of them does."""
        return any(recorder.wants_pixels for recorder in self._all)

    def event(self, kind: str, **values: Any) -> None:
        """Tell both."""
        for recorder in self._all:
            recorder.event(kind, **values)

    def plan(self, index: int, plan: VideoPlan) -> None:
        """Tell both."""
        for recorder in self._all:
            recorder.plan(index, plan)

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        """Tell both."""
        for recorder in self._all:
            recorder.chunk(index, plan, chunk)

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: ControlStep, look: Look) -> None:
        """Tell both."""
        for recorder in self._all:
            recorder.step(number, t_s, plan, chunk, step, look)

    def picture(self, number: int, t_s: float, look: Look) -> None:
        """Tell both."""
        for recorder in self._all:
            recorder.picture(number, t_s, look)


def weights_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> digest of the weights that a plan or chunk says it was made with.

    `provenance["weights"]` is the digest of the stage's own weights, or a mapping of several.
    """
    found = provenance.get("weights")
    if isinstance(found, Mapping):
        return {str(name): str(digest) for name, digest in found.items() if digest}
    stage = provenance.get("planner") or provenance.get("extractor")
    return {str(stage): str(found)} if stage and found else {}


def gate_values(report: GateReport) -> dict[str, Any]:
    """Return a gate report as JSON values, without the chunk."""
    return {
        "verdict": report.verdict.value,
        "violations": [asdict(violation) for violation in report.violations],
        "measured": [asdict(violation) for violation in report.measured],
    }
