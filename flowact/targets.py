"""From waypoints to an ActionChunk: no long jumps, one orientation, times from a nominal speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.contracts import ActionChunk, Observation
from flowact.rigid import Floats

STEP_M = 0.04  # waypoints further apart get others in between
PASSING_M = 0.03  # a waypoint in between counts as passed within this
SPEED_M_S = 0.5  # nominal, for the chunk's times only


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waypoint:
    """A place for the tool centre (3,) [m], the gripper's opening there, a dwell [s] and a tolerance [m]."""

    position_m: Floats
    gripper: float
    hold_s: float = 0.0
    tolerance_m: float = 0.015


def quaternion_of(R: Floats) -> Floats:
    """Return the unit quaternion (wxyz, w >= 0) of a rotation matrix."""
    # Shepperd's method: the largest of the four squares is always safe to divide by.
    squares = np.array([np.trace(R), R[0, 0], R[1, 1], R[2, 2]])
    i = int(squares.argmax())
    if i == 0:
        q = np.array([1 + squares[0], R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    else:
        a, b, c = i - 1, i % 3, (i + 1) % 3
        q = np.zeros(4)
        q[0] = R[c, b] - R[b, c]
        q[1 + a] = 1 + R[a, a] - R[b, b] - R[c, c]
        q[1 + b] = R[b, a] + R[a, b]
        q[1 + c] = R[c, a] + R[a, c]
    q = q / np.linalg.norm(q)
    return np.asarray(q if q[0] >= 0 else -q, dtype=np.float64)


def chunk_of(
    waypoints: Sequence[Waypoint],
    observation: Observation,
    *,
    floor_m: float,
    final: bool,
    provenance: Mapping[str, Any],
) -> ActionChunk:
    """Return a chunk that visits the waypoints from where the arm is, never lower than `floor_m`."""
    orientation = quaternion_of(observation.arm.T_base_ee[:3, :3])
    here = np.array(observation.arm.position_m)
    rows: list[tuple[Floats, Waypoint, bool]] = []
    for waypoint in waypoints:
        goal = np.array([*waypoint.position_m[:2], max(float(waypoint.position_m[2]), floor_m)])
        parts = max(1, int(np.ceil(np.linalg.norm(goal - here) / STEP_M)))
        rows += [(here + (goal - here) * i / parts, waypoint, i == parts) for i in range(1, parts + 1)]
        here = goal
    if not rows:
        empty = np.zeros(0)
        return ActionChunk(values=np.zeros((0, 7)), gripper=empty, times_s=empty, final=final, provenance=provenance)
    positions = np.stack([p for p, _, _ in rows])
    way = np.linalg.norm(np.diff(positions, axis=0, prepend=np.array(observation.arm.position_m)[None]), axis=1)
    hold = np.array([w.hold_s if last else 0.0 for _, w, last in rows])
    return ActionChunk(
        values=np.concatenate([positions, np.tile(orientation, (len(rows), 1))], axis=1),
        gripper=np.array([w.gripper for _, w, _ in rows]),
        times_s=np.cumsum(way / SPEED_M_S) + np.concatenate([[0.0], np.cumsum(hold)[:-1]]),
        hold_s=hold,
        tolerance_m=np.array([w.tolerance_m if last else PASSING_M for _, w, last in rows]),
        final=final,
        provenance=provenance,
    )
