"""The learned value: how far along is the task at the end of a plan, by what its last frames show?"""

from __future__ import annotations

from collections.abc import Sequence

from cascade.contracts import Candidate, Measure, Needs, Observation
from cascade.value.model import ValueModel


class LearnedValue:
    """Share of the task that is done in the last frames of a plan, 0..1, by a network that learnt demonstrations.

    It looks at pixels alone: at neither what was read in the plan nor what the planner says of itself. None for a
    sentence or a camera that it was not taught.

    Args:
        model: the trained value.
        last: the mean over so many last frames is taken.
    """

    needs = Needs()
    measure = Measure(name="value", unit="of the task done", higher_is_better=True)

    def __init__(self, model: ValueModel, *, last: int = 3) -> None:
        self._model, self._last = model, last

    def score(self, candidates: Sequence[Candidate], observation: Observation) -> list[float | None]:
        """Return the share for each candidate."""
        return [self._one(candidate) for candidate in candidates]

    def _one(self, candidate: Candidate) -> float | None:
        plan = candidate.plan
        if plan.camera != self._model.camera:
            return None
        progress = self._model.progress(plan.instruction, plan.frames)
        return None if progress is None else float(progress[1:][-self._last :].mean())
