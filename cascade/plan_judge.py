"""The calibrated part of the plan gate: cues of a plan, its `p_exec`, and the limits of a calibration run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cascade.calibration_gate.calibration import Bound, GateCalibration
from cascade.contracts.errors import DataError, IncompatibleError
from cascade.contracts.interfaces import PlanReader
from cascade.contracts.judgement import P_EXEC
from cascade.contracts.records import EeReadout, Limits, Observation, VideoPlan, Violation
from cascade.metrics.cues import Cues, Reading, cues_of
from cascade.metrics.hand_flow import View

OBJECT = "object"
GOAL_END, GOAL_END_M, TAIL = "goal_end", "goal_end_m", "tail_motion"  # cues


@dataclass(frozen=True, slots=True)
class PlanJudgement:
    """What a calibrated look at a plan found.

    Attributes:
        p_exec: probability that following it reaches the goal.
        by: the model that said so.
        cues: what it rests on.
        measured: every check; `failed`: those beyond their limits, with messages.
    """

    p_exec: float
    by: str
    cues: Cues
    measured: tuple[Violation, ...]
    failed: tuple[Violation, ...]


def judge_plan(
    plan: VideoPlan,
    observation: Observation,
    calibration: GateCalibration,
    *,
    reader: object,
    limits: Limits | None = None,
) -> PlanJudgement:
    """Judge a plan before anything moves.

    Args:
        plan: decoded here.
        observation: what the cameras see now.
        calibration: for this planner, extractor and camera.
        reader: who reads the hand in the plan: the extractor, if it can.
        limits: of the arm.

    Raises:
        IncompatibleError: the plan is of other weights or another camera than the calibration, or the hand in it cannot
            be read.
    """
    calibration.check_weights(plan.provenance)
    if plan.camera != calibration.camera:
        raise IncompatibleError(
            f"gate calibration: expected plans of camera {calibration.camera!r}, found one of {plan.camera!r}.",
            "Fit one for this camera with: cascade train gate.",
        )
    reading = reading_of(plan, observation, hand_in(plan, observation, reader), limits)
    cues = cues_of(reading, calibration.goals, calibration.value)
    p_exec, by = calibration.probability(cues)
    measured, failed = [], []
    for bound in calibration.bounds:
        if bound.cue not in cues.values:
            continue
        check = Violation(check=bound.check, value=cues.values[bound.cue], limit=bound.limit, unit=bound.unit)
        measured.append(check)
        if bound.broken(check.value):
            failed.append(_told(check, _why(bound, calibration, cues)))
    check = Violation(check=P_EXEC, value=p_exec, limit=calibration.min_p_exec, unit="1")
    measured.append(check)
    if p_exec < calibration.min_p_exec:
        text = "The plan would probably not reach its goal." if cues.moves else "Hardly anything moves in the plan."
        failed.append(_told(check, text))
    return PlanJudgement(p_exec, by, cues, tuple(measured), tuple(failed))


def _why(bound: Bound, calibration: GateCalibration, cues: Cues) -> str:
    """What a refusal says; where the goal is missed, by how much and whether because the plan stops early."""
    if bound.cue != GOAL_END:
        return bound.message
    stops = any(one.cue == TAIL and TAIL in cues.values and one.broken(cues.values[TAIL]) for one in calibration.bounds)
    away = f"{100 * cues.values[GOAL_END_M]:.0f} cm from where the instruction asks it to be"
    if stops:
        return f"The plan stops early: nothing moves in its last quarter, and the hand is left {away}."
    return f"{bound.message} The hand ends {away}."


def hand_in(plan: VideoPlan, observation: Observation, reader: object) -> EeReadout:
    """Return the hand that an extractor reads in a plan, or the reading that came with it.

    Raises:
        IncompatibleError: there is neither.
    """
    if isinstance(reader, PlanReader):
        return reader.read(plan, observation)
    if plan.readout is not None:
        return plan.readout
    raise IncompatibleError(
        "gate calibration: expected an extractor that reads the hand in a plan, found one that does not.",
        "Add `reader: {name: idm}` to the recipe, or go without: --set gate.calibration=null.",
    )


def reading_of(plan: VideoPlan, observation: Observation, hand: EeReadout, limits: Limits | None) -> Reading:
    """Return a plan as cues are computed from it.

    Raises:
        IncompatibleError: the camera's pose is unknown.
    """
    image = observation.image(plan.camera)
    if image.T_base_cam is None:
        raise IncompatibleError(
            f"gate calibration: needs the pose of camera {plan.camera!r}, found none.",
            "Calibrate it: cascade calibrate hand-eye.",
        )
    try:
        mask = plan.transform.apply_mask(image.mask(OBJECT))
    except DataError:
        mask = None
    return Reading(
        frames=plan.frames,
        seen=plan.transform.apply(image.rgb),
        view=View(plan.transform.intrinsics(image.K), image.T_base_cam),
        start_m=observation.arm.position_m,
        hand_m=hand.position_m,
        opening=hand.opening,
        spread_m=hand.position_std_m,
        instruction=plan.instruction,
        limits=limits,
        mask=mask if mask is not None and mask.any() else None,
    )


def _told(check: Violation, message: str) -> Violation:
    return replace(check, message=message)
