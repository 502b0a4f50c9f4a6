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

ITERATIONS = 15
ENOUGH = 5e-4  # relative gain of a step below which a model is done


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

    def predict(self, points: Floats, R: Floats) -> tuple[Floats, Floats, list[Floats]]:
        """Return points (M, T, N, 3), d/dq of that size and d/dshared, each broadcastable to it.

        All turned by R (3, 3), into a camera's axes for instance: turned once per point, not once per frame.
        """
        a, turns = self.axis, self.hinge[:, None, None]
        B = planes_of(a)
        p = points[None] - np.where(turns, self.origin_m[:, None], 0.0)
        across = np.where(turns, cross(a[:, None], p), 0.0)
        along = np.where(turns, (p @ a[:, :, None]) * a[:, None], p)
        flat, slide = p - along, np.where(turns, 0.0, a[:, None])
        base = along + np.where(turns, self.origin_m[:, None], 0.0)
        q = self.q[..., None, None]
        sin, cos = np.sin(q), np.cos(q)
        base, flat, across, slide = ((v @ R)[:, None] for v in (base, flat, across, slide))
        X = base + cos * flat + sin * across + q * slide
        dq = cos * across - sin * flat + slide
        columns = []
        for k in range(2):  # moving the hinge by b moves a point by (1 - turn) b, and b is across the axis
            b, c = (np.where(turns, v[:, None], 0.0) @ R for v in (B[:, k], cross(a, B[:, k])))
            columns.append((1 - cos) * b[:, None] - sin * c[:, None])
        for k in range(2 if self.free_axis else 0):
            b = B[:, k][:, None]
            lever = (p @ b.transpose(0, 2, 1)) * a[:, None] + (p @ a[:, :, None]) * b
            parts = np.where(turns, cross(b, p), 0.0), np.where(turns, lever, 0.0), np.where(turns, 0.0, b)
            tilt, lift, skew = ((v @ R)[:, None] for v in parts)
            columns.append(sin * tilt + (1 - cos) * lift + q * skew)
        return X, dq, columns

    def of(self, chosen: Bools) -> Joints:
        """Return some of the joints."""
        return replace(
            self, hinge=self.hinge[chosen], axis=self.axis[chosen], origin_m=self.origin_m[chosen], q=self.q[chosen]
        )

    def stepped(self, dq: Floats, dg: Floats, take: Bools) -> Joints:
        """Return the joints after steps dq (M, T) and dg (M, G), where `take`n; frame 0 stays the identity."""
        B = planes_of(self.axis)
        dq, dg = np.where(take[:, None], dq, 0.0), np.where(take[:, None], dg, 0.0)
        q = self.q + dq
        q[:, 0] = 0.0
        origin = self.origin_m + np.where(self.hinge[:, None], dg[:, 0:1] * B[:, 0] + dg[:, 1:2] * B[:, 1], 0.0)
        axis = self.axis
        if self.free_axis:
            axis = axis + dg[:, 2:3] * B[:, 0] + dg[:, 3:4] * B[:, 1]
            axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
        return replace(self, q=q, origin_m=origin, axis=axis)


def planes_of(axis: Floats) -> Floats:
    """Return (M, 2, 3) unit vectors that span the planes across (M, 3) axes."""
    first = cross(axis, np.eye(3)[np.abs(axis).argmin(axis=1)])
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, cross(axis, first)], axis=1)


def cross(a: Floats, b: Floats) -> Floats:
    """Return the cross product of (..., 3) vectors; numpy's own spends longer on its axes than on the product."""
    product = np.empty(np.broadcast_shapes(a.shape, b.shape))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        product[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
    return product


def fit_joints(
    start: Joints, points: Floats, uv: Floats, weight: Floats, K: Floats, T: Floats, huber_px: float
) -> tuple[Joints, Floats]:
    """Return the fitted joints and their costs (M,).

    Args:
        start: where to begin.
        points: (N, 3) in frame 0.
        uv: (T, N, 2) tracks [px], anything where `weight` is 0.
        weight: (T, N).
        K: (3, 3) intrinsics of the frames.
        T: (4, 4) camera pose.
        huber_px: errors beyond this count linearly.
    """
    joints, count = start, len(start.q)
    R, centre = T[:3, :3], T[:3, 3] @ T[:3, :3]
    damping, active = np.full(count, 1e-3), np.ones(count, dtype=bool)
    index = np.arange(count)
    done = _Done(
        replace(joints, q=joints.q.copy(), origin_m=joints.origin_m.copy(), axis=joints.axis.copy()), np.zeros(count)
    )
    X, dXq, dXg = joints.predict(points, R)
    r, camera = _residuals(X - centre, uv, weight, K)
    cost = _costs(r, weight, huber_px)
    for _ in range(ITERATIONS):
        dq, dg = _steps(r, camera, dXq, dXg, weight, K, damping, huber_px)
        usable = active & np.isfinite(dq).all(axis=1) & np.isfinite(dg).all(axis=1)
        tried = joints.stepped(np.nan_to_num(dq), np.nan_to_num(dg), usable)
        X, dXq_new, dXg_new = tried.predict(points, R)
        r_new, camera_new = _residuals(X - centre, uv, weight, K)
        new = _costs(r_new, weight, huber_px)
        better = usable & (new < cost)
        active &= ~(better & (cost - new < ENOUGH * cost)) & (damping < 1e4)
        m, f = better[:, None], better[:, None, None, None]
        joints = replace(
            joints,
            q=np.where(m, tried.q, joints.q),
            origin_m=np.where(m, tried.origin_m, joints.origin_m),
            axis=np.where(m, tried.axis, joints.axis),
        )
        r, camera, dXq = np.where(f, r_new, r), np.where(f, camera_new, camera), np.where(f, dXq_new, dXq)
        dXg = [np.where(f, a, b) for a, b in zip(dXg_new, dXg, strict=True)]
        cost = np.where(better, new, cost)
        damping = np.where(better, np.maximum(damping / 5, 1e-9), damping * 8)
        if active.all():
            continue
        done.put(index[~active], joints.of(~active), cost[~active])
        if not active.any():
            return done.joints, done.cost
        # What is done is left out, so that the slowest model does not make all others wait and work.
        index, joints, cost, damping = index[active], joints.of(active), cost[active], damping[active]
        r, camera, dXq, dXg = r[active], camera[active], dXq[active], [_some(d, active) for d in dXg]
        active = active[active]
    done.put(index, joints, cost)
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


def _some(values: Floats, chosen: Bools) -> Floats:
    return values[chosen] if len(values) == len(chosen) else values


def _residuals(camera: Floats, uv: Floats, weight: Floats, K: Floats) -> tuple[Floats, Floats]:
    camera[..., 2] = np.maximum(camera[..., 2], 0.05)
    seen = camera[..., :2] / camera[..., 2:] @ K[:2, :2].T + K[:2, 2]
    return (seen - uv) * (weight[..., None] > 0), camera


def _costs(r: Floats, weight: Floats, huber_px: float) -> Floats:
    size = np.sqrt(r[..., 0] ** 2 + r[..., 1] ** 2)
    huber = np.where(size < huber_px, size * size, 2 * huber_px * size - huber_px**2)
    return np.asarray((weight * huber).sum(axis=(1, 2)), dtype=np.float64)


def _steps(
    r: Floats,
    camera: Floats,
    dXq: Floats,
    dXg: list[Floats],
    weight: Floats,
    K: Floats,
    damping: Floats,
    huber_px: float,
) -> tuple[Floats, Floats]:
    """Return one step of every model: dq (M, T) and dg (M, G)."""
    size = np.sqrt(r[..., 0] ** 2 + r[..., 1] ** 2)
    root = np.sqrt(weight * np.minimum(1.0, huber_px / np.maximum(size, 1e-9)))
    slope, scale = camera[..., :2] / camera[..., 2:], (root / camera[..., 2])[..., None]
    count, frames = r.shape[:2]

    def seen(c: Floats) -> Floats:
        """Return weighted pixel derivatives (M, T, 2 N) of derivatives (M, T, N or 1, 3) in the camera's axes."""
        J = (c[..., :2] - slope * c[..., 2:]) * scale @ K[:2, :2].T
        return np.asarray(J.reshape(count, frames, -1))

    rq = (root[..., None] * r).reshape(count, frames, -1)
    Jq, Jg = seen(dXq), np.stack([seen(c) for c in dXg], axis=1)  # (M, T, 2N), (M, G, T, 2N)
    shared = Jg.shape[1]
    A = (Jq * Jq).sum(axis=-1) * (1 + damping[:, None]) + 1e-6
    bq = -(Jq * rq).sum(axis=-1)
    B = (Jg * Jq[:, None]).sum(axis=-1)  # (M, G, T)
    flat = Jg.reshape(count, shared, -1)
    C = flat @ flat.transpose(0, 2, 1)
    bg = -(flat @ rq.reshape(count, -1, 1))[..., 0]
    eye = np.eye(shared)
    C = C * (1 + damping[:, None, None] * eye) + eye * np.where(C.diagonal(axis1=1, axis2=2) > 1e-9, 1e-9, 1.0)[:, None]
    ratio = B / A[:, None]
    S = C - ratio @ B.transpose(0, 2, 1)
    try:
        dg = np.linalg.solve(S, (bg - (ratio @ bq[..., None])[..., 0])[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return np.full((count, frames), np.nan), np.full((count, shared), np.nan)
    return (bq - (dg[:, None] @ B)[:, 0]) / A, dg
