"""Visiting the targets of a chunk: which target is active at each control step, and when to go on to the next.

Position control itself lives in the arm; the follower only streams absolute targets, one per control step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.interfaces import Rig
from cascade.contracts.records import ActionChunk, ArmMode, ArmState

STALL_STEPS = 8
STALL_M = 0.002  # less way than this within STALL_STEPS control steps means the arm is up against something
STALL_SHARE = 0.1  # of the speed cap: what counts as stalled for an arm that may only go slowly
TIMEOUT_STEPS = 60
TIMEOUT_SHARE = 1.25  # or this many times what the longest step takes at the speed cap, where that is more


class MotionEnd(StrEnum):
    """Why following a chunk ended."""

    DONE = "done"  # all targets visited
    SUCCESS = "success"  # the monitor says that the goal has been reached
    HORIZON = "horizon"  # the episode is over
    STOPPED = "stopped"  # a person asked for a stop
    FAULT = "fault"  # the arm reports a fault or an emergency stop
    LEFT = "left"  # a newer chunk takes over, or is asked for
    ASTRAY = "astray"  # the hand left its way; the arm holds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlStep:
    """One control period as it happened.

    Attributes:
        index: target of the chunk that was active.
        target, sent: (7,) as asked and as sent after the arm's own limits.
        gripper: commanded opening 0..1.
        state: arm after the period; `success`: the monitor's judgement after it.
    """

    index: int
    target: NDArray[np.float64]
    sent: NDArray[np.float64]
    gripper: float
    state: ArmState
    t_s: float
    success: bool


@dataclass(frozen=True, slots=True)
class Motion:
    """Outcome of following one chunk: control steps taken and why it ended."""

    steps: int
    end: MotionEnd


def follow(
    rig: Rig,
    chunk: ActionChunk,
    *,
    stop: threading.Event,
    on_step: Callable[[ControlStep], None],
    count: int | None = None,
    leave: Callable[[int], bool] | None = None,
    astray: Callable[[NDArray[np.float64]], bool] | None = None,
    look: Callable[[], bool] | None = None,
    pace: float = 1.0,
) -> Motion:
    """Visit the targets of a chunk in order and return why it ended.

    A target is active until the hand is within its tolerance, or has stalled, or 60 control steps have passed (more for
    an arm with a low speed cap); and until its hold time has gone by since it became active.

    Args:
        rig: a connected rig.
        chunk: what the gate let through.
        stop: set by the signal handler; checked before every command.
        on_step: called after each control period, the command being out already.
        count: follow only the first `count` targets (receding horizon).
        leave: asked before every target but the first, with the number of those visited, whether to end here.
        astray: asked after every control period, with the hand's position (3,), whether it has left its way.
        look: asked after every control period that ended nothing, whether to end here.
        pace: share of the speed limit to go at; below 1 the arm is sent to a nearer place on the way.
    """
    steps, spec = 0, rig.arm.spec
    speed_m = pace * spec.limits.max_speed_m_s / spec.control_hz  # the farthest in one control step
    patience = max(TIMEOUT_STEPS, round(TIMEOUT_SHARE * spec.limits.max_step_m / speed_m))
    stall_m = min(STALL_M, STALL_SHARE * STALL_STEPS * speed_m)
    for index in range(len(chunk) if count is None else min(count, len(chunk))):
        if index and leave is not None and leave(index):
            return Motion(steps, MotionEnd.LEFT)
        began_s = rig.clock.now_s()
        trail = [rig.arm.read().position_m]
        while True:
            if stop.is_set():
                rig.arm.stop()
                return Motion(steps, MotionEnd.STOPPED)
            target, gripper = chunk.values[index], float(chunk.gripper[index])
            sent = rig.arm.send(target if pace >= 1.0 else _nearer(target, trail[-1], speed_m), gripper)
            rig.clock.tick()
            steps += 1
            state = rig.arm.read()
            trail.append(state.position_m)
            success = rig.monitor is not None and rig.monitor.success
            now_s = rig.clock.now_s()
            on_step(
                ControlStep(
                    index=index, target=target, sent=sent, gripper=gripper, state=state, t_s=now_s, success=success
                )
            )
            if success:
                return Motion(steps, MotionEnd.SUCCESS)
            if state.mode in (ArmMode.FAULT, ArmMode.ESTOP):
                rig.arm.stop()
                return Motion(steps, MotionEnd.FAULT)
            if astray is not None and astray(state.position_m):
                rig.arm.stop()
                return Motion(steps, MotionEnd.ASTRAY)
            if rig.monitor is not None and rig.monitor.steps >= rig.monitor.horizon:
                return Motion(steps, MotionEnd.HORIZON)
            if look is not None and look():
                return Motion(steps, MotionEnd.LEFT)
            held = now_s - began_s >= chunk.hold_s[index] - 1e-9  # type: ignore[index]
            if held and _settled(trail, target, chunk.tolerance_m[index], stall_m, patience):  # type: ignore[index]
                break
    return Motion(steps, MotionEnd.DONE)


def _nearer(target: NDArray[np.float64], hand_m: NDArray[np.float64], step_m: float) -> NDArray[np.float64]:
    """Return the target (7,) moved towards the hand, so that it is no farther than `step_m`."""
    way = target[:3] - hand_m
    length = float(np.linalg.norm(way))
    return target if length <= step_m else np.concatenate([hand_m + way * (step_m / length), target[3:]])


def _settled(
    trail: list[NDArray[np.float64]], target: NDArray[np.float64], tolerance_m: float, stall_m: float, patience: int
) -> bool:
    """Whether a target is reached, or will not be: stalled or out of time."""
    if float(np.linalg.norm(trail[-1] - target[:3])) < tolerance_m:
        return True
    if len(trail) > STALL_STEPS and float(np.linalg.norm(trail[-1] - trail[-1 - STALL_STEPS])) < stall_m:
        return True
    return len(trail) > patience
