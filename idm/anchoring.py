"""Where the plan closes the gripper, moved onto what stands there now.

A plan is sure of what to do and a centimetre or three unsure of where; a depth camera is the other way round. So the
path that was read is kept, and near each closing of the gripper it is shifted by what the plan missed the thing by.
Nothing is known of the task: the thing is the segment of that name, or whatever stands out of the table there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import CameraImage, DataError
from idm.waypoints import CLOSED_AT_START, Floats, WaypointRules, frames_of_change

Bools = NDArray[np.bool_]
Source = Literal["segment", "depth"]

REACH_M = 0.30  # a plan that misses by more than this means something else
HIDDEN_REACH_M = 0.10  # the same where the place of the closing is hidden, so that the thing may be there after all
NEAR_M, FAR_M = 0.06, 0.20  # within NEAR_M of the closing, level, the shift counts fully; beyond FAR_M not at all
LONG_M, LONG_RATIO = 0.06, 1.8  # a thing is a bar when it is this long, and this many times as long as wide
BAR_END_M = 0.01  # a bar is held no nearer to its end
LIFTS_M = 0.03  # a hand that has closed around a thing rises by this with it
DRAGS_M = 0.10  # or goes on level by this
GRIP_M = 0.03  # half the length of a bar that is looked at around the closing, and the farthest it is moved along it
SEEN_M = 0.03  # as much table is looked for around a place to say that nothing is there
STANDS_OUT_M = 0.008  # above what it stands on
TALL_M = 0.10  # what stands higher is the hand, or nothing to close around from above
BEHIND = 0.75  # the middle of what is seen of a ball or a box lies this share of its half width before its own
BIN_M = 0.005  # of heights, to find the commonest
FEW = 6  # pixels; fewer tell nothing


@dataclass(frozen=True, slots=True)
class Anchor:
    """One closing of the gripper: its frame, and the shift (3,) [m] that brings it onto the thing."""

    frame: int
    shift_m: Floats


def anchored(
    position_m: Floats, opening: Floats, image: CameraImage, rules: WaypointRules, source: Source, segment: str
) -> tuple[Floats, list[Anchor]]:
    """Return (T, 3) read positions shifted onto what the gripper closes around, and the shifts.

    Args:
        position_m: (T, 3) read positions in the base frame.
        opening: (T,) read gripper openings.
        image: RGB-D image of now, with `T_base_cam`.
        rules: say where the gripper closes.
        source: 'segment' for the mask of that name, 'depth' for what stands out of the surroundings.
        segment: its name.

    Raises:
        DataError: the image has no depth, no place, or no such segment.
    """
    anchors: list[Anchor] = []
    if opening[0] < CLOSED_AT_START:
        return position_m.copy(), anchors  # it holds something already: depth may be missing
    points = image.points_m()
    for frame, _ in grasp_spans(position_m, opening, rules):
        place = position_m[frame]
        if place[2] > table_m(points, place) + TALL_M:
            continue  # an empty hand may close in the air, to push with
        mask = image.mask(segment) if source == "segment" else standing_out(points, place)
        shift = shift_onto(points, mask, place, image)
        if shift is not None:
            anchors.append(Anchor(frame, shift))
    return shifted(position_m, anchors), anchors


def shifted(position_m: Floats, anchors: Iterable[Anchor]) -> Floats:
    """Return (T, 3) positions moved by each anchor: near its closing by the whole shift, far from it not at all."""
    moved = position_m.copy()
    for anchor in anchors:
        moved = moved + nearness(position_m, anchor.frame)[:, None] * anchor.shift_m
    return moved


def nearness(position_m: Floats, frame: int) -> Floats:
    """Return how much of a shift of the closing at `frame` each of (T, 3) positions takes part in, (T,) 0..1."""
    level = np.linalg.norm(position_m[:, :2] - position_m[frame, :2], axis=1)
    share: Floats = np.clip((FAR_M - level) / (FAR_M - NEAR_M), 0.0, 1.0)
    return share


def grasp_spans(position_m: Floats, opening: Floats, rules: WaypointRules) -> list[tuple[int, int]]:
    """Return frames (closing, opening or end) of every grasp that takes something along, in order.

    Imagined fingers close a little where a press ends, too; nothing is taken along then.
    """
    if opening[0] < CLOSED_AT_START:
        return []  # it holds something already
    closing, releasing = frames_of_change(position_m, opening, rules)
    end = len(position_m) - 1
    spans = [(f, min((r for r in releasing if r > f), default=end)) for f in sorted(closing)]
    return [(f, until) for f, until in spans if takes_along(position_m[f : until + 1])]


def takes_along(way_m: Floats) -> bool:
    """Return whether the way (T, 3) from a closing of the gripper to its opening, or the end, takes a thing along."""
    off = way_m - way_m[0]
    return bool(off[:, 2].max() >= LIFTS_M or np.linalg.norm(off[:, :2], axis=1).max() >= DRAGS_M)


def standing_out(points_m: Floats, place_m: Floats) -> Bools:
    """Return the (H, W) mask of the one thing that stands out of the table nearest to a place."""
    import cv2

    level = np.linalg.norm(points_m[..., :2] - place_m[:2], axis=-1)
    around = (level < REACH_M) & (points_m[..., 2] < TALL_M)
    if not around.any():
        return np.zeros(level.shape, dtype=bool)
    above = points_m[..., 2] - table_m(points_m, place_m)
    out = around & (above > STANDS_OUT_M) & (above < TALL_M)
    count, labels = cv2.connectedComponents(out.astype(np.uint8), connectivity=8)
    empty = ((level < SEEN_M) & (np.abs(above) < STANDS_OUT_M)).sum() >= FEW
    best, found = REACH_M if empty else HIDDEN_REACH_M, np.zeros(level.shape, dtype=bool)
    for label in range(1, count):
        part = labels == label
        near = float(level[part].min())
        if part.sum() >= FEW and near < best:
            best, found = near, part
    return found


def table_m(points_m: Floats, place_m: Floats) -> float:
    """Return the height that most points around a place have, to 5 mm: that of what everything stands on."""
    around = np.linalg.norm(points_m[..., :2] - place_m[:2], axis=-1) < REACH_M
    height = points_m[around, 2]
    if not len(height):
        return -np.inf
    bins = np.floor(height / BIN_M).astype(np.int64)
    values, counts = np.unique(bins, return_counts=True)
    return float(np.median(height[bins == values[counts.argmax()]]))


def shift_onto(points_m: Floats, mask: Bools, place_m: Floats, image: CameraImage) -> Floats | None:
    """Return the level shift (3,) from a place onto the middle of a thing; None where it does not show or is far off.

    Only the side towards the camera is seen; the middle lies behind it. Along a bar the place may be
    anywhere between its ends: where to hold it is the plan's choice.
    """
    seen = mask & np.isfinite(points_m).all(axis=-1)
    if seen.sum() < FEW or image.T_base_cam is None:
        return None
    axis, length = _bar(points_m[seen][:, :2])
    if length > 0:
        along = (points_m[..., :2] - place_m[:2]) @ axis
        inside = float(np.clip(0.0, *(np.nanpercentile(along[seen], (5, 95)) + np.array([BAR_END_M, -BAR_END_M]))))
        seen &= np.abs(along - inside) < GRIP_M
        if seen.sum() < FEW:
            return None
    centre = np.median(points_m[seen], axis=0)
    ray = centre - image.T_base_cam[:3, 3]
    ray /= np.linalg.norm(ray)
    behind = 1.0 if length > 0 else BEHIND
    off = (centre + behind * half_width_m(seen, centre, image) * ray)[:2] - place_m[:2]
    if length > 0:
        off = off - (off @ axis - np.clip(inside, -GRIP_M, GRIP_M)) * axis
    shift = np.array([off[0], off[1], 0.0])
    return shift if float(np.linalg.norm(shift)) <= REACH_M else None


def _bar(level_m: Floats) -> tuple[Floats, float]:
    """Return the direction (2,) and the length [m] of a bar, from (M, 2) points; length 0 for anything else."""
    along = level_m - level_m.mean(axis=0)
    _, axes = np.linalg.eigh(along.T @ along)
    width, length = (float(np.ptp(along @ axes[:, i])) for i in (0, 1))
    return axes[:, 1], length if length > LONG_M and length > LONG_RATIO * width else 0.0


def half_width_m(mask: Bools, centre_m: Floats, image: CameraImage) -> float:
    """Return half the width of a mask across its thinner direction, at the depth of the thing [m]."""
    T = image.T_base_cam
    if T is None:
        raise DataError("anchor: expected T_base_cam, found a camera without it.", "Calibrate the camera to the arm.")
    rows, columns = np.nonzero(mask)
    spread = np.linalg.eigvalsh(np.cov(np.stack([columns, rows])) + np.eye(2) / 12)
    half_px = float(np.sqrt(max(spread[0], 1 / 12)) * 2.0)  # the edge of a disc lies at two standard deviations
    depth = float((centre_m - T[:3, 3]) @ T[:3, 2])
    return half_px * depth / float(image.K[0, 0])
