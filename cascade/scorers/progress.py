"""Progress: does the task go on evenly in a plan, as far as inverse dynamics can tell?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cascade.contracts import Candidate, Measure, Needs, Observation, PlanReader


class EvenProgress:
    """Largest share of the task that is done between two frames; 1 / (T - 1) in a plan that goes on evenly.

    Plans show moments evenly spaced along what happens, so a large share is a jump: something was left out. The shares
    are the times that inverse dynamics needs from frame to frame. It says how whole a plan is, not where it leads.

    Args:
        reader: reads progress in plans that do not bring it.
    """

    measure = Measure(name="progress", unit="of the plan in one step", higher_is_better=False)

    def __init__(self, reader: PlanReader) -> None:
        self._reader = reader

    @property
    def needs(self) -> Needs:
        """What the reader needs."""
        needs = getattr(self._reader, "needs", None)
        return needs if isinstance(needs, Needs) else Needs()

    def score(self, candidates: Sequence[Candidate], observation: Observation) -> list[float | None]:
        """Return the largest share; None where the reader tells no progress."""
        scores: list[float | None] = []
        for candidate in candidates:
            readout = candidate.plan.readout
            if readout is None or readout.progress is None:
                readout = self._reader.read(candidate.plan, observation)
            scores.append(None if readout.progress is None else float(np.diff(readout.progress).max()))
        return scores
