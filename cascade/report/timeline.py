"""The one axis of a report: moments of a run, each with its executed frame and the imagined frame beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError, VideoPlan
from cascade.report.align import by_time_fraction, frame_of_each_picture, frame_of_each_step
from cascade.report.images import as_plan_sees
from cascade.report.run_folder import RunRecord

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
MOST_MOMENTS = 600
PREVIEW_HZ = 8.0
DEFAULT_HZ = 80.0


@dataclass(frozen=True, slots=True, eq=False)
class ImaginedPath:
    """Where a plan says the end effector goes.

    Attributes:
        position_m: (P, 3) points in the base frame, P may be 0.
        opening: (P,) gripper opening 0..1.
        read: whether the points were read in the plan's frames, one per frame (else they are targets).
        source: who read it, in words.
    """

    position_m: Floats
    opening: Floats
    read: bool
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """M moments.

    Attributes:
        t_s: (M,) time [s]; step: (M,) control step, -1 before anything moved.
        row: (M,) row of the trajectory, -1 where there is none.
        executed: (M,) frame of the executed video, -1 where there is none.
        plan, frame: (M,) plan index and its frame, -1 where there is no plan.
        point: (M,) point of the plan's imagined path, -1 where there is none.
        alignment: how imagined and executed were matched, in words.
    """

    t_s: Floats
    step: Indices
    row: Indices
    executed: Indices
    plan: Indices
    frame: Indices
    point: Indices
    alignment: str

    def __len__(self) -> int:
        """Number of moments M."""
        return len(self.t_s)


def imagined_path(run: RunRecord, index: int) -> ImaginedPath:
    """Return what plan `index` says: the reader's reading when there is one, else its chunks' targets."""
    plan = run.plans.get(index)
    if plan is not None and plan.readout is not None:
        reading = plan.readout
        return ImaginedPath(
            position_m=np.asarray(reading.position_m),
            opening=np.asarray(reading.opening),
            read=True,
            source=f"read from the plan by {reading.source}",
        )
    chunks = [run.chunks[number] for number in run.chunks_of(index) if len(run.chunks[number].position_m)]
    if not chunks:
        return ImaginedPath(np.zeros((0, 3)), np.zeros(0), False, "unknown")
    position = np.concatenate([chunk.position_m for chunk in chunks])
    opening = np.concatenate([_padded(chunk.gripper, len(chunk.position_m)) for chunk in chunks])
    return ImaginedPath(position, opening, False, "targets of its chunks")


def build_timeline(run: RunRecord) -> Timeline:
    """Return the moments of a run: its executed frames, else its control steps, else the frames of its plans."""
    if len(run.executed):
        return _executed_timeline(run, np.arange(len(run.executed)), run.executed_step)
    if len(run.trajectory):
        return _executed_timeline(run, np.full(len(run.trajectory), -1), run.trajectory.step)
    return _plans_only(run)


def nearest_imagined(run: RunRecord, paths: dict[int, ImaginedPath]) -> Floats:
    """Return (N,) distance [m] of the measured end effector to the nearest segment of its plan's path, NaN unknown."""
    distance = np.full(len(run.trajectory), np.nan)
    for index, path in paths.items():
        rows = np.flatnonzero(run.rows_of(index))
        if len(rows) and len(path.position_m):
            distance[rows] = _to_polyline(run.trajectory.measured_m[rows], path.position_m)
    return distance


def _executed_timeline(run: RunRecord, executed: Indices, step: Indices) -> Timeline:
    keep = np.unique(np.linspace(0, len(step) - 1, min(len(step), MOST_MOMENTS)).round().astype(np.int64))
    executed, step = executed[keep], step[keep]
    track = run.trajectory
    row = np.full(len(step), -1, dtype=np.int64)
    plan = np.full(len(step), min(run.plans) if run.plans else -1, dtype=np.int64)
    t_s = step / float(run.facts.get("control_hz") or DEFAULT_HZ)
    follows = np.ones(len(step), dtype=bool)
    if len(track):
        row = np.clip(np.searchsorted(track.step, step, side="left"), 0, len(track) - 1).astype(np.int64)
        plan = track.plan[row]
        t_s = np.where(np.isfinite(track.t_s[row]) & (step > 0), track.t_s[row], t_s)
        follows = np.any([run.rows_of(int(index)) for index in np.unique(plan)], axis=0)[row]
    frame, point, ways = np.full(len(step), -1, dtype=np.int64), np.full(len(step), -1, dtype=np.int64), set()
    for index in np.unique(plan):
        moments = np.flatnonzero((plan == index) & follows)
        if int(index) in run.plans and len(moments):
            frame[moments], way = _frames_beside(run, int(index), row[moments], executed[moments])
            ways.add(way)
        if len(moments):
            point[moments] = _points_beside(run, int(index), row[moments], frame[moments])
    t_s = np.maximum.accumulate(t_s)
    return Timeline(t_s, step, row, executed, plan, frame, point, " and ".join(sorted(ways)) or "nothing")


def _frames_beside(run: RunRecord, index: int, rows: Indices, executed: Indices) -> tuple[Indices, str]:
    plan, path, track = run.plans[index], imagined_path(run, index), run.trajectory
    open_end = not _ran_to_its_end(run, index)
    if path.read and len(track) and np.ptp(path.position_m, axis=0).max() > 0:
        frames = frame_of_each_step(
            path.position_m,
            track.measured_m[rows],
            imagined_opening=path.opening,
            executed_opening=track.opening[rows],
            open_end=open_end,
        )
        return np.clip(frames, 0, len(plan) - 1), "path and gripper (dynamic time warping)"
    if (executed >= 0).all():
        pictures = as_plan_sees(run.executed[executed], plan.transform)
        return frame_of_each_picture(plan.frames, pictures, open_end=open_end), "their pixels (dynamic time warping)"
    return by_time_fraction(len(plan), len(rows)), "share of time, since neither path nor pictures are known"


def _points_beside(run: RunRecord, index: int, rows: Indices, frames: Indices) -> Indices:
    """Return the point of the imagined path for each moment: that of the frame, or the target that was active."""
    path, track = imagined_path(run, index), run.trajectory
    if path.read:
        return frames
    point = np.full(len(rows), -1, dtype=np.int64)
    if not len(track):
        return point
    first = 0
    for number in run.chunks_of(index):
        size = len(run.chunks[number].position_m)
        mine = (track.chunk[rows] == number) & (size > 0)
        point[mine] = first + np.clip(track.target[rows][mine], 0, max(size - 1, 0))
        first += size
    return point


def _ran_to_its_end(run: RunRecord, index: int) -> bool:
    """Whether the last target of the plan's final chunk was reached, and not cut off by success or a stop."""
    final = [number for number in run.chunks_of(index) if run.chunks[number].final]
    ends = {row.get("chunk"): row.get("end") for row in run.events if row.get("kind") == "motion"}
    if not final or ends.get(final[0]) != "done":
        return False
    active = run.trajectory.target[run.trajectory.chunk == final[0]]
    return bool(len(active)) and int(active.max()) >= len(run.chunks[final[0]].gripper) - 1


def _plans_only(run: RunRecord) -> Timeline:
    pairs = [(index, frame) for index, plan in sorted(run.plans.items()) for frame in range(len(plan))][:MOST_MOMENTS]
    plan, frame = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    none = np.full(len(pairs), -1, dtype=np.int64)
    first: VideoPlan | None = next(iter(run.plans.values()), None)
    dt = (first.frame_dt_s if first is not None else None) or 1 / PREVIEW_HZ
    t_s = np.arange(len(pairs), dtype=np.float64) * dt
    read = [imagined_path(run, int(index)).read for index in plan]
    point = np.where(read, frame, -1).astype(np.int64) if len(pairs) else none
    return Timeline(t_s, none, none, none, plan, frame, point, "nothing was executed")


def _padded(values: Floats, count: int) -> Floats:
    return values if len(values) == count else np.full(count, np.nan)


def _to_polyline(points: Floats, line: Floats) -> Floats:
    if line.shape[1:] != points.shape[1:]:
        raise DataError(f"path: expected points of width {line.shape[1:]}, found {points.shape[1:]}.")
    if len(line) == 1:
        return np.asarray(np.linalg.norm(points - line[0], axis=1), dtype=np.float64)
    start, way = line[:-1], np.diff(line, axis=0)
    length2 = np.maximum((way**2).sum(axis=1), 1e-12)
    along = np.clip(((points[:, None] - start) * way).sum(axis=-1) / length2, 0, 1)
    nearest = start + along[..., None] * way
    return np.asarray(np.linalg.norm(points[:, None] - nearest, axis=-1).min(axis=1), dtype=np.float64)
