"""Limits fuzz: targets of every bad kind through the checks and the limiter; no setpoint may leave its limits.

    python benchmarks/limits_fuzz.py --targets 1000000 --json

Targets wander, jump, come late, early and out of order, hold NaN or half a quaternion, lead through walls and
keep-outs, or stay away. A tenth goes past the checks, straight to the limiter. Half of them go to a device that takes
poses, half to a UR5e that takes joints; limits, keep-outs, tool and start differ from round to round. Every setpoint
that would go on the wire is measured: differences of consecutive ones over the period, divided by the limit, so that 1
is the limit itself. The command fails above 1.01, or when the end effector is more than a micrometre beyond a wall.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import JointLimits, Limits
from cascade.contracts.driver import DriverInfo, Takes
from robot_io.process.joint_limiter import joint_limits
from robot_io.process.kinematics import Kinematics
from robot_io.process.limiter import Limiter
from robot_io.process.models import arm_model
from robot_io.process.poses import pose_of
from robot_io.process.region import Region
from robot_io.process.targets import TargetChecks, TargetRules

Floats = NDArray[np.float64]
PERIOD_S = 0.008
ROUND = 10_000
ALLOWED, ALLOWED_M = 1.01, 1e-6
MODEL = "ur5e"


def device(takes: Takes) -> DriverInfo:
    """A UR5e that takes poses or joints."""
    model = arm_model(MODEL)
    return DriverInfo(
        name="fuzz",
        model=MODEL,
        joint_names=model.joint_names,
        takes=takes,
        rate_hz=1 / PERIOD_S,
        joint_limits=model.joint_limits,
        kinematics=MODEL,
        watchdog_s=None,
    )


def draw_limits(rng: np.random.Generator, start: Floats) -> Limits:
    """Limits with walls around a start pose (7,), now and then with keep-outs beside it and tight joints."""
    low = start[:3] - rng.uniform(0.06, 0.35, 3)
    high = start[:3] + rng.uniform(0.06, 0.35, 3)
    radius = rng.choice([0.0, 0.03])
    boxes = []
    for _ in range(rng.integers(0, 3)):
        side = rng.normal(size=3)
        middle = start[:3] + side / np.linalg.norm(side) * rng.uniform(0.15, 0.25)
        boxes.append(np.stack([middle - rng.uniform(0.01, 0.05, 3), middle + rng.uniform(0.01, 0.05, 3)]))
    clear = [box for box in boxes if np.any((start[:3] < box[0] - radius) | (start[:3] > box[1] + radius))]
    joints = None
    if rng.random() < 0.3:
        vendor = arm_model(MODEL).joint_limits
        joints = JointLimits(
            lower_rad=vendor.lower_rad,
            upper_rad=vendor.upper_rad,
            max_speed_rad_s=np.full(6, rng.uniform(0.2, 1.0)),
            max_acceleration_rad_s2=np.full(6, rng.uniform(1.0, 5.0)),
            max_jerk_rad_s3=np.full(6, rng.uniform(20.0, 200.0)),
        )
    return Limits(
        workspace_m=np.stack([low, high]),
        keep_outs_m=tuple(clear),
        tool_radius_m=radius,
        margin_m=rng.choice([0.0, 0.03]),
        max_speed_m_s=rng.uniform(0.05, 1.0),
        max_acceleration_m_s2=rng.uniform(0.5, 5.0),
        max_jerk_m_s3=rng.uniform(5.0, 100.0),
        max_angular_speed_rad_s=rng.uniform(0.2, 1.5),
        max_angular_acceleration_rad_s2=rng.uniform(1.0, 8.0),
        max_angular_jerk_rad_s3=rng.uniform(10.0, 200.0),
        max_step_m=rng.uniform(0.01, 0.2),
        max_rotation_rad=rng.uniform(0.05, 0.6),
        joints=joints,
    )


def draw_target(rng: np.random.Generator, last: Floats, limits: Limits) -> tuple[Floats, float]:
    """One target (any shape) near or far from the last (7,), and the age of what it is based on [s]."""
    kind = rng.random()
    far = 3.0 if kind > 0.9 else 0.6
    target = last.copy()
    target[:3] += rng.normal(size=3) * limits.max_step_m * far
    target[3:] += rng.normal(size=4) * limits.max_rotation_rad * far / 4
    target[3:] /= np.linalg.norm(target[3:])
    age = rng.uniform(0.0, 0.2)
    if kind < 0.02:
        target[rng.integers(7)] = rng.choice([np.nan, np.inf, -np.inf, 1e300])
    elif kind < 0.03:
        target[3:] *= rng.uniform(0.0, 2.0)
    elif kind < 0.04:
        target = target[: rng.integers(7)]
    elif kind < 0.06:
        age = rng.uniform(1.0, 10.0)
    elif kind < 0.08:
        age = -rng.uniform(0.05, 10.0)
    elif kind < 0.10:
        target[:3] = rng.uniform(limits.workspace_m[0] - 0.5, limits.workspace_m[1] + 0.5)
    return target, age


def play(takes: Takes, targets: int, seed: int) -> dict[str, Any]:
    """One round of one device with limits of its own: the worst ratios; an exception in it counts as a failure."""
    try:
        return _play(takes, targets, seed)
    except Exception as error:
        traceback.print_exc()
        worst = {f"{type(error).__name__}": math.inf}
        return {"takes": takes.value, "seed": seed, "setpoints": 0, "taken": 0, "worst": worst}


def _play(takes: Takes, targets: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    kinematics = Kinematics(MODEL)
    q = kinematics.arm.rest_q + rng.uniform(-0.6, 0.6, 6)
    T = kinematics.forward(q)
    limits, info = draw_limits(rng, pose_of(T)), device(takes)
    limiter = Limiter(limits, info, kinematics, PERIOD_S)
    checks = TargetChecks(limits, TargetRules(clamp=bool(rng.random() < 0.8)), kinematics)
    limiter.reset(T, q)
    setpoint = limiter.step(None)
    poses, joints, taken = [setpoint.pose], [setpoint.q], 0
    last, goal, now, scale = setpoint.pose, None, 100.0, 1.0
    for _ in range(targets):
        draw = rng.random()
        if draw < 0.01:
            goal = None
        else:
            target, age = draw_target(rng, last, limits)
            if draw < 0.1:
                goal = target
            else:
                ack = checks(target, None, now - age, now, last, setpoint.q)
                if ack.target is not None:
                    goal, taken = ack.target, taken + 1
                    last = goal
        if rng.random() < 0.005:
            scale = rng.choice([0.0, 0.1, 0.5, 1.0])
        if rng.random() < 0.05:
            last = setpoint.pose
        for _ in range(100 if draw > 0.9985 else int(rng.integers(1, 4))):
            setpoint = limiter.step(goal, scale)
            poses.append(setpoint.pose)
            joints.append(setpoint.q)
            now += PERIOD_S
    worst = place(np.array(poses), limits)
    if takes is Takes.POSE:
        worst |= cartesian(np.array(poses), limits)
    else:
        worst |= jointwise(np.array(joints), joint_limits(limits, info), kinematics, limits)
    return {"takes": takes.value, "seed": seed, "setpoints": len(poses), "taken": taken, "worst": worst}


def place(poses: Floats, limits: Limits) -> dict[str, float]:
    """How far the end effector was beyond a wall or inside a keep-out, at most [m]."""
    region = Region(limits)
    low, high, p = np.array(region.low), np.array(region.high), poses[:, :3]
    depth = {"wall_m": float(max((low - p).max(), (p - high).max(), 0.0)), "keep_out_m": 0.0}
    for corner, opposite in region.keep_outs:
        inside = np.minimum(p - np.array(corner), np.array(opposite) - p).min(axis=1)
        depth["keep_out_m"] = max(depth["keep_out_m"], float(inside.max()))
    return depth


def cartesian(poses: Floats, limits: Limits) -> dict[str, float]:
    """Worst ratios of the norms of speed, acceleration and jerk of positions and rotations."""
    found = ratios(
        np.diff(poses[:, :3], axis=0),
        [limits.max_speed_m_s, limits.max_acceleration_m_s2, limits.max_jerk_m_s3],
        ["speed", "acceleration", "jerk"],
    )
    a, b = poses[:-1, 3:], poses[1:, 3:]
    real = np.sum(a * b, axis=1)
    vector = a[:, :1] * b[:, 1:] - b[:, :1] * a[:, 1:] - np.cross(b[:, 1:], a[:, 1:])
    sine = np.linalg.norm(vector, axis=1)
    factor = np.where(sine > 1e-12, 2 * np.arctan2(sine, real) / np.maximum(sine, 1e-12), 2.0)
    return found | ratios(
        vector * factor[:, None],
        [limits.max_angular_speed_rad_s, limits.max_angular_acceleration_rad_s2, limits.max_angular_jerk_rad_s3],
        ["angular_speed", "angular_acceleration", "angular_jerk"],
    )


def ratios(steps: Floats, most: list[float], names: list[str]) -> dict[str, float]:
    """Worst ratio of the norms of the differences of each order."""
    found, values = {}, steps
    for name, limit in zip(names, most, strict=True):
        values = values / PERIOD_S if name == names[0] else np.diff(values, axis=0) / PERIOD_S
        found[name] = float(np.linalg.norm(values, axis=1).max()) / limit
    return found


def jointwise(q: Floats, bounds: JointLimits, kinematics: Kinematics, limits: Limits) -> dict[str, float]:
    """Worst ratios of every joint's position, speed, acceleration and jerk; the place again, from the joints alone."""
    middle, half = (bounds.upper_rad + bounds.lower_rad) / 2, (bounds.upper_rad - bounds.lower_rad) / 2
    speed = np.diff(q, axis=0) / PERIOD_S
    acceleration = np.diff(speed, axis=0) / PERIOD_S
    jerk = np.diff(acceleration, axis=0) / PERIOD_S
    poses = np.array([kinematics.pose(row) for row in q[:: max(len(q) // 5000, 1)]])
    return {
        "joint_position": float((np.abs(q - middle) / half).max()),
        "joint_speed": float((np.abs(speed) / bounds.max_speed_rad_s).max()),
        "joint_acceleration": float((np.abs(acceleration) / bounds.max_acceleration_rad_s2).max()),
        "joint_jerk": float((np.abs(jerk) / bounds.max_jerk_rad_s3).max()),
        **{f"{name}_of_joints": value for name, value in place(poses, limits).items()},
    }


def fuzz(targets: int, seed: int, jobs: int) -> dict[str, Any]:
    """All rounds; the worst ratios over all of them, per device."""
    started = time.monotonic()
    rounds = []
    for index, takes in enumerate((Takes.POSE, Takes.JOINTS)):
        left = targets // 2
        while left > 0:
            rounds.append((takes, min(left, ROUND), seed + 2 * len(rounds) + index))
            left -= ROUND
    if jobs > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            results = []
            for result in pool.map(play, *zip(*rounds, strict=True)):
                results.append(result)
                print(f"\r{len(results)} of {len(rounds)} rounds", end="", file=sys.stderr, flush=True)
    else:
        results = [play(*arguments) for arguments in rounds]
    summary: dict[str, Any] = {"targets": sum(count for _, count, _ in rounds), "worst": {}}
    for name in ("setpoints", "taken"):
        summary[name] = sum(result[name] for result in results)
    for result in results:
        worst = summary["worst"].setdefault(result["takes"], {})
        for name, value in result["worst"].items():
            if not value <= worst.get(name, {"value": -1.0})["value"]:
                worst[name] = {"value": value, "seed": result["seed"]}
    summary["passed"] = all(
        within(name, found["value"]) for worst in summary["worst"].values() for name, found in worst.items()
    )
    summary["seconds"] = time.monotonic() - started
    return summary


def within(name: str, value: float) -> bool:
    """Whether a worst value is allowed; NaN is not."""
    return value <= (ALLOWED_M if "_m" in name else ALLOWED)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    summary = fuzz(options.targets, options.seed, options.jobs)
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        print(f"{summary['targets']} targets, {summary['taken']} taken, {summary['setpoints']} setpoints.")
        for takes, worst in summary["worst"].items():
            for name, found in worst.items():
                print(f"{takes:7} {name:28} {found['value']:.4g}  (seed {found['seed']})")
    sys.exit(0 if summary["passed"] else 1)


if __name__ == "__main__":
    main()
