"""Where the end effector may be: inside a box, outside other boxes, with the tool's sphere around it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Limits

Floats = NDArray[np.float64]
Vector = tuple[float, float, float]
Box = tuple[Vector, Vector]
SLACK_M = 1e-9  # rounding


class Region:
    """The places the middle of the tool's sphere may be: the walls moved inwards by its radius, keep-outs outwards.

    Keep-outs grow as boxes, not with rounded edges: a little too careful at edges and corners.

    Args:
        limits: of the rig; inset_m: how much farther than they say from walls and keep-outs.

    Attributes:
        low, high: corners of the box that is left.
        keep_outs: boxes to stay out of, grown.
    """

    def __init__(self, limits: Limits, inset_m: float = 0.0) -> None:
        r = limits.tool_radius_m + inset_m
        self.low, self.high = _vector(limits.workspace_m[0] + r), _vector(limits.workspace_m[1] - r)
        self.keep_outs: tuple[Box, ...] = tuple(
            (_vector(box[0] - r), _vector(box[1] + r)) for box in limits.keep_outs_m
        )
        self.margin_m = limits.margin_m
        self._walls, self._keep_outs = (self.low, self.high), self.keep_outs

    def restore(self) -> None:
        """Put walls and keep-outs back where the limits have them."""
        (self.low, self.high), self.keep_outs = self._walls, self._keep_outs

    def widen(self, p: Vector) -> None:
        """Move the walls so that a point is inside: an arm that stands a little outside can then move inwards only."""
        (a, b, c), (d, e, f) = self._walls
        self.low = (min(a, p[0]), min(b, p[1]), min(c, p[2]))
        self.high = (max(d, p[0]), max(e, p[1]), max(f, p[2]))

    def narrow(self, p: Vector) -> None:
        """Take moved walls back as far as a point allows; never out again."""
        if (self.low, self.high) != self._walls:
            low, high = self.low, self.high
            self.widen(p)
            self.low = (max(low[0], self.low[0]), max(low[1], self.low[1]), max(low[2], self.low[2]))
            self.high = (min(high[0], self.high[0]), min(high[1], self.high[1]), min(high[2], self.high[2]))

    def inside(self, p: Vector, slack: float = SLACK_M) -> bool:
        """Whether a point is inside the walls."""
        low, high = self.low, self.high
        return (
            low[0] - slack <= p[0] <= high[0] + slack
            and low[1] - slack <= p[1] <= high[1] + slack
            and low[2] - slack <= p[2] <= high[2] + slack
        )

    def in_keep_out(self, p: Vector) -> bool:
        """Whether a point is inside a keep-out."""
        return any(all(low[i] < p[i] < high[i] for i in range(3)) for low, high in self.keep_outs)

    def allows(self, p: Vector) -> bool:
        """Whether a point is inside the walls and outside every keep-out."""
        return self.inside(p) and not self.in_keep_out(p)

    def clear(self, a: Vector, b: Vector, radius_m: float = 0.0) -> bool:
        """Whether the segment a-b, `radius_m` thick, stays out of every keep-out."""
        return not any(crosses(a, b, low, high, radius_m) for low, high in self.keep_outs)

    def clamped(self, p: Vector, inset_m: float = 0.0) -> Vector:
        """Nearest point inside the walls, `inset_m` from them at least where there is room."""
        x, y, z = (
            min(max(p[i], min(self.low[i] + inset_m, middle)), max(self.high[i] - inset_m, middle))
            for i, middle in enumerate((lo + hi) / 2 for lo, hi in zip(self.low, self.high, strict=True))
        )
        return x, y, z

    def distance_m(self, p: Vector) -> float:
        """Distance to the nearest wall or keep-out; negative beyond it."""
        near = min(min(p[i] - self.low[i], self.high[i] - p[i]) for i in range(3))
        for low, high in self.keep_outs:
            gaps = [max(low[i] - p[i], p[i] - high[i]) for i in range(3)]
            outside = math.sqrt(sum(max(gap, 0.0) ** 2 for gap in gaps))
            near = min(near, outside if outside > 0 else max(gaps))
        return near


def crosses(a: Vector, b: Vector, low: Vector, high: Vector, radius: float = 0.0) -> bool:
    """Whether the segment a-b enters the open box low-high grown by `radius` (the slab test of Kay and Kajiya 1986)."""
    first, last = 0.0, 1.0
    for i in range(3):
        lo, hi, way = low[i] - radius, high[i] + radius, b[i] - a[i]
        if abs(way) < 1e-12:
            if not lo < a[i] < hi:
                return False
            continue
        near, far = (lo - a[i]) / way, (hi - a[i]) / way
        if near > far:
            near, far = far, near
        first, last = max(first, near), min(last, far)
        if first >= last:
            return False
    return True


def _vector(values: Floats) -> Vector:
    x, y, z = values.tolist()
    return x, y, z
