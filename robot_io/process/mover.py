"""Moves a pose towards a target inside all Cartesian limits; from every state there is a stop that is known to be safe.

Positions and rotations are each a point in three dimensions with a speed, an acceleration and a jerk whose *norms* are
limited. A rotation is counted as the sum of the small rotation vectors, in base axes, from setpoint to setpoint: its
differences are exactly what goes on the wire. Ruckig (Berscheid and Kröger 2021) proposes, with limits per axis whose
norm is the limit; a proposal is taken when a whole stop from there keeps every limit and stays inside the region. Else
the stop that was found the cycle before goes on. So, by induction, nothing ever leaves the limits, whatever comes.
"""

from __future__ import annotations

import math

from cascade.contracts import Limits
from robot_io.process.braking import ZERO, Stop, Vector, add, norm
from robot_io.process.quaternions import Quaternion, between, turned
from robot_io.process.region import Region

STOP_ACCELERATION, STOP_JERK = 2.5, 50.0
STOP_ANGULAR_ACCELERATION, STOP_ANGULAR_JERK = 6.0, 120.0
_SHARE = 0.95  # of acceleration and jerk in a proposal, so that a stop is always the stronger
_SPEED_SHARE = 0.99
_SPREAD = 0.25  # what an axis across the way gets, relative to the one along it
_ROOMS = (1.0, 1.002)  # speed and acceleration limits of a plan, and of a second try
_PATIENCE = 5  # cycles between plans for the same target, and after a refusal
_SLOWEST = 0.2  # share of the speed right at a wall
_CALMEST = 0.3  # share of acceleration and jerk that is left however slow it is, to get slow
_ROUNDING = 1 + 1e-9
_THERE_M = _THERE_RAD = 1e-9

Pose = tuple[Vector, Quaternion]


class Track:
    """One point with its limits, its state, and the stop that is known to be safe from there."""

    def __init__(self, speed: float, acceleration: float, jerk: float, region: Region | None) -> None:
        self.speed, self.acceleration, self.jerk, self.region = speed, acceleration, jerk, region
        self.rest(ZERO)

    def rest(self, x: Vector) -> None:
        """Stand still at x."""
        self.x, self.v, self.a = x, ZERO, ZERO
        self._stop: Stop | None = None
        self._time = 0.0
        self._gentle = False

    @property
    def still(self) -> bool:
        """Whether it stands."""
        return self.v == ZERO and self.a == ZERO

    @property
    def rest_place(self) -> Vector:
        """Where a stop from here ends."""
        return self.x if self._stop is None else self._stop.end

    def offer(self, x: Vector, v: Vector, a: Vector) -> bool:
        """Go on to a proposed state if a stop from there is safe; return whether it was."""
        if norm(v) > self.speed * _ROUNDING or norm(a) > self.acceleration * _ROUNDING:
            return False
        stop = Stop(x, v, a, self.acceleration, self.jerk)
        if not self._safe(stop):
            return False
        self.x, self.v, self.a = x, v, a
        self._stop, self._time, self._gentle = stop, 0.0, False
        return True

    def brake(self, period_s: float) -> None:
        """Go on with the stop that is known to be safe."""
        if self._stop is None:
            return
        self._time += period_s
        self.x, self.v, self.a = self._stop.at(self._time)
        if self._time >= self._stop.duration:
            self.rest(self.x)

    def be_gentle(self, acceleration: float, jerk: float) -> None:
        """From now on brake with less than the limits, if there is room for it."""
        if self._gentle or self.still or (self.acceleration <= acceleration and self.jerk <= jerk):
            return
        self._gentle = True
        stop = Stop(self.x, self.v, self.a, min(acceleration, self.acceleration), min(jerk, self.jerk))
        if self._safe(stop):
            self._stop, self._time = stop, 0.0

    def _safe(self, stop: Stop) -> bool:
        if stop.peak > self.speed * _ROUNDING:
            return False
        region = self.region
        if region is None:
            return True
        p0, p1, p2, p3 = stop.bend
        inside = region.inside
        if not (inside(stop.end) and inside(p0) and inside(p1) and inside(p2) and inside(p3)):
            return False
        if not region.keep_outs:
            return True
        # The curve is within its control points' distance from the chord.
        way = add(p3, p0, -1.0)
        third = add(p0, way, 1 / 3)
        thick = max(norm(add(p1, third, -1.0)), norm(add(p2, add(third, way, 1 / 3), -1.0)))
        return region.clear(p0, p3, thick) and region.clear(p3, stop.end)


class Mover:
    """The pose on its way: `reset`, then one `step` per cycle."""

    def __init__(self, limits: Limits, region: Region, period_s: float) -> None:
        import ruckig

        self.region = region
        self._period_s = period_s
        self.place = Track(limits.max_speed_m_s, limits.max_acceleration_m_s2, limits.max_jerk_m_s3, self.region)
        self.turn = Track(
            limits.max_angular_speed_rad_s,
            limits.max_angular_acceleration_rad_s2,
            limits.max_angular_jerk_rad_s3,
            None,
        )
        self._ruckig = ruckig.Ruckig(6)
        self._input = ruckig.InputParameter(6)
        self._input.synchronization = ruckig.Synchronization.Phase
        self._trajectory = ruckig.Trajectory(6)
        self._working = (ruckig.Result.Working, ruckig.Result.Finished)
        self._failures = (ruckig.RuckigError, RuntimeError, ValueError)  # the last: a result that Python does not know
        self.orientation: Quaternion = (1.0, 0.0, 0.0, 0.0)
        self._forget()

    def _forget(self) -> None:
        self._goal: Pose | None = None
        self._end: tuple[Vector, Vector] = (ZERO, ZERO)
        self._time = self._duration = 0.0
        self._planned = False
        self._age = self._wait = 0
        self._scale = 1.0

    def reset(self, position: Vector, orientation: Quaternion) -> None:
        """Stand still at a pose."""
        self.place.rest(position)
        self.turn.rest(ZERO)
        self.orientation = orientation
        self._forget()

    @property
    def still(self) -> bool:
        """Whether it stands."""
        return self.place.still and self.turn.still

    def step(self, goal: Pose | None, scale: float, slow: float = 1.0) -> tuple[str, ...]:
        """Go on by one period towards a goal, or brake; return what held it back.

        Args:
            goal: position inside the region and orientation, or None to come to rest.
            scale: share of the speeds, 0..1.
            slow: share of the speeds, and down to a third of acceleration and jerk too.
        """
        before = self.turn.x
        held = self._brake() if goal is None or scale <= 0 or slow <= 0 else self._follow(goal, scale, slow)
        if self.turn.x != before:
            self.orientation = turned(self.orientation, add(self.turn.x, before, -1.0))
        return held

    def _brake(self) -> tuple[str, ...]:
        self._planned, self._goal = False, None
        self.place.be_gentle(STOP_ACCELERATION, STOP_JERK)
        self.turn.be_gentle(STOP_ANGULAR_ACCELERATION, STOP_ANGULAR_JERK)
        self.place.brake(self._period_s)
        self.turn.brake(self._period_s)
        return ()

    def _follow(self, goal: Pose, scale: float, slow: float) -> tuple[str, ...]:
        held: tuple[str, ...] = ()
        self._age += 1
        left = self._duration - self._time
        if (
            not self._planned
            or goal != self._goal
            or (self._age >= _PATIENCE and left > _PATIENCE * self._period_s)
            or left <= 0
        ):
            if self.still and self._there(goal):
                self._goal = goal
                return ()
            held = self._plan(goal, scale, slow)
        if not self._planned:
            self.place.brake(self._period_s)
            self.turn.brake(self._period_s)
            return held
        self._time += self._period_s
        if self._time >= self._duration:
            x, v, a = (*self._end[0], *self._end[1]), (0.0,) * 6, (0.0,) * 6
        else:
            x, v, a = self._trajectory.at_time(self._time)
        if self._wait > 0:
            self._wait -= 1
            taken = False
        else:
            taken = self.place.offer((x[0], x[1], x[2]), (v[0], v[1], v[2]), (a[0], a[1], a[2]))
            self._wait = 0 if taken else _PATIENCE
        if not taken:
            self.place.brake(self._period_s)
            held = (*held, "region")
        turning = self.turn.offer((x[3], x[4], x[5]), (v[3], v[4], v[5]), (a[3], a[4], a[5]))
        if not turning:
            self.turn.brake(self._period_s)
            held = (*held, "turn")
        self._planned = taken and turning
        return held

    def _there(self, goal: Pose) -> bool:
        return (
            norm(add(goal[0], self.place.x, -1.0)) < _THERE_M and norm(between(self.orientation, goal[1])) < _THERE_RAD
        )

    def _plan(self, goal: Pose, scale: float, slow: float) -> tuple[str, ...]:
        """Plan from the present state; `_planned` says whether there is a plan."""
        self._goal, self._planned, self._age, self._time = goal, False, 0, 0.0
        place, turn = self.place, self.turn
        if place.still and not self.region.clear(place.x, goal[0]):
            return ("keep_out",)
        held, near = self._near(goal[0])
        way, rotation = add(goal[0], place.x, -1.0), between(self.orientation, goal[1])
        speeds, accelerations, jerks = _limits(place, way, scale * near, slow)
        more = _limits(turn, rotation, scale * near, slow)
        self._end = (goal[0], add(turn.x, rotation))
        given = self._input
        given.current_position = [*place.x, *turn.x]
        given.current_velocity = [*place.v, *turn.v]
        given.current_acceleration = [*place.a, *turn.a]
        given.target_position = [*self._end[0], *self._end[1]]
        self._planned = self._solve(speeds + more[0], accelerations + more[1], jerks + more[2])
        self._duration = self._trajectory.duration if self._planned else 0.0
        return held if self._planned else (*held, "plan")

    def _solve(self, speeds: list[float], accelerations: list[float], jerks: list[float]) -> bool:
        """Have ruckig plan; False when it finds no profile, from which the way out is to brake and plan from there.

        Rounding makes it fail now and then where the present speed equals its limit. A little more room helps, and
        there is some: a proposal asks for less than the limits.
        """
        given = self._input
        given.max_jerk = jerks
        for room in _ROOMS:
            given.max_velocity = [speed * room for speed in speeds]
            given.max_acceleration = [acceleration * room for acceleration in accelerations]
            try:
                if self._ruckig.calculate(given, self._trajectory) in self._working:
                    return True
            except self._failures:
                continue
        return False

    def _near(self, goal: Vector) -> tuple[tuple[str, ...], float]:
        """Share of the speed where a stop from here ends this close to a wall; going away is not slowed down."""
        margin = self.region.margin_m
        if margin <= 0:
            return (), 1.0
        here = self.region.distance_m(self.place.rest_place)
        if here >= margin or self.region.distance_m(goal) > here:
            return (), 1.0
        return ("margin",), max(here / margin, _SLOWEST)


def _limits(track: Track, way: Vector, scale: float, slow: float) -> tuple[list[float], list[float], list[float]]:
    """Limits per axis of speed, acceleration and jerk whose norms are the limits, most of them along the way."""
    length = norm(way)
    shares = [max(abs(part) / length, _SPREAD) if length > 0 else 1.0 for part in way]
    total = math.sqrt(sum(share * share for share in shares))
    shares = [share / total for share in shares]
    calm = max(slow, _CALMEST)
    jerk = track.jerk * _SHARE * calm
    jerks = [max(jerk * share, 1e-9) for share in shares]
    peaks = [max(abs(v), abs(v + a * abs(a) / (2 * j))) for v, a, j in zip(track.v, track.a, jerks, strict=True)]
    speed, acceleration = track.speed * _SPEED_SHARE * scale * slow, track.acceleration * _SHARE * calm
    return _around(peaks, speed, shares), _around([abs(a) for a in track.a], acceleration, shares), jerks


def _around(values: list[float], most: float, shares: list[float]) -> list[float]:
    """Half sides of a box of diagonal `most`: shared out as asked where the values fit in, else grown around them."""
    if all(value <= most * share for value, share in zip(values, shares, strict=True)):
        return [most * share for share in shares]
    squares = sum(value * value for value in values)
    spare, least = most * most - squares, 0.05 * most
    if spare > 0:
        grown = [value * value + share * share * spare for value, share in zip(values, shares, strict=True)]
        return [max(math.sqrt(square), least) for square in grown]
    shrink = most / math.sqrt(squares)  # faster than allowed by now: slow down without a turn
    return [max(value * shrink, least) for value in values]
