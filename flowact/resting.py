"""Depth of where a carried object ends: a little before what was seen there when the plan was made.

A single view without depth leaves open how far away a thing ends that is carried through the image. But it ends at
something: on a shelf, in a hoop, around a peg. What the first depth image saw at the pixels that the object covers in
the last frame is behind it, and not by much: with its middle some centimetres above what it is put on, and a camera
that looks down at a slant, about twice as much along the view ray.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import CameraImage, ImageTransform
from flowact.rigid import Bools, Floats
from flowact.scene import base_pose, to_camera_mask

BEFORE_M = 0.125  # from the middle of a thing at rest along the view ray to what is behind it
LEAST_PIXELS = 3
CHANGED = 24.0  # of 255; less is what the picture shows where nothing has come


class EndDepth(Protocol):
    """Says how far away a carried object probably ends."""

    def at(self, shift_px: Floats) -> float | None:
        """Return the z-depth [m] of an object whose pixels have moved by (2,) plan pixels, None if unknown."""
        ...


class Background:
    """What the first depth image saw where a plan's last frame shows something else.

    Args:
        image: RGB-D image that the plan was made from.
        frames: (T, h, w, 3) uint8 of the plan.
        transform: from camera to plan pixels.
        mask: (H, W) the object's camera pixels.
        robot: (H, W) the robot's.
    """

    def __init__(
        self, image: CameraImage, frames: NDArray[np.uint8], transform: ImageTransform, mask: Bools, robot: Bools
    ) -> None:
        T = base_pose(image)
        depth = (image.points_m() - T[:3, 3]) @ T[:3, 2]
        change = np.abs(frames[-1].astype(np.float32) - frames[0].astype(np.float32)).max(axis=-1)
        covered = to_camera_mask(np.asarray(change > CHANGED), transform, *depth.shape)
        self._depth_m = np.where(covered & ~mask & ~robot, depth, np.nan)
        self._rows, self._columns = np.nonzero(mask)
        self._scale = np.asarray(transform.scale, np.float64)

    def at(self, shift_px: Floats) -> float | None:
        """Return the z-depth [m] of an object whose pixels have moved by (2,) plan pixels, None if unknown."""
        du, dv = np.round(shift_px / self._scale).astype(int)
        rows, columns = self._rows + dv, self._columns + du
        height, width = self._depth_m.shape
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        behind = self._depth_m[rows[inside], columns[inside]]
        behind = behind[np.isfinite(behind)]
        return float(np.median(behind)) - BEFORE_M if len(behind) >= LEAST_PIXELS else None
