"""Tracks as one camera sees them: what a placement of the object costs in pixels, and its normal equations.

A placement is a (3, 4) affine map of the object's points, one per frame. The residuals of all points depend on it
through sums over the points alone, so that the Jacobian of any model of motion is the Jacobian of 12 numbers per
frame, however many points there are. Nothing is approximated: these are the Gauss-Newton equations of the robust
reprojection error (Huber weights, as in iteratively reweighted least squares).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowact.rigid import Bools, Floats

NOISE_PX = 0.6  # expected error of a good track
NEAREST_M = 0.05  # depths below this are taken for this

# Where each of the 12 by 12 is found among the 4 by 4 sums: which of the four by rows of the placement, -1 where zero.
_KIND = np.array([[0, -1, 1], [-1, 0, 2], [1, 2, 3]])
BLOCKS = (16 * np.maximum(_KIND, 0)[:, None, :, None] + np.arange(16).reshape(1, 4, 1, 4)).reshape(-1)
SIGNS = np.repeat(np.repeat(_KIND >= 0, 4, axis=0), 4, axis=1).reshape(-1).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Costs of M models with their normal equations in the 12 numbers of each frame's placement, row by row.

    Attributes:
        cost: (M,) robust squared pixels.
        H: (M, T, 12, 12) Gauss-Newton matrices.
        g: (M, T, 12) half the gradients.
    """

    cost: Floats
    H: Floats
    g: Floats

    def where(self, better: Bools, other: Normal) -> Normal:
        """Return these normal equations for models that got `better` (M,), the `other` for the rest."""
        if better.all():
            return self
        return Normal(
            np.where(better, self.cost, other.cost),
            np.where(better[:, None, None, None], self.H, other.H),
            np.where(better[:, None, None], self.g, other.g),
        )

    def of(self, chosen: Bools) -> Normal:
        """Return some models."""
        return Normal(self.cost[chosen], self.H[chosen], self.g[chosen])


class Sight:
    """N points and their T frames of tracks through one camera.

    Placements map points relative to `middle_m` to homogeneous pixels relative to the principal point: `to_px` (3, 3)
    turns directions of the base frame into them, `eye_m` is the camera's place relative to `middle_m`.

    Args:
        points: (N, 3) in frame 0.
        uv: (T, N, 2) tracks [px], anything finite where `weight` is 0.
        weight: (T, N).
        K: (3, 3) intrinsics of the frames.
        T: (4, 4) camera pose.
        huber_px: errors beyond this count linearly.
    """

    def __init__(self, points: Floats, uv: Floats, weight: Floats, K: Floats, T: Floats, huber_px: float) -> None:
        self.middle_m = points.mean(axis=0)
        self.eye_m = T[:3, 3] - self.middle_m
        intrinsics = K.copy()
        intrinsics[:2, 2] = 0.0
        self.to_px = intrinsics @ T[:3, :3].T
        self.points = np.vstack([(points - self.middle_m).T, np.ones(len(points))])
        self.products = np.ascontiguousarray((self.points[:, None] * self.points).reshape(16, -1).T)
        self.seen = np.ascontiguousarray((uv - K[:2, 2]).transpose(2, 0, 1))[:, None]  # (2, 1, T, N)
        self.weight, self.huber_px = weight, huber_px

    def look(self, placements: Floats) -> Normal:
        """Return costs and normal equations of (M, T, 12) placements."""
        count, frames = placements.shape[:2]
        rows = placements.reshape(count, frames, 3, 4).transpose(2, 0, 1, 3).reshape(-1, 4)
        X = (rows @ self.points).reshape(3, count, frames, -1)
        near = 1.0 / np.maximum(X[2], NEAREST_M)
        px = X[:2] * near
        r = px - self.seen
        size = np.sqrt(r[0] * r[0] + r[1] * r[1])
        inner = np.minimum(size, self.huber_px)
        cost = (inner * (2 * size - inner)).reshape(count, -1) @ self.weight.reshape(-1)
        pull = self.weight * inner / np.maximum(size, 1e-9) * near
        # d(pixel) = (dX[:2] - px dX[2]) / depth, so that the sums over points factor into those of `sums`.
        sums = np.empty((7, *near.shape))
        np.multiply(pull, near, out=sums[0])
        np.multiply(sums[0], px, out=sums[1:3])
        np.multiply(pull, r, out=sums[4:6])
        np.negative(sums[1:3], out=sums[1:3])
        np.multiply(sums[1], px[0], out=sums[3])
        sums[3] += sums[2] * px[1]
        np.negative(sums[3], out=sums[3])
        np.multiply(sums[4], px[0], out=sums[6])
        sums[6] += sums[5] * px[1]
        S = (sums[:4].reshape(-1, len(self.products)) @ self.products).reshape(4, count, frames, 4, 4)
        g = (sums[4:].reshape(-1, len(self.products)) @ self.points.T).reshape(3, count, frames, 4)
        np.negative(g[2], out=g[2])
        S = np.ascontiguousarray(S.transpose(1, 2, 0, 3, 4)).reshape(count, frames, 64)
        H = np.take(S, BLOCKS, axis=-1) * SIGNS
        return Normal(cost, H.reshape(count, frames, 12, 12), g.transpose(1, 2, 0, 3).reshape(count, frames, 12))
