"""Physical cues in a plan's pixels and path: a camera that drifts, a hand that jumps, texture that does not last."""

from __future__ import annotations

from collections.abc import Sequence

from cascade.contracts import Candidate, Measure, Needs, Observation
from cascade.gate import psnr_db
from cascade.metrics.image_motion import moves
from cascade.metrics.physical import camera_stillness, teleport, track_survival
from cascade.scorers.paths import hand_path
from cascade.tiles import first_view


class PhysicalCues:
    """The worst cue as a multiple of what is still believable: 1 is at the limit, lower is better.

    Args:
        drift_px: most that the background may move.
        step_m: longest believable way of the hand between two of 33 points along its path.
        lost_share: share of tracked corners that may be lost; the arm hides many.
    """

    needs = Needs()
    measure = Measure(name="physical", unit="of the limit", higher_is_better=False)

    def __init__(self, *, drift_px: float, step_m: float, lost_share: float) -> None:
        self._drift_px, self._step_m, self._lost_share = drift_px, step_m, lost_share

    def score(self, candidates: Sequence[Candidate], observation: Observation) -> list[float | None]:
        """Return the worst cue; None for a plan in which nothing moves."""
        return [self._one(candidate, observation) for candidate in candidates]

    def _one(self, candidate: Candidate, observation: Observation) -> float | None:
        frames = candidate.plan.frames
        if not moves(frames):
            return None
        cues: list[float] = []
        drift, kept = camera_stillness(frames).value, track_survival(frames).value
        if drift is not None:
            cues.append(drift / self._drift_px)
        if kept is not None:
            cues.append((1 - kept) / self._lost_share)
        path = hand_path(candidate.chunk, observation.arm.position_m)
        jump = None if path is None else teleport(path, max_step_m=self._step_m).value
        if jump is not None:
            cues.append(jump)
        return max(cues) if cues else None


class FirstFrame:
    """Likeness of frame 0 and what the camera sees; tells samples apart only where the planner draws frame 0 anew."""

    needs = Needs()
    measure = Measure(name="first frame", unit="dB", higher_is_better=True)

    def score(self, candidates: Sequence[Candidate], observation: Observation) -> list[float | None]:
        """Return the peak signal-to-noise ratio of frame 0 against the camera image as the plan sees it [dB]."""
        scores: list[float | None] = []
        for candidate in candidates:
            plan = first_view(candidate.plan)
            seen = plan.transform.apply(observation.image(plan.camera).rgb)
            scores.append(psnr_db(seen, plan.frames[0]))
        return scores
