"""Where the object is in every new RGB-D image: its resting surface laid over what is seen near the predicted place.

Only a window of the image is looked at, so that a look takes milliseconds. While too little of the object shows, the
last good pose is kept: in the hand when the hand holds it, else where it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.contracts import CameraImage
from flowact.articulation import JointKind, Motion
from flowact.reading import PlanReading
from flowact.register import settled_shift, undone
from flowact.rigid import Bools, Floats, backproject, project
from flowact.scene import base_pose, depth_of

MOST_POINTS = 120  # of the resting surface, and of the seen one
MARGIN_M = 0.05  # around the predicted place that is looked at
NEAR_M = 0.03  # without a mask: what is seen this near to the predicted surface ...
SAME_COLOUR = 45.0  # ... and looks like the object (0..255, nearest of its colours) is the object
WHOLE = 0.7  # of its pixels show: it is not hidden
SHARE = 0.2  # of the object's pixels has to be seen
WRONG_M = 0.012  # surfaces that lie this far apart after the fit are not the same
REST_M = 0.004  # what is known of a place at rest, standard deviation
FEW_POINTS = 40  # for the search along a joint
JOINT_STEPS = 11  # joint positions tried at once, in three rounds, each finer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pose:
    """Where the object is.

    Attributes:
        shift_m: (3,) of its centre since the plan was made.
        q: joint position (0 for what is carried).
        seen: whether this look saw it; else it is the last good pose.
        error_m: how far apart the surfaces lie after the fit.
    """

    shift_m: Floats
    q: float = 0.0
    seen: bool = False
    error_m: float = REST_M


class ObjectFollower:
    """Follows the object of one plan from image to image.

    Args:
        reading: what was read from the plan.
        image: the RGB-D image it was read through.
        segment: name of the object's segment, or None to go by depth and colour.
        hand_m: (3,) the hand then.
    """

    def __init__(self, reading: PlanReading, image: CameraImage, segment: str | None, hand_m: Floats) -> None:
        view = reading.view
        keep = np.linspace(0, len(view.points_m) - 1, min(len(view.points_m), MOST_POINTS)).round().astype(int)
        self.motion: Motion = reading.motion
        self.jointed = reading.motion.kind in (JointKind.PRISMATIC, JointKind.REVOLUTE)
        self.model: Floats = view.points_m[keep]
        self.centre: Floats = view.centre_m
        self.pixels = len(view.points_m)
        self.segment = segment
        self.colours = _colours_of(image, view.uv)
        self.tree = _tree(self.model)
        self.reach = max(self.motion.way_per_unit(view.centre_m), 0.02) if self.jointed else 1.0
        self.pose = Pose(shift_m=np.zeros(3))
        self.hand_m = hand_m

    def look(self, image: CameraImage, hand_m: Floats, *, held: bool) -> Pose:
        """Return the pose after a new image; `held` when the hand is closed on the object."""
        moved = hand_m - self.hand_m if held and not self.jointed else np.zeros(3)
        self.hand_m = hand_m
        kept = Pose(shift_m=self.pose.shift_m + moved, q=self.pose.q, error_m=self.pose.error_m)
        found: list[Pose] = []
        for guess in (kept, self.pose) if np.linalg.norm(moved) > NEAR_M / 2 else (kept,):
            seen = self._seen(image, guess)
            if len(seen) >= max(4, SHARE * self.pixels):
                found.append(self._joint(guess, seen) if self.jointed else self._free(guess, seen))
        good = [p for p in found if p.error_m < WRONG_M]
        self.pose = min(good, key=lambda p: p.error_m) if good else kept
        return self.pose

    def _free(self, guess: Pose, seen: Floats) -> Pose:
        there = _tree(seen)
        whole = len(seen) >= WHOLE * min(self.pixels, MOST_POINTS)
        middle = seen.mean(axis=0) - self.model.mean(axis=0)
        starts = (guess.shift_m, middle) if whole else (guess.shift_m,)
        settled = [settled_shift(self.tree, self.model, seen, s, 6) for s in starts]
        tried = [*settled, middle] if whole else settled
        costs = [float(self.tree.query(seen - s)[0].mean()) for s in tried]
        if whole:  # a flat thing slides over itself unnoticed, but for the rim that shows where it was
            costs = [
                0.5 * (c + float(there.query(self.model + s)[0].mean())) for c, s in zip(costs, tried, strict=True)
            ]
        best = int(np.argmin(costs))
        return Pose(shift_m=tried[best], seen=True, error_m=costs[best])

    def _joint(self, guess: Pose, seen: Floats) -> Pose:
        half, best, error = 0.06 / self.reach, guess.q, np.inf
        few = seen[:: max(1, len(seen) // FEW_POINTS)]
        model = self.model[:: max(1, len(self.model) // FEW_POINTS)]
        there = _tree(seen) if len(seen) >= WHOLE * min(self.pixels, MOST_POINTS) else None
        for _ in range(3):
            tried = np.linspace(best - half, best + half, JOINT_STEPS)
            rest = np.concatenate([undone(self.motion, few, float(q)) for q in tried])
            costs = self.tree.query(rest)[0].reshape(len(tried), -1).mean(axis=1)
            if there is not None:
                moved = np.concatenate([undone(self.motion, model, -float(q)) for q in tried])
                costs = 0.5 * (costs + there.query(moved)[0].reshape(len(tried), -1).mean(axis=1))
            best, error = float(tried[int(np.argmin(costs))]), float(costs.min())
            half /= 4
        return Pose(shift_m=self.motion.move(self.centre, best) - self.centre, q=best, seen=True, error_m=error)

    def _at(self, pose: Pose) -> Floats:
        """Return the resting surface (N, 3) as it lies at a pose."""
        if not self.jointed:
            return np.asarray(self.model + pose.shift_m, dtype=np.float64)
        return undone(self.motion, self.model, -pose.q)

    def _seen(self, image: CameraImage, guess: Pose) -> Floats:
        """Return points (M, 3) of the object seen near a guess, a limited number of them."""
        K, T, depth = image.K, base_pose(image), depth_of(image)
        model = self._at(guess)
        uv, z = project(K, T, model)
        if not np.isfinite(uv).all():
            return np.zeros((0, 3))
        margin = MARGIN_M * float(K[0, 0]) / max(float(np.median(z)), 0.05)
        left, top = np.maximum(np.floor(uv.min(axis=0) - margin), 0).astype(int)
        right, bottom = np.minimum(np.ceil(uv.max(axis=0) + margin), [depth.shape[1], depth.shape[0]]).astype(int)
        if right <= left or bottom <= top:
            return np.zeros((0, 3))
        window = np.s_[top:bottom, left:right]
        wanted = self._wanted(image, window)
        rows, columns = np.nonzero(wanted)
        away = depth[window][rows, columns]
        points = backproject(K, T, np.stack([columns + left + 0.5, rows + top + 0.5], axis=1), away)
        points = points[np.isfinite(points).all(axis=1) & (away > 0)]
        if self.segment is None and len(points):
            points = points[_tree(model).query(points, distance_upper_bound=NEAR_M)[0] < NEAR_M]
        if len(points) <= MOST_POINTS:
            return points
        few = points[np.linspace(0, len(points) - 1, max(MOST_POINTS, int(SHARE * self.pixels) + 1)).astype(int)]
        return np.asarray(few, dtype=np.float64)

    def _wanted(self, image: CameraImage, window: tuple[slice, slice]) -> Bools:
        if self.segment is not None and image.segmentation is not None:
            return np.isin(image.segmentation[window], image.segment_names.get(self.segment, ()))
        colour = image.rgb[window].astype(np.float64)
        away = np.linalg.norm(colour[:, :, None] - self.colours, axis=-1).min(axis=-1)
        return np.asarray(away < SAME_COLOUR, dtype=bool)


def _tree(points: Floats) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(points)


def _colours_of(image: CameraImage, uv: Floats, kinds: int = 8) -> Floats:
    """Return up to `kinds` colours (C, 3) that stand for the object, dark to bright."""
    colours = image.rgb[uv[:, 1].astype(int), uv[:, 0].astype(int)].astype(np.float64)
    order = np.argsort(colours.sum(axis=1))
    return np.asarray(colours[order[np.linspace(0, len(order) - 1, min(kinds, len(order))).astype(int)]])
