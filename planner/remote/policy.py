"""Policies behind openpi's wire: what they are asked, and what their actions mean here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ActionChunk, ActionSpace, ArmState, DataError, Observation
from planner.remote.options import PolicyActions, RemoteConfig

Floats = NDArray[np.float64]
ACTION_SPACE = ActionSpace()
"""What every chunk from a server must be, once converted: absolute end-effector poses in the base frame."""


def policy_request(observation: Observation, instruction: str, config: RemoteConfig) -> dict[str, Any]:
    """Return what a policy is asked, under the names it wants; the image is resized on this side."""
    image = observation.image(config.camera)
    arm = observation.arm
    state = np.concatenate([arm.position_m, quaternion(arm.T_base_ee[:3, :3]), [arm.gripper_opening]])
    return {
        config.keys.image: shrunk(image.rgb, config.size_px),
        config.keys.state: state.astype(np.float32),
        config.keys.prompt: instruction,
    }


def shrunk(rgb: NDArray[np.uint8], size_px: int | None) -> NDArray[np.uint8]:
    """Return an image whose longer side is at most `size_px`."""
    height, width = rgb.shape[:2]
    if size_px is None or max(height, width) <= size_px:
        return rgb
    import cv2

    scale = size_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    result: NDArray[np.uint8] = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return result


def policy_chunk(reply: Mapping[str, Any], state: ArmState, actions: PolicyActions) -> ActionChunk:
    """Return a policy's actions as absolute targets.

    Raises:
        DataError: there are none, their shape is not what `actions` says, or they are not finite.
    """
    found = reply.get(actions.key)
    width = 8 if actions.kind == "ee_pose" else 7
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.shape[1] != width or len(found) == 0:
        shape = getattr(found, "shape", type(found).__name__)
        raise DataError(f"{actions.key}: expected an array (H, {width}) for {actions.kind}, found {shape}.")
    values = found.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{actions.key}: expected finite numbers, found NaN or infinite ones.")
    gripper = np.clip(values[:, -1], 0.0, 1.0)
    poses = values[:, :7] if actions.kind == "ee_pose" else _integrated(values[:, :6], state.T_base_ee)
    return ActionChunk(
        values=poses,
        gripper=gripper if actions.gripper == "opening" else 1.0 - gripper,
        times_s=np.arange(1, len(values) + 1) / actions.rate_hz,
        provenance={"extractor": "remote", "kind": actions.kind},
    )


def policy_frames(reply: Mapping[str, Any], rgb: NDArray[np.uint8], key: str) -> tuple[NDArray[np.uint8], bool]:
    """Return the frames a policy imagined, or the current image twice; and whether it imagined any."""
    frames = reply.get(key)
    if frames is None:
        return np.stack([rgb, rgb]), False
    if not isinstance(frames, np.ndarray) or frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise DataError(f"{key}: expected frames (T, H, W, 3) uint8, found {getattr(frames, 'shape', type(frames))}.")
    return frames, True


def quaternion(R: Floats) -> Floats:
    """(4,) unit quaternion wxyz, w >= 0, of a (3, 3) rotation."""
    from scipy.spatial.transform import Rotation

    q: Floats = np.asarray(Rotation.from_matrix(R).as_quat(canonical=True, scalar_first=True), dtype=np.float64)
    return q


def _integrated(steps: Floats, T_base_ee: Floats) -> Floats:
    """Return (H, 7) poses of (H, 6) steps: positions add up, rotation vectors turn in the base frame."""
    from scipy.spatial.transform import Rotation

    position, rotation = T_base_ee[:3, 3].copy(), Rotation.from_matrix(T_base_ee[:3, :3])
    poses = np.empty((len(steps), 7))
    for row, step in zip(poses, steps, strict=True):
        position = position + step[:3]
        rotation = Rotation.from_rotvec(step[3:]) * rotation
        row[:3], row[3:] = position, rotation.as_quat(canonical=True, scalar_first=True)
    return poses
