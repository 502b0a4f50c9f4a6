"""Slides and hinges fitted to tracks all at once: numpy's calls cost more than its sums, so many models cost as one.

Levenberg-Marquardt with Huber weights and the analytic Jacobian. Every model has one unknown per frame, its joint
position, and up to four that the frames share: the hinge's place across its axis, and the axis' direction. The joint
positions are eliminated by a Schur complement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flowact.rigid import Bools, Floats
from flowact.sight import NOISE_PX, Normal, Sight

ITERATIONS = 15
ENOUGH = 5e-4  # a model is done after a step that gains less than this, of its cost and what noise costs


@dataclass(frozen=True, slots=True, eq=False)
class Joints:
    """M joints under fit.

    Attributes:
        hinge: (M,) whether it turns; else it slides.
        axis: (M, 3) unit directions.
        origin_m: (M, 3) a point on each hinge.
        q: (M, T) joint positions, 0 in frame 0.
        free_axis: whether the axes may turn, for all of them.
    """

    hinge: Bools
    axis: Floats
    origin_m: Floats
    q: Floats
    free_axis: bool

    def waves(self) -> Floats:
        """Return (M, T, 4): 1, cos q, sin q and q of every frame."""
        waves = np.ones((*self.q.shape, 4))
        np.cos(self.q, out=waves[..., 1])
        np.sin(self.q, out=waves[..., 2])
        waves[..., 3] = self.q
        return waves

    def path(self, point_m: Floats) -> Floats:
        """Return (M, T, 3) where a point (3,) fixed to the object goes."""
        placements = Axes.of_joints(self, np.eye(3)).placements(self.origin_m - point_m, np.zeros(3))
        return np.asarray(self.waves() @ placements[:, :, 0, 3::4] + point_m)

    def of(self, chosen: Bools) -> Joints:
        """Return some of the joints."""
        return replace(
            self, hinge=self.hinge[chosen], axis=self.axis[chosen], origin_m=self.origin_m[chosen], q=self.q[chosen]
        )

    def where(self, better: Bools, other: Joints) -> Joints:
        """Return these joints where they got `better` (M,), the `other` elsewhere."""
        m = better[:, None]
        return replace(
            self,
            q=np.where(m, self.q, other.q),
            origin_m=np.where(m, self.origin_m, other.origin_m),
            axis=np.where(m, self.axis, other.axis),
        )

    def stepped(self, dq: Floats, dg: Floats, planes: Floats) -> Joints:
        """Return the joints after steps dq (M, T) and, in `planes_of` their axes, dg (M, G); frame 0 stays as it is."""
        q = self.q + dq
        q[:, 0] = 0.0
        origin = self.origin_m + self.hinge[:, None] * (dg[:, None, :2] @ planes)[:, 0]
        axis = self.axis
        if self.free_axis:
            axis = axis + (dg[:, None, 2:] @ planes)[:, 0]
            axis = axis / np.sqrt((axis * axis).sum(axis=1, keepdims=True))
        return replace(self, q=q, origin_m=origin, axis=axis)


@dataclass(frozen=True, slots=True, eq=False)
class Axes:
    """What of the placements of M joints depends on their axes alone; made once where the axes are given.

    Attributes:
        planes: (M, 2, 3) unit vectors across each axis.
        fixed: (M, 4, 2 + G, 3, 4) placements in pixels, and their derivatives by q and by what the frames share, of
            hinges through the middle of the points. All are linear in (1, cos q, sin q, q), the second axis: a turn
            about an axis is what lies along it, and cos and sin of what lies across (Rodrigues). Frames as in `Sight`.
        to_px: (3, 3) as in `Sight`.
    """

    planes: Floats
    fixed: Floats
    to_px: Floats

    @classmethod
    def of_joints(cls, joints: Joints, to_px: Floats) -> Axes:
        """Return it for the axes of joints."""
        a, count = joints.axis, len(joints.axis)
        turns = joints.hinge.astype(np.float64)[:, None]
        planes = planes_of(a)
        linear = np.zeros((count, 4, 6 if joints.free_axis else 4, 3, 4))
        moved = linear[..., 3]
        outer = a[:, :, None] * a[:, None] * turns[..., None]
        flat, across = turns[..., None] * np.eye(3) - outer, spin_of(a * turns)
        linear[:, 0, 0, :, :3] = np.eye(3) - flat
        linear[:, 1, 0, :, :3], linear[:, 2, 1, :, :3] = flat, -flat
        linear[:, 2, 0, :, :3] = linear[:, 1, 1, :, :3] = across
        moved[:, 3, 0] = moved[:, 0, 1] = a - a * turns
        b = planes * turns[..., None]  # moving the hinge by b moves a point by (1 - turn) b, and b is across the axis
        moved[:, 0, 2:4], moved[:, 1, 2:4] = b, -b
        moved[:, 2, 2], moved[:, 2, 3] = -b[:, 1], b[:, 0]
        if joints.free_axis:
            lift = planes[:, :, :, None] * (a * turns)[:, None, None]
            lift = lift + lift.transpose(0, 1, 3, 2)
            linear[:, 0, 4:, :, :3], linear[:, 1, 4:, :, :3], linear[:, 2, 4:, :, :3] = lift, -lift, spin_of(b)
            moved[:, 3, 4:] = planes - b
        return cls(planes, to_px @ linear, to_px)

    def placements(self, origin_m: Floats, eye_m: Floats) -> Floats:
        """Return (M, 4, 2 + G, 12) as `fixed`, of hinges through (M, 3) origins; an origin of a slide has no effect."""
        basis = self.fixed.copy()
        basis[..., 3] -= (self.fixed[..., :3] @ origin_m[:, None, None, :, None])[..., 0]
        basis[:, 0, 0, :, 3] += (origin_m - eye_m) @ self.to_px.T
        return basis.reshape(len(basis), 4, -1, 12)

    def of(self, chosen: Bools) -> Axes:
        """Return some of them."""
        return replace(self, planes=self.planes[chosen], fixed=self.fixed[chosen])

    def where(self, better: Bools, other: Axes) -> Axes:
        """Return these where they got `better` (M,), the `other` elsewhere."""
        if other is self:
            return self
        planes = np.where(better[:, None, None], self.planes, other.planes)
        return replace(self, planes=planes, fixed=np.where(better[:, None, None, None, None], self.fixed, other.fixed))


def planes_of(axis: Floats) -> Floats:
    """Return (M, 2, 3) unit vectors that span the planes across (M, 3) axes."""
    first = (spin_of(axis) @ np.eye(3)[np.abs(axis).argmin(axis=1)][..., None])[..., 0]
    first = first / np.sqrt((first * first).sum(axis=1, keepdims=True))
    return np.stack([first, (spin_of(axis) @ first[..., None])[..., 0]], axis=1)


def spin_of(a: Floats) -> Floats:
    """Return the (..., 3, 3) matrices of the cross products with (..., 3) vectors."""
    return np.asarray(a @ SPIN).reshape(*a.shape, 3)


SPIN = np.array([[0, 0, 0, 0, 0, -1, 0, 1, 0], [0, 0, 1, 0, 0, 0, -1, 0, 0], [0, -1, 0, 1, 0, 0, 0, 0, 0]], dtype=float)


def fit_joints(start: Joints, sight: Sight) -> tuple[Joints, Floats]:
    """Return the joints fitted to what is seen, from where they start, and their costs (M,)."""
    joints, count = start, len(start.q)
    noise = NOISE_PX**2 * float(sight.weight.sum())  # about the cost of the right model
    damping, index = np.full(count, 1e-3), np.arange(count)
    done = _Done(
        replace(joints, q=joints.q.copy(), origin_m=joints.origin_m.copy(), axis=joints.axis.copy()), np.zeros(count)
    )
    axes = Axes.of_joints(joints, sight.to_px)
    now = _look(joints, axes, sight)
    for _ in range(ITERATIONS):
        dq, dg = _steps(now, damping)
        tried = joints.stepped(dq, dg, axes.planes)
        turned = Axes.of_joints(tried, sight.to_px) if tried.free_axis else axes
        new = _look(tried, turned, sight)
        better = new.cost < now.cost  # not where it is NaN
        active = ~(better & (now.cost - new.cost < ENOUGH * (now.cost + noise))) & (damping < 1e4)
        if better.all():
            joints, axes, now = tried, turned, new
        else:
            joints, axes, now = tried.where(better, joints), turned.where(better, axes), new.where(better, now)
        damping = np.where(better, np.maximum(damping / 5, 1e-9), damping * 8)
        if active.all():
            continue
        done.put(index[~active], joints.of(~active), now.cost[~active])
        if not active.any():
            return done.joints, done.cost
        # What is done is left out, so that the slowest model does not make all others wait and work.
        index, damping = index[active], damping[active]
        joints, axes, now = joints.of(active), axes.of(active), now.of(active)
    done.put(index, joints, now.cost)
    return done.joints, done.cost


@dataclass(slots=True)
class _Done:
    joints: Joints
    cost: Floats

    def put(self, index: NDArray[np.int64], joints: Joints, cost: Floats) -> None:
        self.joints.q[index], self.joints.origin_m[index], self.joints.axis[index] = (
            joints.q,
            joints.origin_m,
            joints.axis,
        )
        self.cost[index] = cost


def _look(joints: Joints, axes: Axes, sight: Sight) -> Normal:
    """Return the normal equations of joints: in each frame, in q first and then in what the frames share."""
    basis = axes.placements(joints.origin_m - sight.middle_m, sight.eye_m)
    count, frames = joints.q.shape
    columns = (joints.waves() @ basis.reshape(count, 4, -1)).reshape(count, frames, -1, 12)
    seen = sight.look(columns[:, :, 0])
    J = np.ascontiguousarray(columns[:, :, 1:])
    return Normal(seen.cost, J @ seen.H @ J.transpose(0, 1, 3, 2), (J @ seen.g[..., None])[..., 0])


def _steps(normal: Normal, damping: Floats) -> tuple[Floats, Floats]:
    """Return one step of every model: dq (M, T) and dg (M, G)."""
    A = normal.H[:, :, 0, 0] * (1 + damping[:, None]) + 1e-6
    B = normal.H[:, :, 0, 1:]  # (M, T, G)
    C = normal.H[:, :, 1:, 1:].sum(axis=1)
    bq, bg = -normal.g[:, :, 0], -normal.g[:, :, 1:].sum(axis=1)
    diagonal = C.diagonal(axis1=1, axis2=2)
    eye = np.eye(C.shape[1])
    C = C + (diagonal * damping[:, None] + np.where(diagonal > 1e-9, 1e-9, 1.0))[:, None] * eye
    ratio = (B / A[..., None]).transpose(0, 2, 1)
    try:
        dg = np.linalg.solve(C - ratio @ B, (bg - (ratio @ bq[..., None])[..., 0])[..., None])
    except np.linalg.LinAlgError:
        return np.full_like(A, np.nan), np.full_like(bg, np.nan)
    return (bq - (B @ dg)[..., 0]) / A, dg[..., 0]
