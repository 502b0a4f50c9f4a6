"""Joint setpoints that keep the joints' own limits, for devices that take joints.

Inverse kinematics turns the Cartesian motion into joint positions. These are taken when their differences (speed,
acceleration, jerk, as they go on the wire) keep the limits, and when a stop of all joints from there keeps the limits
of position and leaves the end effector inside the region. Else that stop goes on which was found the cycle before, and
Cartesian motion begins anew where the arm came to rest, slower. Before it comes to that, motion slows down as joints
come near their limits or the arm near a singularity.

Why a stop joins the past without a jump: the parabola through the last three setpoints has their differences as its
acceleration, so history followed by a jerk-limited stop is one curve with limited jerk, and so are its differences.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ConfigError, JointLimits, Limits
from cascade.contracts.driver import DriverInfo
from robot_io.process.braking import Vector
from robot_io.process.kinematics import SIGMA_DAMPED, Kinematics
from robot_io.process.mover import Mover, Pose
from robot_io.process.quaternions import Quaternion
from robot_io.process.region import Region

Floats = NDArray[np.float64]

_NEAR, _FAR = 0.75, 0.5  # shares of a joint limit at which motion slows down, and recovers
_SLOWER, _FASTER, _SLOWEST = 0.85, 1.02, 0.05
_LAG_M, _LAG_RAD = 0.005, 0.1
_STILL_RAD = 1e-8
_SLACK_RAD = 1e-9  # rounding


def joint_limits(limits: Limits, info: DriverInfo) -> JointLimits:
    """Limits of the joints: those of the rig or the vendor's with a margin, and never looser than the vendor's.

    Raises:
        ConfigError: the rig limits another number of joints than the device has.
    """
    vendor = info.joint_limits
    if limits.joints is None:
        return vendor.tightened()
    own = limits.joints
    if len(own.lower_rad) != len(vendor.lower_rad):
        raise ConfigError(
            f"limits.joints: expected {len(vendor.lower_rad)} joints, found {len(own.lower_rad)}.",
            f"State one limit for each of: {', '.join(info.joint_names)}.",
        )
    return JointLimits(
        lower_rad=np.maximum(own.lower_rad, vendor.lower_rad),
        upper_rad=np.minimum(own.upper_rad, vendor.upper_rad),
        max_speed_rad_s=np.minimum(own.max_speed_rad_s, vendor.max_speed_rad_s),
        max_acceleration_rad_s2=np.minimum(own.max_acceleration_rad_s2, vendor.max_acceleration_rad_s2),
        max_jerk_rad_s3=np.minimum(own.max_jerk_rad_s3, vendor.max_jerk_rad_s3),
    )


class JointLimiter:
    """The joints on their way: `reset`, then one `step` per cycle.

    Attributes:
        q: (J,) last setpoint [rad].
        position, orientation: of the end effector there.
    """

    def __init__(self, bounds: JointLimits, kinematics: Kinematics, region: Region, period_s: float) -> None:
        import ruckig

        count = kinematics.joints
        if len(bounds.lower_rad) != count:
            raise ConfigError(f"joint limits: the model has {count} joints, the device {len(bounds.lower_rad)}.")
        self._bounds, self._kinematics, self.region, self._period_s = bounds, kinematics, region, period_s
        self._most = np.stack([bounds.max_speed_rad_s, bounds.max_acceleration_rad_s2, bounds.max_jerk_rad_s3])
        self._ruckig = ruckig.Ruckig(count)
        self._working = (ruckig.Result.Working, ruckig.Result.Finished)
        self._failures = (ruckig.RuckigError, RuntimeError, ValueError)
        self._input = ruckig.InputParameter(count)
        self._input.control_interface = ruckig.ControlInterface.Velocity
        self._input.synchronization = ruckig.Synchronization.No
        self._input.target_velocity = [0.0] * count
        self._input.max_velocity = bounds.max_speed_rad_s.tolist()
        self._input.max_acceleration = bounds.max_acceleration_rad_s2.tolist()
        self._input.max_jerk = bounds.max_jerk_rad_s3.tolist()
        self._trajectory, self._stop = ruckig.Trajectory(count), ruckig.Trajectory(count)
        self.reset(kinematics.arm.rest_q)

    def reset(self, q: Floats) -> Floats:
        """Begin at rest at joint positions (J,); return the pose (4, 4) there.

        Joints outside their limits stay where they are; they can then move inwards only.
        """
        self.q = np.array(q, dtype=np.float64)
        self._differences = np.zeros((3, len(self.q)))  # speed, acceleration, jerk
        self._low, self._high = self._bounds.lower_rad, self._bounds.upper_rad
        self._free_ends()
        self._stopping = False
        self._stop_s: float | None = None  # time since a known stop began; None: at rest
        self.slow = 1.0
        self.orientation: Quaternion = (1.0, 0.0, 0.0, 0.0)
        self._show(self._kinematics.pose(self.q))
        return self._kinematics.forward(self.q)

    def _free_ends(self) -> None:
        self._low = np.minimum(self._bounds.lower_rad, self.q)
        self._high = np.maximum(self._bounds.upper_rad, self.q)
        self._outside = bool((self._low < self._bounds.lower_rad).any() or (self._high > self._bounds.upper_rad).any())
        self._solving = JointLimits(
            lower_rad=self._low,
            upper_rad=self._high,
            max_speed_rad_s=self._bounds.max_speed_rad_s,
            max_acceleration_rad_s2=self._bounds.max_acceleration_rad_s2,
            max_jerk_rad_s3=self._bounds.max_jerk_rad_s3,
        )

    def _show(self, pose: list[float]) -> None:
        """Note where the end effector is, the quaternion in the same half of the sphere as before."""
        x, y, z, qw, qx, qy, qz = pose
        before = self.orientation
        flip = -1.0 if qw * before[0] + qx * before[1] + qy * before[2] + qz * before[3] < 0 else 1.0
        self.position: Vector = (x, y, z)
        self.orientation = (qw * flip, qx * flip, qy * flip, qz * flip)

    def step(self, mover: Mover, goal: Pose | None, scale: float) -> tuple[tuple[str, ...], Floats]:
        """Go on by one period; return what held the motion back, and the joint positions (J,)."""
        if self._stopping:
            self._brake(mover)
            return ("joints",), self.q
        held = mover.step(goal, scale, self.slow)
        wanted = self._kinematics.solve_step(self.q, _matrix(mover), self._period_s, self._solving)[0]
        error = self._kinematics.error[3:]
        if mover.still and float(np.abs(wanted - self.q).max()) < _STILL_RAD:
            wanted = self.q
            if not self._differences.any():
                return held, self.q
        sigma = self._kinematics.sigma
        if sigma < SIGMA_DAMPED:
            held, self.slow = (*held, "singular"), min(self.slow, max(sigma / SIGMA_DAMPED, 0.1))
        refusal = self._refusal(wanted, mover.place.x)
        if not refusal and self._kinematics.tracks_rotation and float(error @ error) > _LAG_RAD**2:
            refusal = "reach"
        if refusal:
            self._stopping, self.slow = True, max(self.slow / 2, _SLOWEST)
            self._brake(mover)
            return (*held, refusal), self.q
        return held, self.q

    def _refusal(self, wanted: Floats, place: Vector) -> str:
        """Take the joint positions, or say why not."""
        differences = self._differ(wanted)
        nearest = float((np.abs(differences) / self._most).max())
        if nearest > 1.0:
            return "joints"
        acceleration = differences[1]
        speed = differences[0] + acceleration * (
            self._period_s / 2
        )  # of the parabola through the last three, at its end
        rising = acceleration * np.abs(acceleration) / (2 * self._most[2])
        if bool((np.abs(speed + rising) > self._most[0]).any()):
            return "joints"
        given = self._input
        given.current_position, given.current_velocity = wanted.tolist(), speed.tolist()
        given.current_acceleration = acceleration.tolist()
        try:
            if self._ruckig.calculate(given, self._trajectory) not in self._working:
                return "joints"
        except self._failures:  # rounding
            return "joints"
        end = np.array(self._trajectory.at_time(self._trajectory.duration)[0])
        # A joint whose speed changes sign turns while its acceleration goes to zero; any other goes straight there.
        turns = speed * (speed + rising) < 0
        beyond = np.where(turns, np.abs(speed * acceleration) / self._most[2], 0.0)
        low, high = np.minimum(wanted, end) - beyond, np.maximum(wanted, end) + beyond
        if bool((low < self._low - _SLACK_RAD).any() or (high > self._high + _SLACK_RAD).any()):
            return "joints"
        way_m = float((high - low).sum()) * self._kinematics.reach_m
        # On its way to rest a joint is never faster than now, or than when its acceleration has gone to zero.
        peak_m_s = float(np.maximum(np.abs(speed), np.abs(speed + rising)).sum()) * self._kinematics.reach_m
        pose = self._kinematics.pose(wanted)
        if math.dist(pose[:3], place) > _LAG_M:
            return "reach"
        if not self._stays_inside((pose[0], pose[1], pose[2]), way_m, peak_m_s):
            return "region"
        self._show(pose)
        self._take(wanted, differences, nearest)
        return ""

    def _differ(self, q: Floats) -> Floats:
        """(3, J) speed, acceleration and jerk of a next setpoint, from the ones before."""
        differences = np.empty_like(self._differences)
        np.subtract(q, self.q, out=differences[0])
        differences[0] /= self._period_s
        differences[1] = (differences[0] - self._differences[0]) / self._period_s
        differences[2] = (differences[1] - self._differences[1]) / self._period_s
        return differences

    def _stays_inside(self, position: Vector, way_m: float, peak_m_s: float) -> bool:
        """Whether every setpoint of a stop is in the region, in which the end effector goes `way_m` at most.

        At `peak_m_s` at most, so the farther from walls it is, the later it need be looked at again.
        """
        stop, looked_s = self._trajectory, 0.0
        if self.region.distance_m(position) > way_m:
            return True
        while self.region.allows(position):
            if looked_s >= stop.duration:
                return True
            cycles = self.region.distance_m(position) // (peak_m_s * self._period_s) if peak_m_s > 0 else 0.0
            looked_s = min(looked_s + max(cycles, 1.0) * self._period_s, stop.duration)
            x, y, z = self._kinematics.position(np.array(stop.at_time(looked_s)[0]))
            position = (x, y, z)
        return False

    def _take(self, q: Floats, differences: Floats, nearest: float) -> None:
        self.q, self._differences = q, differences
        self._trajectory, self._stop = self._stop, self._trajectory
        self._stop_s = 0.0
        if nearest > _NEAR:
            self.slow = max(self.slow * _SLOWER, _SLOWEST)
        elif nearest < _FAR:
            self.slow = min(self.slow * _FASTER, 1.0)
        self._narrow()

    def _narrow(self) -> None:
        if self._outside:
            self._free_ends()

    def _brake(self, mover: Mover) -> None:
        """Go on with the stop that is known to be safe; at rest, Cartesian motion begins anew from here."""
        q, done = self.q, self._stop_s is None
        if self._stop_s is not None:
            self._stop_s += self._period_s
            duration = self._stop.duration
            q = np.array(self._stop.at_time(min(self._stop_s, duration))[0])
            if self._stop_s >= duration:
                self._stop_s = None
        self._differences = self._differ(q)
        self.q = q
        self._show(self._kinematics.pose(q))
        self._narrow()
        if done:
            mover.reset(self.position, self.orientation)
            self._stopping = bool(self._differences.any())


def _matrix(mover: Mover) -> Floats:
    w, x, y, z = mover.orientation
    px, py, pz = mover.place.x
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), px],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x), py],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y), pz],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
