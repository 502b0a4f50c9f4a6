"""The tube: how far the hand may leave the way it was sent, while it moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.records import ActionChunk, GateReport, Verdict, Violation

Floats = NDArray[np.float64]


def distance_to_path(point_m: Floats, path_m: Floats) -> float:
    """Return the distance of a point (3,) to the nearest place on a path (N >= 2, 3) of straight pieces [m]."""
    begin, way = path_m[:-1], np.diff(path_m, axis=0)
    square = (way**2).sum(1)
    share = np.divide(((point_m - begin) * way).sum(1), square, out=np.zeros(len(way)), where=square > 1e-12)
    nearest = begin + np.clip(share, 0.0, 1.0)[:, None] * way
    return float(np.linalg.norm(point_m - nearest, axis=1).min())


def farthest_m(measured_m: Floats, start_m: Floats, targets_m: Floats) -> float:
    """Return the farthest that a measured path (N, 3) got from the way from `start_m` through `targets_m` [m]."""
    path = np.concatenate([start_m[None], targets_m])
    return max(distance_to_path(point, path) for point in measured_m)


class Tube:
    """Watches one chunk being followed; the farthest that the hand was away is kept in `worst_m`.

    Args:
        chunk: end-effector targets.
        start_m: (3,) where the hand is when it begins.
        limit_m: farthest the hand may leave the way.
    """

    def __init__(self, chunk: ActionChunk, start_m: Floats, limit_m: float) -> None:
        self._path = np.concatenate([start_m[None], chunk.values[:, :3]])
        self.limit_m = limit_m
        self.worst_m = 0.0

    def left(self, hand_m: Floats) -> bool:
        """Whether the hand is outside now."""
        distance = distance_to_path(hand_m, self._path)
        self.worst_m = max(self.worst_m, distance)
        return distance > self.limit_m

    def report(self) -> GateReport:
        """Return what was measured so far, and whether the limit was kept."""
        check = Violation(check="tube", value=self.worst_m, limit=self.limit_m, unit="m")
        if self.worst_m <= self.limit_m:
            return GateReport(verdict=Verdict.PASS, measured=(check,))
        failed = replace(check, message="The hand left the way it was sent.")
        return GateReport(verdict=Verdict.REJECT, violations=(failed,), measured=(check,))
