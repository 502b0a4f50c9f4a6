"""Cameras of a scene: intrinsics and poses that fit upright images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CAMERAS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
FAR_M = 12.0
NEAR_M = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class CameraView:
    """A camera at one instant.

    Attributes:
        name, index: of the camera in the model.
        K: (3, 3) intrinsics [px], pixel centres at (i + 0.5).
        T_base_cam: (4, 4), OpenCV axes (x right, y down, z forward).
        turned: whether the camera is mounted upside down, so that its image is rotated by 180 degrees.
        fixed: whether it stands still in the world.
    """

    name: str
    index: int
    width: int
    height: int
    K: Floats
    T_base_cam: Floats
    turned: bool
    fixed: bool

    @classmethod
    def of(cls, model: Any, data: Any, name: str, width: int, height: int) -> CameraView:
        """Read a camera's pose; images of cameras mounted upside down are turned upright, and pose and K with them."""
        index = int(model.cam(name).id)
        R = np.array(data.cam_xmat[index], dtype=np.float64).reshape(3, 3)  # OpenGL axes: y up, z backward
        turned = bool(R[2, 1] < -1e-6) and int(model.cam_bodyid[index]) == 0
        if turned:
            R = R @ np.diag([-1.0, -1.0, 1.0])
        T = np.eye(4)
        T[:3, :3] = R @ np.diag([1.0, -1.0, -1.0])
        T[:3, 3] = data.cam_xpos[index]
        f = 0.5 * height / np.tan(np.deg2rad(float(model.cam_fovy[index])) / 2)
        K = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])
        fixed = int(model.body_weldid[model.cam_bodyid[index]]) == 0
        return cls(name, index, width, height, K, T, turned, fixed)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What a renderer makes.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32 z-depth, NaN where there is nothing, or None.
        segmentation: (H, W) int32 geom ids, -1 for nothing, or None.
    """

    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32] | None
    segmentation: NDArray[np.int32] | None


class Renderer(Protocol):
    """Draws one task's scene."""

    def begin(self, data: Any) -> None:
        """Tell it that an episode begins: what is fixed to the world may have moved."""
        ...

    def render(self, data: Any, view: CameraView, *, depth: bool, segmentation: bool) -> Picture:
        """Draw the scene as it is now."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...
