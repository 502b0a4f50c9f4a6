"""How an object would look in later frames if it moved by a given joint, and which joint explains the frames best.

Tracks slide off onto whatever passes in front, an arm of the same colour for instance. Here nothing is tracked: the
coloured surface points of frame 0 are moved by a candidate joint and compared with every frame. A point that is hidden
costs a bounded amount; points just outside the object's outline cost when they take on its colour, so that a candidate
that parks the object on a larger thing of its colour does not win. Per candidate, dynamic programming finds the best
joint position in every frame; positions of the frames hang together by a small price on the way moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowact.articulation import JointKind, Motion, Tracks
from flowact.rigid import Bools, Floats, backproject, rotation_about

REACH_M = 0.7  # joints move a point by this much at most
STEP_M = 0.012  # spacing of joint positions tried, as way of the object's centre
COLOUR_SPAN = 70.0  # colour difference (0..255, summed squares) that counts as fully unlike
WAY_PRICE = 0.15  # cost per metre moved, against 1 for a frame in which nothing fits
TURN_RAD = 2.9  # a hinge turns by this much at most
TURN_PRICE = 0.3  # cost of turning round once, ...
SETTLES_M = 0.12  # ... after moving no further than this
JUMP_PRICE = 5.0  # cost per metre moved between two frames beyond ...
JUMP_M = 0.08  # ... what a hand moves between two frames of a plan
SAME = 20.0  # largest colour difference to frame 0 of a pixel at which nothing happened
RADII_M = (0.06, 0.1, 0.15, 0.2, 0.27, 0.35, 0.45, 0.55)
NEAR_M = 0.16  # something that is pushed is seen this near to the hand
TOUCH_PRICE = 0.3  # cost of having moved and being twice as far
TRACK_PX = 6.0  # a track this far from where the joint takes its point disagrees
TRACK_PRICE = 0.3
APART_M = 0.09  # spacing of the hinges tried on a circle
FINALISTS = 3
SECOND_LOOK = 0.06
COARSE = 2.4  # the first look at every candidate is this much coarser
LEVEL_PRICE = 0.01  # a level slide presumes that the thing stands square to the base; an upright one presumes nothing
HINGE_PRICE = 0.015  # a hinge has two more unknowns than a slide along an axis
MOVED_M = 0.015  # a plan is made to move something: less than this is taken only when nothing else fits
LYING_PRICE = 0.05  # ... and most hinges stand upright


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """An object's appearance in frame 0.

    Attributes:
        points_m: (N, 3) surface points; colours: (N, 3) their colours.
        ring_m: (M, 3) points just outside the outline, at the object's depth.
        colour: (3,) the object's usual colour.
    """

    points_m: Floats
    colours: Floats
    ring_m: Floats
    colour: Floats


def look_of(
    frame: NDArray[np.uint8], mask: Bools, depth_m: float, K: Floats, T: Floats, points: Floats, uv: Floats
) -> Look:
    """Return the look of the object under a plan-pixel mask.

    Args:
        frame: (H, W, 3) frame 0.
        mask: (H, W) the object.
        depth_m: z-depth of the object.
        K: intrinsics of the frame.
        T: pose of the camera.
        points: (N, 3) surface points.
        uv: (N, 2) their pixels.
    """
    import cv2

    grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    inner = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    rows, columns = np.nonzero(grown & ~inner)
    keep = slice(None, None, max(1, len(rows) // 40))
    ring_uv = np.stack([columns[keep] + 0.5, rows[keep] + 0.5], axis=1)
    smooth = softened(frame[None])[0]
    at = uv.astype(int)
    colours = smooth[np.clip(at[:, 1], 0, mask.shape[0] - 1), np.clip(at[:, 0], 0, mask.shape[1] - 1)]
    around = np.median(smooth[rows, columns], axis=0)
    # Pixels on the outline are mixed with what lies behind, which does not move along.
    own = ((colours - np.median(colours, axis=0)) ** 2).sum(1) < ((colours - around) ** 2).sum(1)
    if own.sum() >= 0.5 * len(own):
        points, colours = points[own], colours[own]
    return Look(
        points_m=points,
        colours=colours,
        ring_m=backproject(K, T, ring_uv, np.full(len(ring_uv), depth_m)),
        colour=np.median(colours, axis=0),
    )


def softened(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (T, H, W, 3) float32 frames, slightly blurred so that half a pixel does not decide."""
    import cv2

    return np.stack([cv2.GaussianBlur(f, (3, 3), 0.7) for f in frames]).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """What candidates are compared with in F of the frames.

    Attributes:
        frames: (F,) their numbers.
        unlike: (kinds H W, F) how little a pixel looks like each of the object's colours.
        like: (H W, F) how much it looks like its usual colour.
        skipped: frames from one to the next.
    """

    frames: NDArray[np.int64]
    unlike: NDArray[np.float32]
    like: NDArray[np.float32]
    skipped: float


class JointSearch:
    """Compares candidate joints with the frames of one plan.

    Args:
        look: the object's appearance in frame 0.
        frames: (T, H, W, 3) uint8 plan frames.
        K: (3, 3) intrinsics of the frames.
        T_base_cam: (4, 4) pose of the camera.
        hand_px: (T, 2) where the hand is seen in every frame, if known: what is pushed stays near it.
        tracks: points followed by flow, if any: a second opinion where they still look like the object.
    """

    def __init__(
        self,
        look: Look,
        frames: NDArray[np.uint8],
        K: Floats,
        T_base_cam: Floats,
        hand_px: Floats | None = None,
        tracks: Tracks | None = None,
    ) -> None:
        self.look, self.K, self.T, self.hand_px = look, K, T_base_cam, hand_px
        self.frames = softened(frames)
        self.centre = look.points_m.mean(axis=0)
        # 1 where a pixel differs from frame 0: something came, or the object went.
        self.changed = (np.abs(self.frames - self.frames[0]).max(axis=-1) > SAME).astype(np.float32)
        uv = self._pixels(look.points_m)
        own = np.zeros(self.changed.shape[1:], dtype=bool)
        own[self._rows(uv), self._columns(uv)] = True
        self.left = 1 - self.changed[:, own].mean(axis=1)  # share of the object's first place that has not changed
        self.size_px = max(2.0, float(np.sqrt(np.linalg.eigvalsh(np.cov(uv.T) + np.eye(2) / 12)[0])) * 4)
        self.start_px = uv.mean(axis=0)
        kinds, self.kind_of = _palette(look.colours)
        unlike = [_unlike(self.frames, kind) for kind in kinds]  # one image per colour of the object ...
        self.unlike = np.stack(unlike).astype(np.float32)  # (kinds, T, H, W)
        self.like = (1 - _unlike(self.frames, look.colour)).astype(np.float32)  # ... and for what is around it
        first = self.like[0][self._rows(self._pixels(look.ring_m)), self._columns(self._pixels(look.ring_m))]
        # Ring points that look like the object already in frame 0 (its other parts) tell nothing.
        self.ring = look.ring_m[first < 0.5]
        self.tracks = None if tracks is None else self._trusted(tracks)

    def best(self, starts: Sequence[Motion]) -> tuple[Motion, float]:
        """Return the joint that explains the frames best and its mean cost per frame (0 perfect .. 1 nothing fits)."""
        candidates = [_blank(len(self.frames), kind, axis, origin) for kind, axis, origin in self._grid()]
        candidates += starts
        coarse = self._part(np.arange(2, len(self.frames), 2))
        every = self._part(np.arange(1, len(self.frames)))
        scored = sorted((self._solved(c, coarse, COARSE)[1], i) for i, c in enumerate(candidates))
        chosen = {i for _, i in scored[:FINALISTS]}
        # Few unknowns, or a start from tracks: worth a second look where not far off in the first.
        special = {i for i, c in enumerate(candidates) if c.kind is JointKind.PRISMATIC}
        special |= set(range(len(candidates) - len(starts), len(candidates)))
        chosen |= {i for cost, i in scored if i in special and cost < scored[0][0] + SECOND_LOOK}
        finalists = [self._refined(candidates[i], every) for i in sorted(chosen)]
        return min(finalists, key=lambda f: f[1] + _price_of(f[0]))

    def _grid(self) -> list[tuple[JointKind, Floats, Floats]]:
        slides = [(JointKind.PRISMATIC, axis, np.zeros(3)) for axis in np.eye(3)]
        up = np.array([0.0, 0.0, 1.0])
        around = []
        for radius in RADII_M:
            bearing = np.linspace(0, 2 * np.pi, max(6, int(2 * np.pi * radius / APART_M)), endpoint=False)
            around += [self.centre + radius * np.array([np.cos(b), np.sin(b), 0.0]) for b in bearing]
        return slides + [(JointKind.REVOLUTE, up, origin) for origin in around]

    def _refined(self, motion: Motion, every: _Part) -> tuple[Motion, float]:
        """Shift a hinge about in small steps while that helps; then fill in all frames finely."""
        cost = self._solved(motion, every, 1.3)[1]
        if motion.kind is JointKind.REVOLUTE:
            for size in (0.03, 0.012):
                for _ in range(3):
                    moves = [replace(motion, origin_m=motion.origin_m + size * d) for d in _ACROSS]
                    tried = [(self._solved(m, every, 1.3)[1], i) for i, m in enumerate(moves)]
                    low, index = min(tried)
                    if low >= cost - 1e-4:
                        break
                    cost, motion = low, moves[index]
        q, cost = self._solved(motion, every, 0.6)
        full = np.zeros(len(self.frames))
        full[1:] = q
        shift = np.stack([motion.move(self.centre, float(x)) for x in full]) - self.centre
        return replace(motion, q=full, shift_m=shift, evidence=cost), cost

    def _part(self, chosen: NDArray[np.int64]) -> _Part:
        """Return what candidates are compared with in some frames."""
        frames = len(chosen)
        return _Part(
            frames=chosen,
            # All frames of a pixel side by side: they are looked up together.
            unlike=np.ascontiguousarray(self.unlike[:, chosen].transpose(0, 2, 3, 1)).reshape(-1, frames),
            like=np.ascontiguousarray(self.like[chosen].transpose(1, 2, 0)).reshape(-1, frames),
            skipped=float(np.median(np.diff(chosen))),
        )

    def _solved(self, motion: Motion, part: _Part, spacing: float) -> tuple[Floats, float]:
        """Return the joint positions on the cheapest way through the frames of a part, and the mean cost."""
        way = max(motion.way_per_unit(self.centre), 0.02)
        half = min(REACH_M / way, TURN_RAD if motion.kind is JointKind.REVOLUTE else np.inf)
        count = max(8, int(half * way / (STEP_M * spacing)))
        grid = np.linspace(-half, half, 2 * count + 1)
        hop = way * (grid[:, None] - grid[None, :])  # to, from
        price = WAY_PRICE * np.abs(hop) + JUMP_PRICE * np.maximum(np.abs(hop) / part.skipped - JUMP_M, 0.0)
        unary = self._unary(motion, grid, part)
        # The object may settle one way before the hand arrives; what is pushed then goes one way.
        up = np.where(hop >= 0, price, np.inf)
        down = np.where(hop <= 0, price, np.inf)
        near = np.where(np.abs(grid) * way <= SETTLES_M, 0.0, np.inf)
        index, cost = _cheapest(unary, np.stack([up, down]) + near[:, None], np.stack([down, up]), count)
        return grid[index], cost / len(part.frames)

    def _unary(self, motion: Motion, grid: Floats, part: _Part) -> Floats:
        """Return (frames, positions) how badly the object at each joint position fits each frame of a part, 0 .. 1."""
        chosen = part.frames
        cost = self._seen(part.unlike, self.kind_of, _moved(motion, self.look.points_m, grid), beyond=1.0)
        if len(self.ring):
            around = self._seen(part.like, None, _moved(motion, self.ring, grid), beyond=0.0)
            cost = 0.75 * cost + 0.25 * around
        centre_px = self._pixels(_moved(motion, self.centre[None], grid))[:, 0]
        gone = np.minimum(np.linalg.norm(centre_px - self.start_px, axis=-1) / self.size_px, 1.0)
        cost = cost + 0.5 * self.left[chosen][:, None] * gone
        if self.hand_px is not None:
            some = self.look.points_m[:: max(1, len(self.look.points_m) // 8)]
            seen = self._pixels(_moved(motion, some, grid))
            apart = _length(seen[None] - self.hand_px[chosen][:, None, None]).min(axis=-1)
            near = self.K[0, 0] * NEAR_M / max(float((self.centre - self.T[:3, 3]) @ self.T[:3, 2]), 0.1)
            cost = cost + TOUCH_PRICE * np.clip(apart / near - 1.0, 0.0, 1.0) * gone
        if self.tracks is not None:
            seen = self._pixels(_moved(motion, self.tracks.points_m, grid))
            off = np.minimum(_length(seen[None] - self.tracks.uv[chosen][:, None]) / TRACK_PX, 1.0)
            cost = cost + TRACK_PRICE * (off * self.tracks.weight[chosen][:, None]).mean(axis=-1)
        return np.asarray(cost, dtype=np.float64)

    def _trusted(self, tracks: Tracks) -> Tracks:
        """Return some of the tracks, weighted down where they no longer look as in frame 0."""
        some = slice(None, None, max(1, len(tracks.points_m) // 12))
        uv, weight = tracks.uv[:, some], tracks.weight[:, some].copy()
        rows, columns = self._rows(uv), self._columns(uv)
        seen = self.frames[np.arange(len(uv))[:, None], rows, columns]
        weight *= 1.0 - _unlike(seen, seen[:1])
        return Tracks(points_m=tracks.points_m[some], uv=uv, weight=weight)

    def _pixels(self, X: Floats) -> Floats:
        camera = (X - self.T[:3, 3]) @ self.T[:3, :3]
        uv = camera[..., :2] / np.maximum(camera[..., 2:], 0.05) @ self.K[:2, :2].T + self.K[:2, 2]
        return np.asarray(uv, dtype=np.float64)

    def _rows(self, uv: Floats) -> NDArray[np.int64]:
        return np.clip(np.floor(uv[..., 1]), 0, self.frames.shape[1] - 1).astype(np.int64)

    def _columns(self, uv: Floats) -> NDArray[np.int64]:
        return np.clip(np.floor(uv[..., 0]), 0, self.frames.shape[2] - 1).astype(np.int64)

    def _seen(
        self,
        maps: NDArray[np.float32],
        kind_of: NDArray[np.int64] | None,
        X: Floats,
        *,
        beyond: float,
    ) -> Floats:
        """Return (frames, Q) means of maps (kinds H W, frames) where (Q, N, 3) are seen, `beyond` out of view."""
        uv = self._pixels(X)
        height, width = self.frames.shape[1:3]
        index = self._rows(uv) * width + self._columns(uv)
        if kind_of is not None:
            index = index + kind_of * (height * width)
        values = np.take(maps, index, axis=0)
        hidden = ((uv < 0) | (uv >= [width, height])).any(axis=-1)
        values[hidden] = beyond
        return np.asarray(values.mean(axis=1).T, dtype=np.float64)


def _palette(colours: Floats, kinds: int = 4) -> tuple[Floats, NDArray[np.int64]]:
    """Return up to `kinds` colours (C, 3) that stand for (N, 3), and which of them each is (k-means)."""
    order = np.argsort(colours.sum(axis=1))
    centres = colours[order[np.linspace(0, len(order) - 1, min(kinds, len(order))).round().astype(int)]].astype(float)
    nearest = np.zeros(len(colours), dtype=np.int64)
    for _ in range(6):
        nearest = ((colours[:, None] - centres[None]) ** 2).sum(axis=-1).argmin(axis=1)
        for k in range(len(centres)):
            if (nearest == k).any():
                centres[k] = colours[nearest == k].mean(axis=0)
    return centres, nearest


def _price_of(motion: Motion) -> float:
    """Return what a joint must explain better by, to be preferred."""
    if float(np.linalg.norm(motion.shift_m[-1])) < MOVED_M:
        return 1.0
    if motion.kind is JointKind.PRISMATIC:
        return 0.0 if abs(motion.axis[2]) > 0.9 else LEVEL_PRICE
    return HINGE_PRICE if abs(motion.axis[2]) > 0.9 else LYING_PRICE


def _cheapest(unary: Floats, first: Floats, then: Floats, start: int) -> tuple[NDArray[np.int64], float]:
    """Return the cheapest way (frames,) through unary costs (frames, positions), and its cost, of W kinds of ways.

    Steps of a kind cost `first` (W, to, from) until the way turns round once, for a price, and `then` from there on.
    """
    kinds, size = len(first), unary.shape[1]
    before, after = unary[0] + first[:, :, start], unary[0] + then[:, :, start]
    back_before, back_after = np.zeros((2, len(unary), kinds, size), dtype=np.int64)
    turned = np.zeros((len(unary), kinds, size), dtype=bool)
    at = np.arange(kinds)[:, None], np.arange(size)
    for t in range(1, len(unary)):
        stay, keep, turn = before[:, None] + first, after[:, None] + then, before[:, None] + then
        back_before[t] = stay.argmin(axis=2)
        from_after, from_before = keep.argmin(axis=2), turn.argmin(axis=2)
        kept, gone = keep[*at, from_after], turn[*at, from_before] + TURN_PRICE
        turned[t] = gone < kept
        back_after[t] = np.where(turned[t], from_before, from_after)
        before = stay[*at, back_before[t]] + unary[t]
        after = np.minimum(gone, kept) + unary[t]
    ends = np.stack([before, after])
    in_after, kind, place = (int(i) for i in np.unravel_index(ends.argmin(), ends.shape))
    path = [place]
    for t in range(len(unary) - 1, 0, -1):
        if in_after:
            in_after, place = not turned[t, kind, place], int(back_after[t, kind, place])
        else:
            place = int(back_before[t, kind, place])
        path.append(place)
    return np.array(path[::-1]), float(ends.min())


def _length(pixels: Floats) -> Floats:
    """Return the lengths (...) of (..., 2), faster than `np.linalg.norm`."""
    return np.sqrt(pixels[..., 0] ** 2 + pixels[..., 1] ** 2)


_ACROSS = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])


def _unlike(seen: NDArray[np.floating[Any]], wanted: NDArray[np.floating[Any]]) -> Floats:
    """Return 0 (same) .. 1 (unlike) per colour (..., 3).

    Shading changes with turning, so that a common brightness change is discounted.
    """
    d = seen - wanted
    r, g, b = d[..., 0], d[..., 1], d[..., 2]
    grey = (r + g + b) / 6
    squares = (r - grey) ** 2 + (g - grey) ** 2 + (b - grey) ** 2
    return np.asarray(np.minimum(squares / COLOUR_SPAN**2, 1.0), dtype=np.float64)


def _moved(motion: Motion, points: Floats, grid: Floats) -> Floats:
    """Return (Q, N, 3) points at every joint position of `grid`."""
    if motion.kind is JointKind.PRISMATIC:
        return np.asarray(points[None] + grid[:, None, None] * motion.axis, dtype=np.float64)
    R = rotation_about(motion.axis, grid)
    turned = (points - motion.origin_m) @ R.transpose(0, 2, 1)
    return np.asarray(turned + motion.origin_m, dtype=np.float64)


def _blank(frames: int, kind: JointKind, axis: Floats, origin: Floats) -> Motion:
    return Motion(
        kind=kind,
        axis=axis,
        origin_m=origin,
        q=np.zeros(frames),
        shift_m=np.zeros((frames, 3)),
        rms_px=0.0,
        evidence=1.0,
    )
