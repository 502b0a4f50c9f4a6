"""Action plausibility: can an arm do it? Metrics 16 to 21."""

from __future__ import annotations

import itertools

import numpy as np

from cascade.contracts.records import Limits
from cascade.metrics.arrays import Floats
from cascade.metrics.evidence import IkSolutions
from cascade.metrics.paths import MIN_PATH_M, check_path, extent, grip_events
from cascade.metrics.result import Result, measured, no_motion, unavailable
from cascade.statistics import wilson

STILL = "the hand hardly moves"
IK_POSITION_M = 0.002
IK_ROTATION_RAD = np.deg2rad(1.0)
IK_MARGIN_RAD = np.deg2rad(2.0)
MIN_PEAK_M_S = 1e-3


def limits(path_m: Floats, times_s: Floats, bounds: Limits) -> Result:
    """Greatest of speed, acceleration and jerk over its limit, 0.., lower is better; above 1 is too much.

    `detail` holds each ratio and the workspace margin [m] (negative: outside). Caveat: acceleration and jerk need
    evenly timed samples; for targets far apart only speed is judged, at their nominal times.

    Args:
        path_m: (N, 3) end-effector path.
        times_s: (N,) its times.
        bounds: of the arm.
    """
    path = check_path("path", path_m)
    if extent(path) < MIN_PATH_M:
        return no_motion(STILL)
    inside = np.minimum(path - bounds.workspace_m[0], bounds.workspace_m[1] - path)
    steps = np.diff(times_s)
    # Two targets at the same nominal time (a gripper changing in place) have no speed between them.
    timed = steps > 1e-9
    ratios = {"speed": _peak(np.diff(path, axis=0)[timed] / steps[timed][:, None]) / bounds.max_speed_m_s}
    if len(path) >= 4 and np.allclose(steps, steps[0], rtol=0.02):
        dt = float(steps.mean())
        ratios["acceleration"] = _peak(np.diff(path, 2, axis=0) / dt**2) / bounds.max_acceleration_m_s2
        ratios["jerk"] = _peak(np.diff(path, 3, axis=0) / dt**3) / bounds.max_jerk_m_s3
    return measured(max(ratios.values()), **ratios, workspace_margin_m=float(inside.min()))


def _peak(vectors: Floats) -> float:
    return float(np.linalg.norm(vectors, axis=1).max()) if len(vectors) else 0.0


def smoothness(path_m: Floats, dt_s: float = 1.0) -> Result:
    """Log dimensionless jerk of the speed (Balasubramanian et al., 2015), below 0, higher (nearer 0) is smoother.

    -ln(T^3 / v_peak^2 * integral of |d2v/dt2|^2 dt). Dimensionless: `dt_s` does not matter. Caveat: few frames hide
    jerk; compare paths with the same number of samples.

    Args:
        path_m: (T >= 5, 3) path, evenly timed.
        dt_s: time between its points.
    """
    path = check_path("path", path_m)
    if extent(path) < MIN_PATH_M:
        return no_motion(STILL)
    if len(path) < 5:
        return unavailable("needs at least 5 points")
    velocity = np.diff(path, axis=0) / dt_s
    peak = float(np.linalg.norm(velocity, axis=1).max())
    if peak * dt_s < MIN_PEAK_M_S:
        return no_motion(STILL)
    jerk = np.diff(velocity, 2, axis=0) / dt_s**2
    whole = (len(velocity) * dt_s) ** 3 / peak**2 * float((jerk**2).sum() * dt_s)
    return measured(-float(np.log(max(whole, 1e-12))), samples=len(path))


def ik_feasibility(solutions: IkSolutions, path_m: Floats) -> Result:
    """Share of poses reached within 2 mm and 1 degree with 2 degrees to every joint limit, 0..1, higher is better.

    `detail` holds the worst manipulability. Caveat: of the solver too; use warm starts and restarts.

    Args:
        solutions: what the solver reached.
        path_m: (N, 3) positions asked for.
    """
    if extent(check_path("path", path_m)) < MIN_PATH_M:
        return no_motion(STILL)
    reached = (
        (np.abs(solutions.position_error_m) < IK_POSITION_M)
        & (np.abs(solutions.rotation_error_rad) < IK_ROTATION_RAD)
        & (solutions.joint_margin_rad > IK_MARGIN_RAD)
    )
    worst = None if solutions.manipulability is None else float(solutions.manipulability.min())
    return measured(float(reached.mean()), poses=len(reached), worst_manipulability=worst)


def clearance(path_m: Floats, obstacles_m: Floats, *, radius_m: float, step_m: float = 0.005) -> Result:
    """Least distance of the hand and any obstacle along the interpolated path [m], higher is better; below 0 hits.

    Caveat: the hand is one sphere and obstacles are spheres; the arm behind it is not looked at.

    Args:
        path_m: (N, 3) targets.
        obstacles_m: (M, 4) spheres x, y, z, radius.
        radius_m: of the sphere around the hand.
        step_m: how finely the way between targets is looked at.
    """
    path = check_path("path", path_m)
    if extent(path) < MIN_PATH_M:
        return no_motion(STILL)
    dense = [path[:1]]
    for a, b in itertools.pairwise(path):
        count = max(1, int(np.ceil(np.linalg.norm(b - a) / step_m)))
        dense.append(a + (b - a) * np.linspace(0, 1, count + 1)[1:, None])
    points = np.concatenate(dense)
    gaps = np.linalg.norm(points[:, None] - obstacles_m[None, :, :3], axis=-1) - obstacles_m[:, 3] - radius_m
    return measured(float(gaps.min()), obstacle=int(gaps.min(axis=0).argmin()))


def gripper_sanity(
    opening: Floats, times_s: Floats, path_m: Floats, *, object_m: Floats | None = None, near_m: float = 0.1
) -> Result:
    """Openings and closings per second [1/s], 0.., lower is better; a grasp and a release take two.

    With `object_m` (3,), `detail` holds how many closings happen near it. Caveat: a gripper that never moves is
    perfect here, and right only where nothing is to be grasped.

    Args:
        opening: (N,) opening 0..1.
        times_s: (N,) times.
        path_m: (N, 3) the hand at those times.
        object_m: where the object is.
        near_m: what counts as near.
    """
    path = check_path("path", path_m)
    if extent(path) < MIN_PATH_M:
        return no_motion(STILL)
    duration = float(times_s[-1] - times_s[0])
    if duration <= 0:
        return unavailable("needs times that increase")
    events = grip_events(opening)
    closes = [event.frame for event in events if event.closes]
    near = None
    if object_m is not None:
        near = int(sum(np.linalg.norm(path[frame] - object_m) < near_m for frame in closes))
    return measured(len(events) / duration, switches=len(events), closes=len(closes), closes_near_object=near)


def executability(successes: int, trials: int) -> Result:
    """Share of plans whose extracted actions, run open loop, reach the goal, 0..1, higher is better.

    The headline of a planner, with its 95 % Wilson interval in `detail`. A plan that does not move fails here by
    itself. Caveat: of planner and extractor together; run the oracle's plans too, to tell them apart.
    """
    if trials == 0:
        return unavailable("needs open-loop trials")
    low, high = wilson(successes, trials)
    return measured(successes / trials, successes=successes, trials=trials, interval=[low, high])
