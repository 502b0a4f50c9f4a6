"""The run's scene once more, in simulation: what its cameras should see, and its commands through the tracker again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.config import RunConfig
from cascade.contracts import CascadeError, IncompatibleError
from cascade.contracts.interfaces import Rig
from cascade.metrics.reading import Scene
from cascade.plugins import build_plugin
from cascade.report.run_folder import RunRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replayed:
    """The recorded commands once more, on the rig as configured: (N, 3) positions [m] and (N,) openings."""

    position_m: Floats
    opening: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rebuilt:
    """The scene as configured, with depth and segmentation, and the replay or why there is none."""

    scene: Scene
    replayed: Replayed | None
    no_replay: str


def rebuild(record: RunRecord, run: RunConfig) -> Rebuilt:
    """Build the run's simulated rig, look at its scene, and send the recorded commands again.

    Raises:
        IncompatibleError: the rig is a real one, which a reset would move, or the task is unknown.
        CascadeError: the rig cannot be built.
    """
    options = {**run.rig.options, "depth": True, "segmentation": True}  # the second opinion may need them
    rig: Rig = build_plugin("rig", run.rig.plugin, options)
    if rig.monitor is None:
        raise IncompatibleError(
            f"rig {run.rig.name!r}: expected a simulated one, found one whose reset would move an arm.",
            "What needs the scene is left out.",
        )
    if run.task is None:
        raise IncompatibleError("run: expected the task of its scene, found none.")
    with rig:
        rig.reset(task=run.task, seed=run.seed)
        scene = Scene(observation=rig.observe(), limits=rig.arm.spec.limits)
        if not len(record.trajectory):
            return Rebuilt(scene=scene, replayed=None, no_replay="the arm did not move")
        if run.rig.options.get("clock", "frozen") != "frozen":
            return Rebuilt(scene=scene, replayed=None, no_replay="its world did not wait, so nothing would be repeated")
        try:
            return Rebuilt(scene=scene, replayed=_replay(record, rig), no_replay="")
        except CascadeError as error:
            return Rebuilt(scene=scene, replayed=None, no_replay=error.problem)


def _replay(record: RunRecord, rig: Rig) -> Replayed:
    """Send the recorded targets, one per control step, as they were sent."""
    track = record.trajectory
    position, opening = [], []
    orientation = _quaternion(np.asarray(rig.arm.read().T_base_ee))
    told = np.nan_to_num(track.gripper_target, nan=1.0)
    for target, gripper in zip(track.sent_m, told, strict=True):
        rig.arm.send(np.concatenate([target, orientation]), float(gripper))
        rig.clock.tick()
        state = rig.arm.read()
        position.append(state.position_m)
        opening.append(float(state.gripper_opening))
    return Replayed(position_m=np.array(position), opening=np.array(opening))


def _quaternion(T_base_ee: Floats) -> Floats:
    """(4,) wxyz: run folders keep positions, and the hand keeps the orientation it begins with."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(T_base_ee[:3, :3]).as_quat()
    return np.array([w, x, y, z], dtype=np.float64)
