"""How a point in motion comes to rest in space, with the norms of acceleration and jerk limited.

The acceleration goes on a straight line from what it is to one that opposes the motion, stays, and goes back to zero
on a straight line. A ball is convex, so the acceleration never leaves its limit. The speed during the first part is a
quadratic Bezier curve and stays below the largest norm of its control points; the second part is a straight line
in space. So whole stops are checked by looking at a few points, without sampling.

Plain floats instead of arrays: for three numbers they are several times quicker.
"""

from __future__ import annotations

import math

Vector = tuple[float, float, float]
ZERO: Vector = (0.0, 0.0, 0.0)
_TIGHT = 1e-3  # a stop may take this share longer than the shortest of its kind
_ITERATIONS = 40


def norm(a: Vector) -> float:
    """Euclidean norm."""
    return math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])


def add(a: Vector, b: Vector, share: float = 1.0) -> Vector:
    """Return a + share * b."""
    return (a[0] + share * b[0], a[1] + share * b[1], a[2] + share * b[2])


def scaled(a: Vector, factor: float) -> Vector:
    """Return factor * a."""
    return (a[0] * factor, a[1] * factor, a[2] * factor)


def stop_distance_m(speed: float, acceleration: float, jerk: float) -> float:
    """Way of a stop from steady motion: v/2 * (v/a + a/j), or v * sqrt(v/j) when the acceleration limit is not reached.

    The same formula holds for rotations.
    """
    if speed * jerk <= acceleration * acceleration:
        return speed * math.sqrt(speed / jerk)
    return speed / 2 * (speed / acceleration + acceleration / jerk)


class Stop:
    """A stop from position p, velocity v, acceleration a; sampled by time since its beginning.

    Attributes:
        duration: until rest [s].
        peak: a bound of the speed on the way.
        bend: four control points of the first, curved part (a cubic Bezier curve).
        end: where it comes to rest; from `bend[3]` to here it goes straight.
    """

    __slots__ = ("_a0", "_a1", "_j1", "_j3", "_t1", "_t2", "_v0", "_v1", "bend", "duration", "end", "peak")

    def __init__(self, p: Vector, v: Vector, a: Vector, max_acceleration: float, max_jerk: float) -> None:
        t1, a1, hold, fall = _profile(v, a, max_acceleration, max_jerk)
        self._v0, self._a0, self._a1 = v, a, a1
        self._t1, self._t2, self.duration = t1, t1 + hold, t1 + hold + fall
        self._j1 = scaled(add(a1, a, -1.0), 1 / t1) if t1 > 0 else ZERO
        self._j3 = scaled(a1, -1 / fall) if fall > 0 else ZERO
        middle = add(v, a, t1 / 2)
        self._v1 = v1 = add(middle, a1, t1 / 2)
        self.peak = self._bound(v1)
        second = add(p, v, t1 / 3)
        third = add(second, middle, t1 / 3)
        fourth = add(third, v1, t1 / 3)
        self.bend = (p, second, third, fourth)
        # v1 = -a1 * (hold + fall / 2): the rest of the way, integrated.
        self.end = add(add(fourth, v1, hold + fall), a1, hold * hold / 2 + hold * fall + fall * fall / 3)

    def _bound(self, v1: Vector) -> float:
        """Bound of the speed: control points of the curve, cut where the acceleration is smallest to be close."""
        v, a, j, t1 = self._v0, self._a0, self._j1, self._t1
        square = j[0] * j[0] + j[1] * j[1] + j[2] * j[2]
        cut = -(a[0] * j[0] + a[1] * j[1] + a[2] * j[2]) / square if square > 0 else 0.0
        if not 0 < cut < t1:
            return max(norm(v), norm(add(v, a, t1 / 2)), norm(v1))
        smallest = add(a, j, cut)
        first = add(v, a, cut / 2)
        there = add(first, smallest, cut / 2)
        return max(norm(v), norm(first), norm(there), norm(add(there, smallest, (t1 - cut) / 2)), norm(v1))

    def at(self, t: float) -> tuple[Vector, Vector, Vector]:
        """Position, velocity and acceleration after t seconds; exactly at rest after `duration`."""
        if t >= self.duration:
            return self.end, ZERO, ZERO
        if t < self._t1:
            return _onwards(self.bend[0], self._v0, self._a0, self._j1, t)
        t -= self._t1
        hold = self._t2 - self._t1
        if t < hold:
            return _onwards(self.bend[3], self._v1, self._a1, ZERO, t)
        p, v, a = _onwards(self.bend[3], self._v1, self._a1, ZERO, hold)
        return _onwards(p, v, a, self._j3, t - hold)


def _onwards(p: Vector, v: Vector, a: Vector, j: Vector, t: float) -> tuple[Vector, Vector, Vector]:
    half, sixth = t * t / 2, t * t * t / 6
    return (
        (
            p[0] + v[0] * t + a[0] * half + j[0] * sixth,
            p[1] + v[1] * t + a[1] * half + j[1] * sixth,
            p[2] + v[2] * t + a[2] * half + j[2] * sixth,
        ),
        (v[0] + a[0] * t + j[0] * half, v[1] + a[1] * t + j[1] * half, v[2] + a[2] * t + j[2] * half),
        (a[0] + j[0] * t, a[1] + j[1] * t, a[2] + j[2] * t),
    )


def _profile(v: Vector, a: Vector, most: float, jerk: float) -> tuple[float, Vector, float, float]:
    """Return (time to the braking acceleration, that acceleration, time it is held, time back to zero).

    With t the first time, the speed left to brake away is b = v + a t / 2 and the braking acceleration opposes b; its
    size follows from t, and t from its distance to `a`. The excess of that distance over what t allows falls from
    above zero to below it, so a bracketing search finds t; every t with an excess of zero or less keeps the jerk limit.
    """
    start = norm(a)
    if start == 0.0 and norm(v) == 0.0:
        return 0.0, ZERO, 0.0, 0.0
    low, high = 0.0, (max(most, start) + start) / jerk
    excess_low, excess_high = _excess(0.0, v, a, most, jerk), _excess(high, v, a, most, jerk)
    if excess_low <= 0.0:
        high = 0.0
    for _ in range(_ITERATIONS):
        if high - low <= _TIGHT * high:
            break
        t = high - excess_high * (high - low) / (excess_high - excess_low) if excess_high < excess_low else high
        t = min(max(t + 0.25 * _TIGHT * high, low + 0.01 * (high - low)), high - 0.01 * (high - low))
        excess = _excess(t, v, a, most, jerk)
        if excess <= 0.0:
            high, excess_high = t, excess
            excess_low /= 2  # the Illinois rule, so that both ends move
            if excess > -_TIGHT * t:
                break
        else:
            low, excess_low = t, excess
            excess_high /= 2
    return _phases(high, v, a, most, jerk)


def _excess(t: float, v: Vector, a: Vector, most: float, jerk: float) -> float:
    half = t / 2
    ax, ay, az = a
    bx, by, bz = v[0] + ax * half, v[1] + ay * half, v[2] + az * half
    size = math.sqrt(bx * bx + by * by + bz * bz)
    if size == 0.0:
        return math.sqrt(ax * ax + ay * ay + az * az) / jerk - t
    brake = jerk * (math.sqrt(half * half + 2 * size / jerk) - half)
    share = (most if brake > most else brake) / size
    ax, ay, az = ax + bx * share, ay + by * share, az + bz * share
    return math.sqrt(ax * ax + ay * ay + az * az) / jerk - t


def _phases(t: float, v: Vector, a: Vector, most: float, jerk: float) -> tuple[float, Vector, float, float]:
    b = add(v, a, t / 2)
    size = norm(b)
    if size == 0.0:
        return t, ZERO, 0.0, 0.0
    brake, hold = jerk * (math.sqrt(t * t / 4 + 2 * size / jerk) - t / 2), 0.0
    if brake > most:
        brake = most
        hold = max(size / brake - t / 2 - brake / (2 * jerk), 0.0)
    return t, scaled(b, -brake / size), hold, brake / jerk
