"""The gate between imagination and motion: one look at the plan's video, one at every chunk.

A refusal is a value (GateReport with REJECT), and every check is reported with what it measured and its limit, so that
a report can show how close a motion came. What passes lies inside the arm's workspace, always.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade.config import GateConfig
from cascade.contracts.judgement import P_EXEC
from cascade.contracts.records import (
    ActionChunk,
    ArmState,
    GateReport,
    Limits,
    Observation,
    SpaceKind,
    Verdict,
    VideoPlan,
    Violation,
)

if TYPE_CHECKING:
    from cascade.calibration_gate.calibration import GateCalibration
    from cascade.calibration_gate.tube import Tube

SAME_PSNR_DB = 99.0  # reported for identical images, whose true value is infinite
MOVED_SHARE = 0.05  # motion is measured on this share of most changed pixels


def check_plan(
    plan: VideoPlan,
    observation: Observation,
    settings: GateConfig,
    *,
    reader: object = None,
    limits: Limits | None = None,
) -> GateReport:
    """Judge a plan's video before anything moves.

    Args:
        plan: decoded here if a check needs its pixels.
        observation: what the cameras see now.
        settings: thresholds of the recipe; those of its calibration, if it names one, come on top.
        reader: who reads the hand in the plan for a calibrated gate: the extractor, or the recipe's reader.
        limits: of the arm.

    Returns:
        PASS or REJECT, without a chunk.

    Raises:
        IncompatibleError: the calibration is of another planner, extractor or camera.
    """
    measured: list[Violation] = []
    failed: list[Violation] = []
    calibration = calibration_of(settings)
    if settings.first_frame:
        seen = plan.transform.apply(observation.image(plan.camera).rgb)
        value = psnr_db(seen, plan.frames[0])
        text = "The plan begins with another scene than the camera sees."
        least_db = settings.min_first_frame_psnr_db if calibration is None else calibration.first_frame_db
        check = Violation(check="first frame", value=value, limit=least_db, unit="dB")
        _note(check, value < check.limit, text, measured, failed)
    if settings.motion:
        value, step = motion_levels(plan.frames)
        check = Violation(
            check="motion present", value=value, limit=settings.min_motion_levels, unit="grey levels", step=step
        )
        _note(check, value < check.limit, "Hardly anything moves in the plan.", measured, failed)
    if calibration is not None and reader is not None:
        from cascade.plan_judge import judge_plan

        judgement = judge_plan(plan, observation, calibration, reader=reader, limits=limits)
        plan.provenance[P_EXEC] = round(judgement.p_exec, 4)
        measured += judgement.measured
        failed += judgement.failed
    verdict = Verdict.REJECT if failed else Verdict.PASS
    return GateReport(verdict=verdict, violations=tuple(failed), measured=tuple(measured))


def calibration_of(settings: GateConfig) -> GateCalibration | None:
    """Return the calibration that the settings name, read once, or None.

    Raises:
        ConfigError: there is none of that name.
    """
    if settings.calibration is None:
        return None
    from cascade.calibration_gate.calibration import load_calibration

    return load_calibration(settings.calibration)


def pace_of(report: GateReport, settings: GateConfig) -> float:
    """Return the share of speed limit and chunk length for a plan: the surer, the faster and longer, up to 1.

    A plan that was only just let through goes at `settings.slowest`; without a calibrated look every plan goes at 1.

    Args:
        report: of the plan, from `check_plan`.
        settings: of the recipe.
    """
    looked = next((check for check in report.measured if check.check == P_EXEC), None)
    if looked is None:
        return 1.0
    sure = (looked.value - looked.limit) / max(1.0 - looked.limit, 1e-6)
    return settings.slowest + (1.0 - settings.slowest) * min(max(sure, 0.0), 1.0)


def shortened(targets: int, pace: float) -> int:
    """Return how many of so many targets are followed at a pace before the next look, at least one."""
    return max(1, round(pace * targets))


def tube_of(chunk: ActionChunk, start_m: NDArray[np.float64], settings: GateConfig) -> Tube | None:
    """Return what watches the hand on the way of a chunk from `start_m` (3,), or None where no tube was calibrated."""
    calibration = calibration_of(settings)
    if calibration is None or not len(chunk) or chunk.space.kind is not SpaceKind.EE_POSE:
        return None
    from cascade.calibration_gate.tube import Tube

    return Tube(chunk, start_m, calibration.tube_m)


def psnr_db(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two images of the same size [dB], at most `SAME_PSNR_DB`."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return SAME_PSNR_DB if error < 1e-6 else min(SAME_PSNR_DB, 10.0 * math.log10(255.0**2 / error))


def motion_levels(frames: NDArray[np.uint8]) -> tuple[float, int]:
    """Return the largest mean change of the most changed 5 % of pixels against frame 0, and the frame it occurs in."""
    import cv2

    first = frames[0]
    share = max(1, int(MOVED_SHARE * first.shape[0] * first.shape[1]))
    changes = []
    for frame in frames[1:]:
        change = cv2.absdiff(frame, first).sum(axis=-1, dtype=np.uint16).ravel()
        changes.append(float(np.partition(change, -share)[-share:].mean()) / first.shape[-1])
    step = int(np.argmax(changes))
    return changes[step], step + 1


def check_chunk(
    chunk: ActionChunk, state: ArmState, limits: Limits, settings: GateConfig, *, first: bool = True
) -> GateReport:
    """Judge a chunk, clip what is slightly out of bounds, refuse the rest.

    Clipped: targets within the margin outside the workspace, and nominal times that ask for too much speed.

    Args:
        chunk: end-effector targets.
        state: where the arm is now.
        limits: of the arm.
        settings: thresholds of the recipe.
        first: whether it is the first chunk of its plan, which may not be empty.

    Raises:
        IncompatibleError: the recipe's calibration is of another extractor.
    """
    calibration = calibration_of(settings)
    if calibration is not None:
        calibration.check_weights(chunk.provenance, named=False)
    measured: list[Violation] = []
    failed: list[Violation] = []
    clipped: list[Violation] = []
    count = Violation(check="targets", value=len(chunk), limit=1 if first or not chunk.final else 0, unit="targets")
    _note(count, len(chunk) < count.limit, "The extractor found nothing to do.", measured, failed)
    kind = Violation(check="action space", value=0.0, limit=0.0, unit="")
    if chunk.space.kind is not SpaceKind.EE_POSE:
        _note(kind, True, f"No limits are known for {chunk.space.kind.value} targets.", measured, failed)
    if failed or not len(chunk):
        return _report(None if failed else chunk, measured, failed, clipped)
    numbers = np.concatenate([chunk.values.ravel(), chunk.gripper, chunk.times_s, chunk.hold_s])
    bad = int((~np.isfinite(numbers)).sum())
    finite = Violation(check="finite numbers", value=bad, limit=0, unit="values")
    _note(finite, bad > 0, "A target is not a number.", measured, failed)
    if bad:
        return _report(None, measured, failed, clipped)
    position = _workspace(chunk.values[:, :3], limits, settings, measured, failed, clipped)
    _jumps(position, chunk.values[:, 3:], state, limits, measured, failed)
    _reach(position, settings, measured, failed)
    times_s = _speed(position, chunk.times_s, state, limits, measured, clipped)
    if failed:
        return _report(None, measured, failed, clipped)
    if clipped:
        values = np.concatenate([position, chunk.values[:, 3:]], axis=1)
        chunk = replace(chunk, values=values, times_s=times_s)
    return _report(chunk, measured, failed, clipped)


def _workspace(
    position: NDArray[np.float64],
    limits: Limits,
    settings: GateConfig,
    measured: list[Violation],
    failed: list[Violation],
    clipped: list[Violation],
) -> NDArray[np.float64]:
    """Return the positions inside the box; note how far outside the farthest one was."""
    inside = np.clip(position, limits.workspace_m[0], limits.workspace_m[1])
    excess = np.linalg.norm(position - inside, axis=1)
    step = int(excess.argmax())
    value = float(excess[step])
    check = Violation(check="workspace", value=value, limit=settings.workspace_margin_m, unit="m", step=step)
    _note(check, value > check.limit, "A target lies outside the workspace.", measured, failed)
    if 0 < value <= check.limit:
        clipped.append(replace(check, limit=0.0, message="Targets outside the workspace were moved to its edge."))
    return inside


def _jumps(
    position: NDArray[np.float64],
    orientation: NDArray[np.float64],
    state: ArmState,
    limits: Limits,
    measured: list[Violation],
    failed: list[Violation],
) -> None:
    way = _ways(position, state)
    step = int(way.argmax())
    check = Violation(check="step size", value=float(way[step]), limit=limits.max_step_m, unit="m", step=step)
    _note(check, check.value > check.limit, "Two consecutive targets are too far apart.", measured, failed)
    if len(orientation) > 1:
        # Angle between unit quaternions; both signs mean the same rotation.
        cosine = np.clip(np.abs(np.sum(orientation[1:] * orientation[:-1], axis=1)), 0.0, 1.0)
        angle = 2 * np.arccos(cosine)
        step = int(angle.argmax())
        check = Violation(
            check="rotation", value=float(angle[step]), limit=limits.max_rotation_rad, unit="rad", step=step + 1
        )
        _note(check, check.value > check.limit, "The hand would turn too far at once.", measured, failed)


def _reach(
    position: NDArray[np.float64], settings: GateConfig, measured: list[Violation], failed: list[Violation]
) -> None:
    if settings.max_reach_m is None:
        return
    distance = np.linalg.norm(position, axis=1)
    step = int(distance.argmax())
    check = Violation(check="reach", value=float(distance[step]), limit=settings.max_reach_m, unit="m", step=step)
    _note(check, check.value > check.limit, "A target is farther from the base than the arm reaches.", measured, failed)


def _speed(
    position: NDArray[np.float64],
    times_s: NDArray[np.float64],
    state: ArmState,
    limits: Limits,
    measured: list[Violation],
    clipped: list[Violation],
) -> NDArray[np.float64]:
    """Return times late enough for the speed limit; note the speed that was asked for."""
    way = _ways(position, state)
    given = np.diff(times_s, prepend=0.0)
    needed = way / limits.max_speed_m_s
    speed = np.divide(way, given, out=np.zeros_like(way), where=given > 1e-9)
    step = int(speed.argmax())
    check = Violation(
        check="nominal speed", value=float(speed[step]), limit=limits.max_speed_m_s, unit="m/s", step=step
    )
    measured.append(check)
    if np.all(given >= needed - 1e-9):
        return times_s
    clipped.append(replace(check, message="Targets were given more time, to keep within the speed limit."))
    return np.cumsum(np.maximum(given, needed))


def _ways(position: NDArray[np.float64], state: ArmState) -> NDArray[np.float64]:
    """(H,) distance of each target from the one before, the first from where the hand is."""
    return np.asarray(np.linalg.norm(np.diff(position, axis=0, prepend=state.position_m[None]), axis=1))


def _note(check: Violation, broken: bool, message: str, measured: list[Violation], failed: list[Violation]) -> None:
    measured.append(check)
    if broken:
        failed.append(replace(check, message=message))


def _report(
    chunk: ActionChunk | None, measured: list[Violation], failed: list[Violation], clipped: list[Violation]
) -> GateReport:
    verdict = Verdict.REJECT if failed else Verdict.CLIP if clipped else Verdict.PASS
    return GateReport(verdict=verdict, chunk=chunk, violations=tuple(failed + clipped), measured=tuple(measured))
