"""From the steps of a demonstration to the record of an episode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ArmState, CameraImage, DataError, DemoStep, Rig
from cascade.dataset.staging import EpisodeRecording

PLAY_INSTRUCTION = "play"  # what play does is not what the layout's task says


def assemble(
    steps: Iterable[DemoStep], rig: Rig, cameras: Sequence[str], *, kind: str, task: str, seed: int, every: int
) -> EpisodeRecording:
    """Return the record of a demonstration: one frame per step that was seen.

    Raises:
        DataError: nothing was seen, or a camera is not the rig's.
    """
    images: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in cameras}
    first: dict[str, CameraImage] = {}
    states, sent, asked, stamps = [], [], [], []
    reached: list[bool] = []
    success = False
    for step in steps:
        success = success or step.success
        if step.observation is None:
            if reached:
                reached[-1] = success
            continue
        for camera in cameras:
            image = step.observation.image(camera)
            first.setdefault(camera, image)
            images[camera].append(image.rgb)
        states.append(state_vector(step.state))
        sent.append(step.action_sent)
        asked.append(step.action_asked)
        stamps.append(step.observation.image(cameras[0]).stamp_s)
        reached.append(success)
    if not states:
        raise DataError(f"{kind} {task} seed {seed}: expected at least one image, found none.")
    monitor = rig.monitor
    success = success or (monitor is not None and monitor.success)
    reached[-1] = success
    return EpisodeRecording(
        frames={camera: np.stack(frames) for camera, frames in images.items()},
        state=_continuous(np.array(states)).astype(np.float32),
        action=_continuous(np.array(sent, dtype=np.float64)).astype(np.float32),
        action_asked=_continuous(np.array(asked, dtype=np.float64)).astype(np.float32),
        next_success=np.array(reached, dtype=np.bool_),
        capture_time_s=np.array(stamps, dtype=np.float64),
        calibration={camera: _calibration(image) for camera, image in first.items()},
        fps=rig.arm.spec.control_hz / every,
        instruction=PLAY_INSTRUCTION if kind == "play" or monitor is None else monitor.instruction,
        task=task,
        kind=kind,
        seed=seed,
        success=bool(success) and kind != "play",
    )


def state_vector(state: ArmState) -> NDArray[np.float64]:
    """Return (8,) measured xyz, quaternion wxyz (w not negative) and gripper opening."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(state.T_base_ee[:3, :3]).as_quat(canonical=True)
    return np.concatenate([state.position_m, [w, x, y, z], [state.gripper_opening]])


def _continuous(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 8) rows whose quaternions do not change sign from one row to the next: q and -q are one rotation."""
    result = poses.copy()
    for row in range(1, len(result)):
        if float(result[row, 3:7] @ result[row - 1, 3:7]) < 0:
            result[row, 3:7] *= -1
    return result


def _calibration(image: CameraImage) -> dict[str, Any]:
    height, width = image.rgb.shape[:2]
    pose = None if image.T_base_cam is None else image.T_base_cam.tolist()
    return {"K": image.K.tolist(), "T_base_cam": pose, "size_px": [width, height]}
