"""How high things stand, so that the hand travels over them and comes down where there is room."""

from __future__ import annotations

import numpy as np

from cascade.contracts import CameraImage
from flowact.rigid import Bools, Floats


class Surroundings:
    """Points of the scene without the robot (M, 3), as one depth image saw them.

    Args:
        image: RGB-D image with a calibrated camera.
        without: (H, W) pixels that do not count, such as the robot's.
    """

    def __init__(self, image: CameraImage, without: Bools) -> None:
        points = image.points_m()
        keep = np.isfinite(points).all(axis=-1) & ~without
        self.points_m: Floats = points[keep]

    def top_along(self, start_m: Floats, end_m: Floats, radius_m: float) -> float:
        """Return the height of the tallest thing within `radius_m` of the ground line from start to end, or -inf."""
        a, b = start_m[:2], end_m[:2]
        line = b - a
        length = float(line @ line)
        share = np.clip((self.points_m[:, :2] - a) @ line / length, 0.0, 1.0) if length > 1e-9 else 0.0
        nearest = a + np.outer(share, line) if length > 1e-9 else np.broadcast_to(a, (len(self.points_m), 2))
        close = np.linalg.norm(self.points_m[:, :2] - nearest, axis=1) < radius_m
        return float(self.points_m[close, 2].max()) if close.any() else -np.inf


def travel(
    here_m: Floats, goal_m: Floats, around: Surroundings, *, clearance_m: float, radius_m: float
) -> list[Floats]:
    """Return the corners of a way over everything in between: up, across, down to the goal.

    A way that is free already at the lower of the two ends' heights is not raised further than needed.
    """
    top = around.top_along(here_m, goal_m, radius_m) + clearance_m
    height = max(float(goal_m[2]), min(top, max(float(here_m[2]), top)))
    over = np.array([goal_m[0], goal_m[1], height])
    corners = []
    if height > here_m[2] + 0.01:
        corners.append(np.array([here_m[0], here_m[1], height]))
    corners.append(over)
    if height > goal_m[2] + 0.005:
        corners.append(goal_m.copy())
    return corners
