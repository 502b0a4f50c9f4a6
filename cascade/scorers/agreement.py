"""Agreement: do two ways of reading a plan agree on where the hand goes? Metric A, see docs/metrics.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ActionExtractor, Candidate, Measure, Needs, Observation, SpaceKind
from cascade.contracts.errors import CascadeError, IncompatibleError
from cascade.metrics import agreement, paired

Floats = NDArray[np.float64]
GRIP_WEIGHT = 0.5  # an opening or closing that only one reading sees counts as half the length of the way


class ExtractorAgreement:
    """RMS distance between two readings over their length.

    Against another extractor half of the gripper events they do not share comes on top. A reading that came with the
    plan tells the opening that is seen, not the one to command, so that only the ways are compared.

    Args:
        second: another extractor; None compares the targets with the reading that came with the plan, which is
            free where the planner reads its own latents.
    """

    measure = Measure(name="agreement", unit="of the way", higher_is_better=False)

    def __init__(self, second: ActionExtractor | None) -> None:
        self._second = second

    @property
    def needs(self) -> Needs:
        """What the second extractor needs."""
        return self._second.needs if self._second is not None else Needs()

    def score(self, candidates: Sequence[Candidate], observation: Observation) -> list[float | None]:
        """Return the disagreement; None where one of the readings is missing or does not move."""
        return [self._one(candidate, observation) for candidate in candidates]

    def _one(self, candidate: Candidate, observation: Observation) -> float | None:
        chunk, start = candidate.chunk, observation.arm.position_m
        other = self._other(candidate, observation)
        if chunk is None or not len(chunk) or chunk.space.kind is not SpaceKind.EE_POSE or other is None:
            return None
        mine = np.vstack([start[None], chunk.values[:, :3]]), np.r_[observation.arm.gripper_opening, chunk.gripper]
        pair = paired(mine[0], other[0], a_opening=mine[1], b_opening=other[1])
        a, b = pair["a_m"], pair["b_m"]
        if a is None or b is None:
            return None
        result = agreement(a, b, a_opening=pair["a_opening"], b_opening=pair["b_opening"])
        if result.position is None:
            return None
        return result.position + (GRIP_WEIGHT * (result.grip or 0.0) if self._second is not None else 0.0)

    def _other(self, candidate: Candidate, observation: Observation) -> tuple[Floats, Floats] | None:
        """Path (T, 3) and openings (T,) by the second reading."""
        if self._second is None:
            readout = candidate.plan.readout
            return None if readout is None else (readout.position_m, readout.opening)
        try:
            chunk = self._second.extract(candidate.plan, observation)
        except IncompatibleError:
            raise
        except CascadeError:
            return None
        if not len(chunk) or chunk.space.kind is not SpaceKind.EE_POSE:
            return None
        start = observation.arm.position_m
        return np.vstack([start[None], chunk.values[:, :3]]), np.r_[observation.arm.gripper_opening, chunk.gripper]
