"""How an object moves through a plan: static, sliding, turning, or carried freely; and the tracks that show it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cascade.contracts import DataError
from flowact.rigid import Bools, Floats, project, rotation_about


class JointKind(StrEnum):
    """What kind of motion the object makes."""

    STATIC = "static"
    FREE = "free"  # carried: any shift in every frame, no turn
    PRISMATIC = "prismatic"
    REVOLUTE = "revolute"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks:
    """N points followed through T frames.

    Attributes:
        points_m: (N, 3) where they are in frame 0, base frame.
        uv: (T, N, 2) where they are seen [px].
        weight: (T, N) 0 (lost) .. 1 (trusted).
    """

    points_m: Floats
    uv: Floats
    weight: Floats

    def __post_init__(self) -> None:
        frames, count = self.uv.shape[:2]
        if self.points_m.shape != (count, 3) or self.weight.shape != (frames, count) or not count:
            raise DataError(
                f"tracks: expected N points and (T, N) weights for uv {self.uv.shape}, "
                f"found {self.points_m.shape} and {self.weight.shape}."
            )
        if not (np.isfinite(self.points_m).all() and np.isfinite(self.uv[self.weight > 0]).all()):
            raise DataError("tracks: expected finite points and pixels, found NaN.")

    @property
    def alive(self) -> Bools:
        """(T,) whether at least a tenth of the points (and two) are still followed."""
        enough = max(2.0, 0.1 * len(self.points_m))
        return np.asarray((self.weight > 0).sum(axis=1) >= min(enough, len(self.points_m)), dtype=bool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Motion:
    """A fitted motion over T frames; frame 0 is the identity.

    Attributes:
        kind: the model.
        axis: (3,) unit direction of the slide or hinge (zero for STATIC and FREE).
        origin_m: (3,) a point on the hinge (zero otherwise).
        q: (T,) slide [m] or angle [rad]; zero for STATIC and FREE.
        shift_m: (T, 3) shift of the carried object (FREE), or of the points' centroid otherwise.
        rms_px: weighted reprojection error.
        evidence: Bayesian information criterion, lower is better.
    """

    kind: JointKind
    axis: Floats
    origin_m: Floats
    q: Floats
    shift_m: Floats
    rms_px: float
    evidence: float

    def path(self, point_m: Floats) -> Floats:
        """Return (T, 3) positions of a point (3,) that is fixed to the object and starts at `point_m`."""
        if self.kind is JointKind.FREE:
            return np.asarray(point_m + self.shift_m, dtype=np.float64)
        return np.stack([self.move(point_m, float(q)) for q in self.q])

    def move(self, point_m: Floats, q: float) -> Floats:
        """Return where a point (3,) of the resting object is at joint position `q` (PRISMATIC, REVOLUTE)."""
        if self.kind is JointKind.PRISMATIC:
            return np.asarray(point_m + q * self.axis, dtype=np.float64)
        if self.kind is JointKind.REVOLUTE:
            turned = rotation_about(self.axis, q) @ (point_m - self.origin_m) + self.origin_m
            return np.asarray(turned, dtype=np.float64)
        return np.asarray(point_m, dtype=np.float64)

    def joint_position(self, start_m: Floats, now_m: Floats) -> float:
        """Return the joint position that brings `start_m` nearest to `now_m` (PRISMATIC, REVOLUTE; else 0)."""
        if self.kind is JointKind.PRISMATIC:
            return float((now_m - start_m) @ self.axis)
        if self.kind is JointKind.REVOLUTE:
            a = start_m - self.origin_m
            b = now_m - self.origin_m
            a, b = a - (a @ self.axis) * self.axis, b - (b @ self.axis) * self.axis
            return float(np.arctan2(np.cross(a, b) @ self.axis, a @ b))
        return 0.0

    def way_per_unit(self, point_m: Floats) -> float:
        """Return metres that a point moves per unit of q (the lever arm of a hinge)."""
        if self.kind is JointKind.PRISMATIC:
            return 1.0
        if self.kind is JointKind.REVOLUTE:
            return float(np.linalg.norm(np.cross(self.axis, point_m - self.origin_m)))
        return 0.0


def reprojection_error(motion: Motion, tracks: Tracks, K: Floats, T_base_cam: Floats) -> Floats:
    """Return (T, N) distances [px] between the tracks and what the motion predicts, NaN where a point is lost."""
    predicted = np.stack([motion.path(p) for p in tracks.points_m], axis=1)
    uv, _ = project(K, T_base_cam, predicted)
    return np.where(tracks.weight > 0, np.linalg.norm(uv - tracks.uv, axis=-1), np.nan)
