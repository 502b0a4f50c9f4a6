"""Following points of an object through the frames of a plan, by dense flow or, for small objects, by colour.

Flow is OpenCV's DIS on enlarged frames. A point that fails the forward-backward check, or that leaves the common
similarity motion of the others, is carried along by that motion with weight zero and may come back, so that an arm
passing in front does not use up the tracks. Drift is taken out by matching against frame 0 where that succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowact.rigid import Bools, Floats, similarity_inliers

Images = NDArray[np.uint8]
SAME_LOOK = 45.0  # colour difference (of 0..255) up to which a point may still be the same one


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSettings:
    """How points are followed.

    Attributes:
        points: how many points to follow at most.
        working_px: frames are enlarged to at least this width before the flow is computed.
        return_px: largest forward-backward error of a good step, in plan pixels.
        small_px: masks with fewer pixels than this are followed by colour.
    """

    points: int = 80
    working_px: int = 256
    return_px: float = 0.7
    small_px: int = 40


@dataclass(frozen=True, slots=True, eq=False)
class FlowField:
    """Dense flow between the consecutive frames of a plan, both ways.

    Attributes:
        grey: (T, h, w) uint8 enlarged frames.
        forward, backward: (T-1, h, w, 2) float32 [enlarged px], from t to t+1 and back.
        scale: how many times the frames were enlarged.
        soft: (T, H, W, 3) float32 slightly blurred frames, to see whether a point still looks the same.
    """

    grey: Images
    forward: NDArray[np.float32]
    backward: NDArray[np.float32]
    scale: int
    soft: NDArray[np.float32]

    def since(self, frame: int) -> FlowField:
        """Return the flow of the plan from a frame on."""
        return FlowField(self.grey[frame:], self.forward[frame:], self.backward[frame:], self.scale, self.soft[frame:])


def dense_flow(frames: Images, working_px: int = 256) -> FlowField:
    """Return the flow of (T, H, W, 3) uint8 frames, enlarged by a whole number until `working_px` wide."""
    import cv2

    grey = enlarged_grey(frames, working_px)
    # The stubs of OpenCV do not list this factory.
    dis: Any = getattr(cv2, "DISOpticalFlow_create")(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # noqa: B009
    forward = np.stack([dis.calc(a, b, None) for a, b in pairwise(grey)])
    backward = np.stack([dis.calc(b, a, None) for a, b in pairwise(grey)])
    soft = np.stack([cv2.GaussianBlur(f, (3, 3), 0.8) for f in frames]).astype(np.float32)
    return FlowField(grey, forward, backward, enlargement(frames.shape[2], working_px), soft)


def enlarged_grey(frames: Images, working_px: int) -> Images:
    """Return (T, h, w) uint8 grey frames, enlarged by a whole number until `working_px` wide."""
    import cv2

    scale = enlargement(frames.shape[2], working_px)
    size = (frames.shape[2] * scale, frames.shape[1] * scale)
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    return np.stack([cv2.resize(g, size, interpolation=cv2.INTER_CUBIC) for g in grey])


def enlargement(width: int, working_px: int) -> int:
    """Return the whole number that frames of `width` are enlarged by."""
    return max(1, -(-working_px // width))


def choose_points(mask: Bools, count: int) -> Floats:
    """Return up to `count` pixel centres (N, 2) spread over a mask, keeping off its edge where it is thick enough."""
    import cv2

    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    chosen = inner if inner.sum() >= max(12, 0.3 * mask.sum()) else mask
    rows, columns = np.nonzero(chosen)
    if len(rows) > count:
        keep = np.linspace(0, len(rows) - 1, count).round().astype(int)
        rows, columns = rows[keep], columns[keep]
    return np.stack([columns + 0.5, rows + 0.5], axis=1)


def follow_flow(field: FlowField, start_uv: Floats, settings: TrackSettings) -> tuple[Floats, Floats]:
    """Follow (N, 2) plan pixels through a plan by its dense flow; returns uv (T, N, 2) and weight (T, N)."""
    grey, forward, backward, scale = field.grey, field.forward, field.backward, field.scale
    frames = len(grey)
    uv = np.zeros((frames, len(start_uv), 2))
    weight = np.ones((frames, len(start_uv)))
    uv[0] = start_uv
    size = np.array([grey.shape[2], grey.shape[1]])
    for t in range(1, frames):
        here = uv[t - 1] * scale
        there = here + _sampled(forward[t - 1], here)
        back = there + _sampled(backward[t - 1], there)
        good = np.linalg.norm(back - here, axis=1) < settings.return_px * scale
        good &= ((there > 0) & (there < size)).all(axis=1)
        good &= _same_look(field.soft, start_uv, there / scale, t)
        if good.sum() >= 3:
            kept = np.zeros_like(good)
            kept[np.nonzero(good)[0]] = similarity_inliers(here[good], there[good], tolerance_px=1.0 * scale, seed=t)
            good = kept
        there = _carried(here, there, good)
        uv[t], weight[t] = there / scale, good
        _match_first(grey, uv, weight, t, scale)
    return uv, weight


def _sampled(flow: NDArray[np.float32], at: Floats) -> Floats:
    """Return flow (N, 2) at continuous pixel positions, bilinear."""
    import cv2

    maps = (at - 0.5).astype(np.float32)
    values: Any = cv2.remap(flow, maps[None, :, 0], maps[None, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values[0], dtype=np.float64)


def _same_look(soft: NDArray[np.float32], first_uv: Floats, uv: Floats, t: int) -> Bools:
    """Return which of (N, 2) points in frame t have the colour they had in frame 0, a change of light discounted."""
    height, width = soft.shape[1:3]

    def colours(frame: NDArray[np.float32], at: Floats) -> Floats:
        rows = np.clip(np.floor(at[:, 1]), 0, height - 1).astype(int)
        columns = np.clip(np.floor(at[:, 0]), 0, width - 1).astype(int)
        return np.asarray(frame[rows, columns], dtype=np.float64)

    difference = colours(soft[t], uv) - colours(soft[0], first_uv)
    difference = difference - 0.5 * difference.mean(axis=1, keepdims=True)
    return np.asarray(np.linalg.norm(difference, axis=1) < SAME_LOOK, dtype=bool)


def _carried(here: Floats, there: Floats, good: Bools) -> Floats:
    """Return `there` with the points that were not followed moved by the similarity of those that were."""
    if good.all() or not good.any():
        return there if good.all() else here
    a = here[:, 0] + 1j * here[:, 1]
    b = there[:, 0] + 1j * there[:, 1]
    ca, cb = a[good].mean(), b[good].mean()
    power = float((np.abs(a[good] - ca) ** 2).sum())
    ratio = ((b[good] - cb) * np.conj(a[good] - ca)).sum() / power if good.sum() >= 3 and power > 1e-6 else 1.0
    if not 0.7 < abs(ratio) < 1.4:
        ratio = 1.0
    b = np.where(good, b, cb + ratio * (a - ca))
    return np.stack([b.real, b.imag], axis=1)


def _match_first(grey: Images, uv: Floats, weight: Floats, t: int, scale: int) -> None:
    """Take out drift in place: refine frame t's points against their look in frame 0, where that is near and sure."""
    import cv2

    alive = np.nonzero(weight[t] > 0)[0]
    if not len(alive):
        return
    start = (uv[0, alive] * scale - 0.5).astype(np.float32)[:, None]
    guess = (uv[t, alive] * scale - 0.5).astype(np.float32)[:, None]
    window = (4 * scale + 1, 4 * scale + 1)
    found, status, error = cv2.calcOpticalFlowPyrLK(
        grey[0], grey[t], start, guess.copy(), winSize=window, maxLevel=0, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
    )
    shift = (found - guess)[:, 0] / scale
    sure = (status[:, 0] > 0) & (np.linalg.norm(shift, axis=1) < 1.5) & (error[:, 0] < 12.0)
    if sure.sum() < 3:
        return
    middle = np.median(shift[sure], axis=0)
    agree = sure & (np.linalg.norm(shift - middle, axis=1) < 0.7)
    uv[t, alive[agree]] += shift[agree]


def follow_colour(frames: Images, mask: Bools) -> tuple[Floats, Floats]:
    """Follow the centroid of a small object by its colour; returns uv (T, 1, 2) and weight (T, 1).

    The object's colours in frame 0 are weighed against those around it; each frame's centroid is searched near the
    last one, wider after it was lost.
    """
    import cv2

    lab = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2LAB) for f in frames]).astype(np.float64)
    ring = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
    likelihood = _colour_odds(lab, mask, ring)
    rows, columns = np.nonzero(mask)
    area = float(len(rows))
    centre = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    v, u = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    uv = np.zeros((len(frames), 1, 2))
    weight = np.ones((len(frames), 1))
    uv[0, 0] = centre
    velocity = np.zeros(2)
    lost = 0
    for t in range(1, len(frames)):
        guess = uv[t - 1, 0] + velocity
        radius = (1.5 * np.sqrt(area) + 6.0) * (1 + 0.5 * lost)
        best, mass = guess, 0.0
        for _ in range(6):
            near = likelihood[t] * np.exp(-((u - best[0]) ** 2 + (v - best[1]) ** 2) / (2 * radius**2))
            mass = float(near.sum())
            if mass < 0.15 * area:
                break
            best = np.array([(near * u).sum(), (near * v).sum()]) / mass
            radius = max(0.75 * radius, 0.8 * np.sqrt(area) + 1.5)
        if mass >= 0.15 * area:
            velocity = 0.5 * velocity + 0.5 * (best - uv[t - 1, 0])
            uv[t, 0], weight[t, 0], lost = best, min(1.0, mass / (0.5 * area)), 0
        else:
            uv[t, 0], weight[t, 0], lost = uv[t - 1, 0], 0.0, lost + 1
            velocity = velocity * 0.5
    return uv, weight


def stands_out(frame: Images, mask: Bools) -> bool:
    """Return whether an object's colour is its own: little else in frame (H, W, 3) looks like it."""
    import cv2

    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)[None].astype(np.float64)
    ring = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
    odds = _colour_odds(lab, mask, ring)[0]
    return bool(odds[~near].sum() < 0.5 * odds[mask].sum())


def _colour_odds(lab: Floats, mask: Bools, ring: Bools) -> Floats:
    """Return (T, H, W) 0..1, how much more each pixel looks like the object of frame 0 than like what is around it."""
    inside, outside = lab[0][mask], lab[0][ring]
    centre = np.median(inside, axis=0)
    spread = np.maximum(np.median(np.abs(inside - centre), axis=0) * 1.5, [10.0, 5.0, 5.0])
    ours = (((lab - centre) / spread) ** 2).sum(axis=-1)
    around = np.median(outside, axis=0) if len(outside) else centre + 100.0
    theirs = (((lab - around) / spread) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-0.5 * ours) / (np.exp(-0.5 * ours) + np.exp(-0.5 * theirs) + 0.02), dtype=np.float64)
