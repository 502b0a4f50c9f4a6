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
from flowact.joint_batch import Joints, fit_joints, planes_of
from flowact.rigid import Floats, backproject
from flowact.sight import NOISE_PX, Normal, Sight

HUBER_PX = 1.0  # tracks off by more than this count linearly, not squared
MOST_POINTS = 40  # neighbours move alike: more points cost time and tell little
CLEAR = 2.0  # evidence by which a hinge must beat a slide; less tells nothing (Kass and Raftery, "Bayes Factors", 1995)
INDEPENDENT = 6.0  # errors of neighbouring points are alike: so many independent points per frame at most


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Start:
    """A joint to start a fit from; `q` (T,) are its positions."""

    hinge: bool
    axis: Floats
    origin_m: Floats
    q: Floats


class _Problem:
    """The tracks of one plan through one camera, and the solver on them."""

    def __init__(self, tracks: Tracks, K: Floats, T_base_cam: Floats) -> None:
        tracks = _thinned(tracks)
        self.tracks, self.K, self.T = tracks, K, T_base_cam
        self.weight = tracks.weight * (tracks.alive[:, None])
        self.weight[0] = 0.0  # frame 0 is given
        self.uv = np.where(self.weight[..., None] > 0, tracks.uv, 0.0)
        self.sight = Sight(tracks.points_m, self.uv, self.weight, K, T_base_cam, HUBER_PX)

    def _look(self, shift: Floats) -> Normal:
        """Return the normal equations, in the shifts, of the object carried by shifts (T, 3)."""
        sight = self.sight
        placements = np.zeros((1, len(shift), 3, 4))
        placements[..., :3] = sight.to_px
        placements[0, ..., 3] = (shift - sight.eye_m) @ sight.to_px.T
        seen = sight.look(placements.reshape(1, len(shift), 12))
        return Normal(
            seen.cost,
            sight.to_px.T @ seen.H[:, :, 3::4, 3::4] @ sight.to_px,
            seen.g[:, :, 3::4] @ sight.to_px,
        )

    def _shifted(self, iterations: int = 12) -> tuple[Floats, float]:
        """Return the (T, 3) shifts that explain the frames best, each by itself, and their cost."""
        shift, damping = np.zeros((len(self.uv), 3)), 1e-3
        now, eye = self._look(shift), np.eye(3)
        for _ in range(iterations):
            step = -np.linalg.solve(now.H + damping * now.H * eye + 1e-6 * eye, now.g[..., None])[0, ..., 0]
            step[0] = 0.0
            new = self._look(shift + step)
            if new.cost < now.cost:
                done = now.cost - new.cost < 1e-4 * now.cost
                shift, now = shift + step, new
                damping = max(damping / 5, 1e-9)
                if done:
                    break
            else:
                damping *= 8
                if damping > 1e4:
                    break
        return shift, float(now.cost[0])

    def _filled(self, q: Floats) -> Floats:
        """Return (T, Q) values with frames without tracks filled in between their neighbours."""
        seen = self.tracks.alive.copy()
        seen[0] = True
        index = np.arange(len(q))
        return np.stack([np.interp(index, index[seen], column[seen]) for column in q.T], axis=1)

    def evidence(self, cost: float, unknowns: int) -> float:
        """Return the BIC of a fit, counting at most `INDEPENDENT` points per frame as independent witnesses."""
        per_frame = self.weight.sum(axis=1)
        witnesses = float(np.minimum(per_frame, INDEPENDENT).sum())
        share = witnesses / max(float(per_frame.sum()), 1e-9)
        return cost * share / NOISE_PX**2 + unknowns * float(np.log(max(2 * witnesses, 2.0)))

    def still(self) -> Motion:
        """Return the model of an object that does not move."""
        frames = len(self.tracks.uv)
        cost = float(self._look(np.zeros((frames, 3))).cost[0])
        weight = float(self.weight.sum())
        zero = np.zeros(3)
        return Motion(
            kind=JointKind.STATIC,
            axis=zero,
            origin_m=zero,
            q=np.zeros(frames),
            shift_m=np.zeros((frames, 3)),
            rms_px=float(np.sqrt(cost / weight)) if weight > 0 else 0.0,
            evidence=self.evidence(cost, 0),
        )

    def free(self) -> tuple[Motion, Floats]:
        """Return the carried model and the (T, 3) shifts it starts others from."""
        shift, cost = self._shifted()
        shift = self._filled(shift)
        weight = float(self.weight.sum())
        motion = Motion(
            kind=JointKind.FREE,
            axis=np.zeros(3),
            origin_m=np.zeros(3),
            q=np.zeros(len(shift)),
            shift_m=shift,
            rms_px=float(np.sqrt(cost / weight)) if weight > 0 else 0.0,
            evidence=self.evidence(cost, 3 * (len(shift) - 1)),
        )
        return motion, shift

    def joints(self, starts: list[_Start], *, free_axis: bool) -> list[Motion]:
        """Fit joints, all at once, from where they are thought to be; returns as many motions."""
        begun = Joints(
            hinge=np.array([s.hinge for s in starts]),
            axis=np.stack([s.axis for s in starts]),
            origin_m=np.stack([s.origin_m for s in starts]),
            q=np.stack([s.q for s in starts]),
            free_axis=free_axis,
        )
        begun.q[:, 0] = 0.0
        joints, cost = fit_joints(begun, self.sight)
        joints = replace(joints, q=self._filled(joints.q.T).T)
        centre = self.tracks.points_m.mean(axis=0)
        shift = joints.path(centre) - centre
        return [self._jointed(joints, float(cost[i]), shift[i], i) for i in range(len(starts))]

    def _jointed(self, joints: Joints, cost: float, shift: Floats, i: int) -> Motion:
        hinge = bool(joints.hinge[i])
        weight = float(self.weight.sum())
        return Motion(
            kind=JointKind.REVOLUTE if hinge else JointKind.PRISMATIC,
            axis=joints.axis[i],
            origin_m=joints.origin_m[i] if hinge else np.zeros(3),
            q=joints.q[i],
            shift_m=shift,
            rms_px=float(np.sqrt(cost / weight)) if weight > 0 else 0.0,
            evidence=self.evidence(cost, (2 if hinge else 0) + (2 if joints.free_axis else 0) + joints.q.shape[1] - 1),
        )

    def hinge_starts(self) -> list[_Start]:
        """Return hinges along the base frame's axes to start from: where points kept in their planes turn about."""
        rays = backproject(self.K, self.T, self.uv, np.ones(self.uv.shape[:2])) - self.T[:3, 3]
        return [
            _Start(hinge=True, axis=axis, origin_m=origin, q=q)
            for axis in np.eye(3)
            for origin, q in self._hinge_starts(axis, rays)
        ]

    def slide_starts(self, shift: Floats) -> list[_Start]:
        """Return slides along the base frame's axes, started from shifts (T, 3)."""
        return [_Start(hinge=False, axis=a, origin_m=np.zeros(3), q=shift @ a) for a in np.eye(3)]

    def _hinge_starts(self, axis: Floats, rays: Floats) -> list[tuple[Floats, Floats]]:
        """Return starting (origin, angles): by the turn of the point cloud, and by the circle of its centre.

        The rays (T, N, 3) lead from the camera to where the points are seen.
        """
        P = self.tracks.points_m
        slope = rays @ axis
        usable = (self.weight > 0) & (np.abs(slope) > 0.05)
        reach = ((P - self.T[:3, 3]) @ axis) / np.where(usable, slope, 1.0)
        X = self.T[:3, 3] + rays * reach[..., None]
        B = planes_of(axis[None])[0]
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


def _thinned(tracks: Tracks) -> Tracks:
    """Return the tracks of at most `MOST_POINTS` points: those that are followed longest, spread over the object."""
    count = len(tracks.points_m)
    if count <= MOST_POINTS:
        return tracks
    parts = np.array_split(np.arange(count), MOST_POINTS)
    followed = tracks.weight.sum(axis=0)
    keep = np.array([part[int(followed[part].argmax())] for part in parts])
    return Tracks(points_m=tracks.points_m[keep], uv=tracks.uv[:, keep], weight=tracks.weight[:, keep])


def _ranked(models: list[Motion]) -> list[Motion]:
    """Return models by their evidence, hinges last where it hardly differs: a short slide is a wide hinge's as well."""
    return sorted(models, key=lambda m: m.evidence + (CLEAR if m.kind is JointKind.REVOLUTE else 0.0))


def fit_models(tracks: Tracks, K: Floats, T_base_cam: Floats, *, free_axes: bool = True) -> list[Motion]:
    """Return every model fitted to the tracks, best evidence first.

    Args:
        tracks: what was followed through the plan.
        K: (3, 3) intrinsics of the plan's frames.
        T_base_cam: (4, 4) pose of the camera.
        free_axes: whether the best slide and hinge are fitted once more with axes free to turn, for as long again.

    Raises:
        DataError: no point was followed into any later frame.
    """
    if not tracks.alive[1:].any():
        raise DataError("flow lost: no point could be followed past the first frame of the plan.")
    problem = _Problem(tracks, K, T_base_cam)
    free, shift = problem.free()
    models = [problem.still(), free]
    slides, hinges = problem.slide_starts(shift), problem.hinge_starts()
    fitted = problem.joints([*slides, *hinges], free_axis=False)
    models += fitted
    if not free_axes:
        return _ranked(models)
    # The best of each once more, its axis free to turn.
    again = [
        min((m for m in fitted if m.kind is kind), key=lambda m: m.evidence, default=None)
        for kind in (JointKind.PRISMATIC, JointKind.REVOLUTE)
    ]
    models += problem.joints(
        [
            _Start(hinge=m.kind is JointKind.REVOLUTE, axis=m.axis, origin_m=m.origin_m, q=m.q.copy())
            for m in again
            if m is not None
        ],
        free_axis=True,
    )
    return _ranked(models)
