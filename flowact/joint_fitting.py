"""Motions fitted to 2-D tracks in one go: every model of `flowact.articulation`, and how well each explains them.

Only frame 0 has depth. Each model predicts where the 3-D points of frame 0 go, and all frames are fitted together by
robust least squares on the reprojection error (Huber weights, analytic Jacobian, Levenberg-Marquardt; the unknowns of
the frames are eliminated by a Schur complement, so that one fit takes milliseconds). Models with fewer unknowns see
depth better: a hinge or slide ties all frames together. Axes along the base frame are tried before free ones, since
most man-made joints stand upright or level, and the simplest model that explains the tracks wins (BIC).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cascade.contracts import DataError
from flowact.articulation import JointKind, Motion, Tracks
from flowact.rigid import Floats, backproject, rotation_about

HUBER_PX = 1.0  # tracks off by more than this count linearly, not squared
NOISE_PX = 0.6  # expected error of a good track
INDEPENDENT = 6.0  # errors of neighbouring points are alike: so many independent points per frame at most


@dataclass(slots=True)
class _Fit:
    """A model under fit: shared unknowns (axis, origin) and unknowns per frame."""

    kind: JointKind
    axis: Floats
    origin: Floats
    q: Floats  # (T, Q)
    free_axis: bool

    @property
    def unknowns(self) -> int:
        shared = {JointKind.PRISMATIC: 0, JointKind.REVOLUTE: 2}.get(self.kind, 0)
        return shared + (2 if self.free_axis else 0) + self.q[1:].size

    def predict(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Return points (T, N, 3), d/dq (T, N, 3, Q) and d/dshared (T, N, 3, G)."""
        frames, count = len(self.q), len(points)
        if self.kind is JointKind.FREE:
            X = points[None] + self.q[:, None, :]
            return X, np.broadcast_to(np.eye(3), (frames, count, 3, 3)), np.zeros((frames, count, 3, 0))
        B = _plane_of(self.axis)
        q = self.q[:, 0]
        if self.kind is JointKind.PRISMATIC:
            X = points[None] + q[:, None, None] * self.axis
            dq = np.broadcast_to(self.axis[:, None], (frames, count, 3, 1))
            dg = q[:, None, None, None] * np.broadcast_to(B.T, (frames, count, 3, 2))
            return X, dq, dg if self.free_axis else dg[..., :0]
        R = rotation_about(self.axis, q)
        p = points - self.origin
        turned = p @ R.transpose(0, 2, 1)
        dq = np.cross(self.axis, turned)[..., None]
        shift = np.einsum("tij,kj->tik", np.eye(3) - R, B)
        dg = np.broadcast_to(shift[:, None], (frames, count, 3, 2))
        if self.free_axis:
            along = p @ self.axis
            sin, rest = np.sin(q)[:, None, None], (1 - np.cos(q))[:, None, None]
            columns = [sin * np.cross(b, p) + rest * (along[:, None] * b + (p @ b)[:, None] * self.axis) for b in B]
            dg = np.concatenate([dg, np.stack(columns, axis=-1)], axis=-1)
        return turned + self.origin, dq, dg

    def stepped(self, dq: Floats, dg: Floats) -> _Fit:
        """Return the model after one step; frame 0 stays the identity."""
        q = self.q + dq
        q[0] = 0.0
        if self.kind is JointKind.FREE:
            return replace(self, q=q)
        B = _plane_of(self.axis)
        origin, axis = self.origin, self.axis
        if self.kind is JointKind.REVOLUTE:
            origin = origin + dg[:2] @ B
            dg = dg[2:]
        if self.free_axis:
            axis = axis + dg @ B
            axis = axis / np.linalg.norm(axis)
        return replace(self, q=q, origin=origin, axis=axis)


def _plane_of(axis: Floats) -> Floats:
    """Return (2, 3) unit vectors that span the plane across `axis`."""
    first = np.cross(axis, np.eye(3)[int(np.abs(axis).argmin())])
    first = first / np.linalg.norm(first)
    return np.stack([first, np.cross(axis, first)])


class _Problem:
    """The tracks of one plan through one camera, and the solver on them."""

    def __init__(self, tracks: Tracks, K: Floats, T_base_cam: Floats) -> None:
        self.tracks, self.K, self.T = tracks, K, T_base_cam
        self.weight = tracks.weight * (tracks.alive[:, None])
        self.weight[0] = 0.0  # frame 0 is given
        self.uv = np.where(self.weight[..., None] > 0, tracks.uv, 0.0)

    def residuals(self, X: Floats) -> tuple[Floats, Floats]:
        """Return ((T, N, 2) pixel errors, zero where lost, and (T, N, 3) camera points)."""
        camera = (X - self.T[:3, 3]) @ self.T[:3, :3]
        camera = np.concatenate([camera[..., :2], np.maximum(camera[..., 2:], 0.05)], axis=-1)
        uv = camera[..., :2] / camera[..., 2:] @ self.K[:2, :2].T + self.K[:2, 2]
        return np.where(self.weight[..., None] > 0, uv - self.uv, 0.0), camera

    def cost(self, r: Floats) -> float:
        size = np.linalg.norm(r, axis=-1)
        huber = np.where(size < HUBER_PX, size**2, 2 * HUBER_PX * size - HUBER_PX**2)
        return float((self.weight * huber).sum())

    def solve(self, fit: _Fit, iterations: int = 12) -> tuple[_Fit, float]:
        """Levenberg-Marquardt with Huber weights; returns the model and its cost."""
        damping = 1e-3
        X, dXq, dXg = fit.predict(self.tracks.points_m)
        r, camera = self.residuals(X)
        cost = self.cost(r)
        for _ in range(iterations):
            step = self._step(r, camera, dXq, dXg, damping)
            if step is None:
                break
            tried = fit.stepped(*step)
            X, dXq_new, dXg_new = tried.predict(self.tracks.points_m)
            r_new, camera_new = self.residuals(X)
            new = self.cost(r_new)
            if new < cost:
                done = cost - new < 1e-4 * cost
                fit, cost, r, camera, dXq, dXg = tried, new, r_new, camera_new, dXq_new, dXg_new
                damping = max(damping / 5, 1e-9)
                if done:
                    break
            else:
                damping *= 8
                if damping > 1e4:
                    break
        return fit, cost

    def _step(
        self, r: Floats, camera: Floats, dXq: Floats, dXg: Floats, damping: float
    ) -> tuple[Floats, Floats] | None:
        size = np.linalg.norm(r, axis=-1)
        w = self.weight * np.minimum(1.0, HUBER_PX / np.maximum(size, 1e-9))
        x, y, z = camera[..., 0], camera[..., 1], camera[..., 2]
        D = np.zeros((*r.shape, 3))
        D[..., 0, 0], D[..., 0, 2] = 1 / z, -x / z**2
        D[..., 1, 1], D[..., 1, 2] = 1 / z, -y / z**2
        D = self.K[:2, :2] @ D @ self.T[:3, :3].T
        Jq, Jg = D @ dXq, D @ dXg
        root = np.sqrt(w)[..., None]
        frames, Q, G = len(r), Jq.shape[-1], Jg.shape[-1]
        rq = (root * r).reshape(frames, -1, 1)
        Jq = (root[..., None] * Jq).reshape(frames, -1, Q)
        Jg = (root[..., None] * Jg).reshape(frames, 2 * r.shape[1], G)
        JqT = Jq.transpose(0, 2, 1)
        A = JqT @ Jq
        A = A + damping * A * np.eye(Q) + 1e-6 * np.eye(Q)
        bq = -(JqT @ rq)[..., 0]
        try:
            if not G:
                return np.linalg.solve(A, bq[..., None])[..., 0], np.zeros(0)
            B = JqT @ Jg
            C = np.einsum("tng,tnh->gh", Jg, Jg)
            C = C + damping * C * np.eye(G) + 1e-9 * np.eye(G)
            bg = -np.einsum("tng,tn->g", Jg, rq[..., 0])
            AinvB, Ainvb = np.linalg.solve(A, B), np.linalg.solve(A, bq[..., None])[..., 0]
            dg = np.linalg.solve(C - np.einsum("tqg,tqh->gh", B, AinvB), bg - np.einsum("tqg,tq->g", B, Ainvb))
            return Ainvb - AinvB @ dg, dg
        except np.linalg.LinAlgError:
            return None

    def finished(self, fit: _Fit, cost: float) -> Motion:
        """Return the result with frames without tracks filled in between their neighbours."""
        seen = self.tracks.alive.copy()
        seen[0] = True
        index = np.arange(len(fit.q))
        q = np.stack([np.interp(index, index[seen], column[seen]) for column in fit.q.T], axis=1)
        weight = float(self.weight.sum())
        X, _, _ = replace(fit, q=q).predict(self.tracks.points_m)
        shift = q if fit.kind is JointKind.FREE else (X.mean(axis=1) - self.tracks.points_m.mean(axis=0))
        jointed = fit.kind in (JointKind.PRISMATIC, JointKind.REVOLUTE)
        return Motion(
            kind=fit.kind,
            axis=fit.axis if jointed else np.zeros(3),
            origin_m=fit.origin if fit.kind is JointKind.REVOLUTE else np.zeros(3),
            q=q[:, 0] if jointed else np.zeros(len(q)),
            shift_m=shift,
            rms_px=float(np.sqrt(cost / weight)) if weight > 0 else 0.0,
            evidence=self.evidence(cost, fit.unknowns),
        )

    def evidence(self, cost: float, unknowns: int) -> float:
        """Return the BIC of a fit, counting at most `INDEPENDENT` points per frame as independent witnesses."""
        per_frame = self.weight.sum(axis=1)
        witnesses = float(np.minimum(per_frame, INDEPENDENT).sum())
        share = witnesses / max(float(per_frame.sum()), 1e-9)
        return cost * share / NOISE_PX**2 + unknowns * float(np.log(max(2 * witnesses, 2.0)))

    def still(self) -> Motion:
        """Return the model of an object that does not move."""
        frames = len(self.tracks.uv)
        fit = _Fit(JointKind.STATIC, np.zeros(3), np.zeros(3), np.zeros((frames, 0)), False)
        r, _ = self.residuals(np.broadcast_to(self.tracks.points_m, (frames, *self.tracks.points_m.shape)))
        cost = self.cost(r)
        weight = float(self.weight.sum())
        zero = np.zeros(3)
        return Motion(
            kind=JointKind.STATIC,
            axis=zero,
            origin_m=zero,
            q=np.zeros(frames),
            shift_m=np.zeros((frames, 3)),
            rms_px=float(np.sqrt(cost / weight)) if weight > 0 else 0.0,
            evidence=self.evidence(cost, fit.unknowns),
        )

    def free(self) -> tuple[Motion, Floats]:
        """Return the carried model and the (T, 3) shifts it starts others from."""
        fit, cost = self.solve(
            _Fit(JointKind.FREE, np.zeros(3), np.zeros(3), np.zeros((len(self.tracks.uv), 3)), False)
        )
        motion = self.finished(fit, cost)
        return motion, motion.shift_m

    def prismatic(self, axis: Floats, shift: Floats, free_axis: bool) -> Motion:
        fit = _Fit(JointKind.PRISMATIC, axis, np.zeros(3), (shift @ axis)[:, None], free_axis)
        return self.finished(*self.solve(fit))

    def revolute(self, axis: Floats, free_axis: bool) -> Motion | None:
        """Fit a hinge along `axis`: started where points kept in their planes across the axis turn about."""
        best: tuple[_Fit, float] | None = None
        for origin, q in self._hinge_starts(axis):
            solved = self.solve(_Fit(JointKind.REVOLUTE, axis, origin, q[:, None], free_axis), iterations=15)
            if best is None or solved[1] < best[1]:
                best = solved
        return None if best is None else self.finished(*best)

    def _hinge_starts(self, axis: Floats) -> list[tuple[Floats, Floats]]:
        """Return starting (origin, angles): by the turn of the point cloud, and by the circle of its centre."""
        P = self.tracks.points_m
        rays = backproject(self.K, self.T, self.uv, np.ones(self.uv.shape[:2])) - self.T[:3, 3]
        slope = rays @ axis
        usable = (self.weight > 0) & (np.abs(slope) > 0.05)
        reach = ((P - self.T[:3, 3]) @ axis) / np.where(usable, slope, 1.0)
        X = self.T[:3, 3] + rays * reach[..., None]
        B = _plane_of(axis)
        w = self.weight * usable * (reach > 0.05) * (reach < 10.0)
        good = w.sum(axis=1) >= 2
        if good.sum() < 3:
            return []
        a = P @ B.T
        a = a[:, 0] + 1j * a[:, 1]
        b = X @ B.T
        b = np.where(w > 0, b[..., 0] + 1j * b[..., 1], 0.0)
        total = np.maximum(w.sum(axis=1), 1e-9)
        ca, cb = (w @ a) / total, (w * b).sum(axis=1) / total
        turn = (w * (b - cb[:, None]) * np.conj(a[None] - ca[:, None])).sum(axis=1)
        angle = np.where(good, np.unwrap(np.angle(np.where(np.abs(turn) > 0, turn, 1.0))), 0.0)
        starts: list[complex] = []
        R = np.exp(1j * angle)
        lever, gain = (cb - R * ca)[good], (1 - R)[good]
        power = float((np.abs(gain) ** 2).sum())
        if power > 1e-6:
            starts.append(complex((np.conj(gain) * lever).sum() / power))
        # Circle through the centre's path: |c - o|^2 constant, linear in o and the constant.
        c = cb[good]
        A = np.stack([2 * c.real, 2 * c.imag, np.ones(len(c))], axis=1)
        solution, *_ = np.linalg.lstsq(A, np.abs(c) ** 2, rcond=None)
        starts.append(complex(solution[0], solution[1]))
        middle = a.mean()
        moves = cb - ca
        results = []
        for origin in starts:
            if not np.isfinite(origin) or abs(origin - middle) > 2.0:
                continue
            q = np.where(good, np.angle((ca + moves - origin) / (ca - origin + 1e-12)), 0.0)
            if abs(origin - middle) < 0.02:
                q = angle
            base = origin.real * B[0] + origin.imag * B[1] + (P.mean(axis=0) @ axis) * axis
            q = np.unwrap(q)
            results.append((base, q - q[0]))
        return results


def fit_models(tracks: Tracks, K: Floats, T_base_cam: Floats) -> list[Motion]:
    """Return every model fitted to the tracks, best evidence first.

    Args:
        tracks: what was followed through the plan.
        K: (3, 3) intrinsics of the plan's frames.
        T_base_cam: (4, 4) pose of the camera.

    Raises:
        DataError: no point was followed into any later frame.
    """
    if not tracks.alive[1:].any():
        raise DataError("flow lost: no point could be followed past the first frame of the plan.")
    problem = _Problem(tracks, K, T_base_cam)
    free, shift = problem.free()
    models = [problem.still(), free]
    slides = [problem.prismatic(axis, shift, False) for axis in np.eye(3)]
    hinges = [m for axis in np.eye(3) if (m := problem.revolute(axis, False)) is not None]
    main = min(slides, key=lambda m: m.evidence)
    models += [*slides, *hinges, problem.prismatic(main.axis, shift, True)]
    if hinges:
        start = min(hinges, key=lambda m: m.evidence)
        fit = _Fit(JointKind.REVOLUTE, start.axis, start.origin_m, start.q[:, None].copy(), True)
        models.append(problem.finished(*problem.solve(fit)))
    return sorted(models, key=lambda m: m.evidence)
