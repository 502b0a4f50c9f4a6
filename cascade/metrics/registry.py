"""The 21 metrics in order, each with unit, range and caveat."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from cascade.metrics import action, physical, visual
from cascade.metrics.evidence import Evidence
from cascade.metrics.image_motion import track
from cascade.metrics.physical import motion_masks
from cascade.metrics.result import Axis, Metric, Result

HAND_RADIUS_M = 0.05
REACH_SHARE = 0.10  # of the image's width: how near the gripper must be to count as moving the object


def _given(value: Any) -> Any:
    """Return a part of the evidence that the registry has checked to be there."""
    if value is None:
        raise ValueError("a metric was computed without what it needs")
    return value


def _teleport(e: Evidence) -> Result:
    bounds = _given(e.limits)
    step = bounds.max_step_m if e.frame_dt_s is None else bounds.max_speed_m_s * e.frame_dt_s
    return physical.teleport(_given(e.path_m), max_step_m=step)


def _three_d(e: Evidence) -> Result:
    static = motion_masks(e.frames).mean(axis=0) == 0
    return physical.three_d_consistency(e.frames, _given(e.depth_m), _given(e.K), static)


def _stillness(e: Evidence) -> Result:
    return physical.camera_stillness(e.frames, None if e.object_mask is None else ~e.object_mask)


def _permanence(e: Evidence) -> Result:
    reach = REACH_SHARE * e.frames.shape[2]
    return physical.object_permanence(e.frames, _given(e.object_mask), gripper_px=e.gripper_px, reach_px=reach)


def _unsupported(e: Evidence) -> Result:
    tracks = track(e.frames, _given(e.object_mask))
    reach = REACH_SHARE * e.frames.shape[2]
    return physical.unsupported_motion(tracks, _given(e.gripper_px), reach_px=reach, frames=e.frames)


def _smoothness(e: Evidence) -> Result:
    path = _given(e.motion_m)
    times = _given(e.motion_times_s)
    even = np.linspace(times[0], times[-1], len(times))
    resampled = np.column_stack([np.interp(even, times, column) for column in path.T])
    return action.smoothness(resampled, max(float(times[-1] - times[0]), 1e-6) / max(1, len(times) - 1))


def _metric(
    number: int,
    name: str,
    axis: Axis,
    unit: str,
    range_: tuple[float, float],
    better: bool | None,
    caveat: str,
    needs: tuple[str, ...],
    compute: Any,
) -> Metric:
    return Metric(
        number=number,
        name=name,
        axis=axis,
        unit=unit,
        range=range_,
        higher_is_better=better,
        caveat=caveat,
        needs=needs,
        compute=compute,
    )


V, P, A = Axis.VISUAL, Axis.PHYSICAL, Axis.ACTION
METRICS: tuple[Metric, ...] = (
    _metric(
        1,
        "psnr",
        V,
        "dB",
        (0, 99),
        True,
        "an offset costs more than a missing object",
        ("reference",),
        lambda e: visual.psnr(e.frames, _given(e.reference)),
    ),
    _metric(
        2,
        "ssim",
        V,
        "1",
        (-1, 1),
        True,
        "nearly blind to small objects",
        ("reference",),
        lambda e: visual.ssim(e.frames, _given(e.reference)),
    ),
    _metric(
        3,
        "fd_own",
        V,
        "1",
        (0, inf),
        False,
        "not FVD; of one feature network, many clips",
        ("features", "reference_features"),
        lambda e: visual.frechet(_given(e.features), _given(e.reference_features)),
    ),
    _metric(
        4,
        "kid_own",
        V,
        "1",
        (-inf, inf),
        False,
        "of one feature network; may be below 0",
        ("features", "reference_features"),
        lambda e: visual.kernel_distance(_given(e.features), _given(e.reference_features)),
    ),
    _metric(
        5,
        "warp_error",
        V,
        "grey levels",
        (0, 255),
        False,
        "read it next to dynamic_degree",
        (),
        lambda e: visual.warp_error(e.frames, e.flow),
    ),
    _metric(
        6,
        "dynamic_degree",
        V,
        "px/frame",
        (0, inf),
        None,
        "the guard of the others; no merit in itself",
        (),
        lambda e: visual.dynamic_degree(e.flow, frame_dt_s=e.frame_dt_s),
    ),
    _metric(
        7,
        "seam_jump",
        V,
        "dB",
        (0, 99),
        True,
        "of frame 0 only",
        ("camera_frame",),
        lambda e: visual.seam_jump(e.frames, _given(e.camera_frame)),
    ),
    _metric(
        8,
        "motion_mask_iou",
        P,
        "1",
        (0, 1),
        True,
        "where and when, not what; two real takes do not reach 1",
        ("reference",),
        lambda e: physical.motion_mask_iou(e.frames, _given(e.reference)),
    ),
    _metric(
        9,
        "rigid_residual",
        P,
        "px",
        (0, inf),
        False,
        "turning out of the image plane costs a little",
        ("object_mask",),
        lambda e: physical.rigid_residual(e.frames, _given(e.object_mask)),
    ),
    _metric(
        10,
        "track_survival",
        P,
        "1",
        (0, 1),
        True,
        "honest occlusion ends tracks too",
        (),
        lambda e: physical.track_survival(e.frames),
    ),
    _metric(
        11,
        "object_permanence",
        P,
        "1",
        (0, 1),
        True,
        "by colour; what vanishes in the hand is not found, what is behind the arm looks lost",
        ("object_mask",),
        _permanence,
    ),
    _metric(
        12,
        "teleport",
        P,
        "1",
        (0, inf),
        False,
        "finds only gross jumps where a plan's time is ordinal",
        ("path_m", "limits"),
        _teleport,
    ),
    _metric(
        13,
        "three_d_consistency",
        P,
        "m",
        (0, inf),
        False,
        "needs metric depth of every frame",
        ("depth_m", "K"),
        _three_d,
    ),
    _metric(
        14,
        "camera_stillness",
        P,
        "px",
        (0, inf),
        False,
        "for cameras that stand still",
        (),
        _stillness,
    ),
    _metric(
        15,
        "unsupported_motion",
        P,
        "1",
        (0, 1),
        False,
        "in the image only",
        ("object_mask", "gripper_px"),
        _unsupported,
    ),
    _metric(
        16,
        "limits",
        A,
        "1",
        (0, inf),
        False,
        "of targets in a plan only the nominal speed",
        ("motion_m", "motion_times_s", "limits"),
        lambda e: action.limits(_given(e.motion_m), _given(e.motion_times_s), _given(e.limits)),
    ),
    _metric(
        17,
        "smoothness",
        A,
        "1",
        (-inf, inf),
        True,
        "compare paths with the same number of samples",
        ("motion_m", "motion_times_s"),
        _smoothness,
    ),
    _metric(
        18,
        "ik_feasibility",
        A,
        "1",
        (0, 1),
        True,
        "of the solver too",
        ("ik", "motion_m"),
        lambda e: action.ik_feasibility(_given(e.ik), _given(e.motion_m)),
    ),
    _metric(
        19,
        "clearance",
        A,
        "m",
        (-inf, inf),
        True,
        "the hand as one sphere",
        ("motion_m", "obstacles_m"),
        lambda e: action.clearance(_given(e.motion_m), _given(e.obstacles_m), radius_m=HAND_RADIUS_M),
    ),
    _metric(
        20,
        "gripper_sanity",
        A,
        "1/s",
        (0, inf),
        False,
        "a gripper that never moves is perfect here",
        ("motion_opening", "motion_times_s", "motion_m"),
        lambda e: action.gripper_sanity(_given(e.motion_opening), _given(e.motion_times_s), _given(e.motion_m)),
    ),
    _metric(
        21,
        "executability",
        A,
        "1",
        (0, 1),
        True,
        "of planner and extractor together",
        ("trials",),
        lambda e: action.executability(*_given(e.trials)),
    ),
)


def metric(name: str) -> Metric:
    """Return a metric by name.

    Raises:
        DataError: there is none of that name.
    """
    from cascade.contracts.errors import DataError, did_you_mean

    for known in METRICS:
        if known.name == name:
            return known
    raise DataError(f"metric {name!r}: unknown.", did_you_mean(name, (known.name for known in METRICS)))


def measure_all(evidence: Evidence) -> dict[str, Result]:
    """Return every metric's result by name."""
    return {known.name: known.measure(evidence) for known in METRICS}
