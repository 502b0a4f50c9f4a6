"""Conformance of rigs and of the demonstrators that move them."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmSpec, ArmState, Demonstrator, DemoStep, Observation, Rig
from cascade.testing.requirement import require, require_cascade_error, require_json, require_members

RIG = ("name", "arm", "cameras", "clock", "monitor", "provides", "reset", "observe", "describe")
LIFT_M = 0.05
LIFT_S = 1.5


def check_rig(rig: Rig, task: str, *, seed: int = 0) -> Observation:
    """Check that a simulated rig keeps the contract; returns its first observation. The rig must be entered already.

    Moves the arm by a few centimetres; on a real rig do this only with the space around it clear.

    Args:
        rig: the rig, inside its `with` block.
        task: a task it knows.
        seed: layout of the task.

    Raises:
        PluginError: what the contract wants, what was found.
    """
    require_members(rig, RIG, "Rig")
    require(isinstance(rig.arm.spec, ArmSpec), "arm.spec: expected ArmSpec.")
    for name, camera in rig.cameras.items():
        require(camera.name == name, f"cameras: expected {name!r} to know its name, found {camera.name!r}.")
    require_json("describe()", rig.describe())

    rig.reset(task=task, seed=seed)
    observation = rig.observe()
    _check_observation(rig, observation)
    _check_monitor(rig, task)
    rig.reset(task=task, seed=seed)
    _check_same_layout(observation, rig.observe())
    if rig.monitor is not None:
        require_cascade_error("an unknown task", lambda: rig.reset(task="no-such-task", seed=seed))
        rig.reset(task=task, seed=seed)
    _check_motion(rig)
    return observation


def check_demonstrator(demonstrator: Demonstrator, rig: Rig, task: str, *, seed: int = 0, steps: int = 24) -> None:
    """Check that a demonstrator keeps the contract over its first `steps` control steps; the rig must be entered.

    Raises:
        PluginError: what the contract wants, what was found.
    """
    require_members(demonstrator, ("kind", "demonstrate"), "Demonstrator")
    require(demonstrator.kind in ("expert", "play"), f"kind: expected 'expert' or 'play', found {demonstrator.kind!r}.")
    every = 8
    first = list(islice(demonstrator.demonstrate(rig, task=task, seed=seed, every=every), steps))
    require(len(first) == steps, f"demonstrate(): expected at least {steps} steps, found {len(first)}.")
    _check_steps(first, every)
    again = list(islice(demonstrator.demonstrate(rig, task=task, seed=seed, every=every), steps))
    off = max(float(np.abs(a.action_asked - b.action_asked).max()) for a, b in zip(first, again, strict=True))
    require(off < 1e-6, f"demonstrate(): expected the same seed to act the same way, found actions {off:.2g} apart.")


def _check_observation(rig: Rig, observation: Observation) -> None:
    require(
        set(observation.images) == set(rig.cameras),
        f"observe(): expected images of {sorted(rig.cameras)}, found {sorted(observation.images)}.",
    )
    provides = rig.provides
    for name, image in observation.images.items():
        for promised, value, what in (
            (provides.depth, image.depth_m, "depth"),
            (provides.segmentation, image.segmentation, "segmentation"),
            (provides.extrinsics, image.T_base_cam, "extrinsics"),
        ):
            require(not promised or value is not None, f"camera {name!r}: `provides` promises {what}, found none.")
        height, width = image.rgb.shape[:2]
        inside = 0 < image.K[0, 2] < width and 0 < image.K[1, 2] < height and min(image.K[0, 0], image.K[1, 1]) > 0
        require(inside, f"camera {name!r}: expected its principal point inside the image, found K {image.K.tolist()}.")
        if image.depth_m is not None:
            seen = image.depth_m[np.isfinite(image.depth_m)]
            require(seen.size > 0 and float(seen.min()) > 0, f"camera {name!r}: expected positive depth in metres.")


def _check_monitor(rig: Rig, task: str) -> None:
    monitor = rig.monitor
    if monitor is None:
        return
    require(monitor.task == task, f"monitor.task: expected {task!r}, found {monitor.task!r}.")
    require(bool(monitor.instruction.strip()), "monitor.instruction: expected a sentence, found nothing.")
    require(monitor.steps == 0, f"monitor.steps: expected 0 after a reset, found {monitor.steps}.")
    require(monitor.horizon > 0, f"monitor.horizon: expected a positive number of steps, found {monitor.horizon}.")
    require(monitor.success is False, "monitor.success: expected False after a reset.")


def _check_same_layout(first: Observation, second: Observation) -> None:
    off = float(np.abs(first.arm.T_base_ee - second.arm.T_base_ee).max())
    require(off < 1e-6, f"reset(): expected the same seed to put the arm in the same place, found {off:.2g} m.")
    for name, image in first.images.items():
        same = np.array_equal(image.rgb, second.images[name].rgb)
        require(bool(same), f"reset(): expected the same seed to show the same image on {name!r}, found another.")


def _check_motion(rig: Rig) -> None:
    arm, start = rig.arm, rig.arm.read()
    here = _target(start)
    require_cascade_error("a target of NaN", lambda: arm.send(np.full(7, np.nan), 1.0))
    require_cascade_error("a target of the wrong shape", lambda: arm.send(here[:3], 1.0))

    period = 1.0 / arm.spec.control_hz
    goal = here.copy()
    goal[2] = min(goal[2] + LIFT_M, float(arm.spec.limits.workspace_m[1, 2]))
    before = rig.clock.now_s()
    ticks = round(LIFT_S / period)
    for _ in range(ticks):
        sent = arm.send(goal, 0.0)
        require(
            sent.shape == (7,) and bool(np.isfinite(sent).all()), "send(): expected the target as sent, (7,) finite."
        )
        rig.clock.tick()
    passed, state = rig.clock.now_s() - before, arm.read()
    require(
        passed > 0.5 * ticks * period,
        f"clock: expected {ticks * period:.2f} s for {ticks} ticks, found {passed:.2f} s.",
    )
    left, way = float(np.linalg.norm(goal[:3] - state.position_m)), float(goal[2] - here[2])
    require(
        left < 0.5 * way, f"send(): expected the arm to go {way:.3f} m up in {LIFT_S} s, found it {left:.3f} m short."
    )
    require(state.stamp_s > start.stamp_s, "read(): expected a later stamp after moving.")
    require(
        state.gripper_opening < start.gripper_opening + 0.05,
        f"send(): expected the gripper to close on 0, found it opening to {state.gripper_opening:.2f}.",
        "0 is closed, 1 is open.",
    )
    if rig.monitor is not None:
        require(rig.monitor.steps > 0, "monitor.steps: expected it to count control steps.")
    arm.stop()
    arm.stop()


def _target(state: ArmState) -> NDArray[np.float64]:
    """(7,) target that asks the arm to stay, by the rotation's quaternion (wxyz)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(state.T_base_ee[:3, :3]).as_quat()
    return np.concatenate([state.position_m, [w, x, y, z]])


def _check_steps(steps: list[DemoStep], every: int) -> None:
    for index, step in enumerate(steps):
        seen = step.observation is not None
        require(seen == (index % every == 0), f"step {index}: expected images on every {every}th step only.")
        for name, action in (("action_sent", step.action_sent), ("action_asked", step.action_asked)):
            shaped = action.shape == (8,) and bool(np.isfinite(action).all())
            require(shaped, f"{name}: expected (8,) finite values, found {action.shape}.")
            norm = float(np.linalg.norm(action[3:7]))
            require(abs(norm - 1) < 1e-3, f"{name}: expected a unit quaternion, found norm {norm:.3f}.")
            require(-1e-6 <= action[7] <= 1 + 1e-6, f"{name}: expected an opening of 0..1, found {action[7]:.3f}.")
    stamps = np.array([step.stamp_s for step in steps])
    require(bool(np.all(np.diff(stamps) > 0)), "stamp_s: expected stamps that increase.")
    success = np.array([step.success for step in steps])
    require(not np.any(success[:-1] & ~success[1:]), "success: expected it to stay once reached.")
