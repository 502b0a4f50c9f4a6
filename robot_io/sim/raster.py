"""The default renderer: exact visibility of every triangle on the CPU, no OpenGL.

What stands still is drawn once per episode and camera; each frame draws the moving parts over it. Colours are
supersampled on a grid of half pixels and filtered by [1 2 1] in both directions; depth and segmentation are the
samples at the pixel centres, so they agree with a ray cast there to some hundredths of a millimetre.

The rasteriser does not clip at the camera's plane: triangles that reach behind the camera are left out. For cameras
that look at the table from outside those are parts of the floor; cameras on the wrist are drawn by casting rays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ConfigError
from robot_io.sim.geometry import TriangleMesh, is_moving, mesh_of, visible_geoms
from robot_io.sim.raycast import RayRenderer
from robot_io.sim.shading import BACKGROUND, Lights, Palette
from robot_io.sim.views import FAR_M, NEAR_M, CameraView, Picture

Singles = NDArray[np.float32]
_ID_SCALE = 512.0
_LIGHT_SCALE = 4.0


@dataclass
class _Layer:
    """Triangles of several geoms, drawn in one call."""

    geoms: list[int]
    meshes: list[TriangleMesh]
    mark: float
    slices: list[slice] = field(default_factory=list)

    def __post_init__(self) -> None:
        start, faces = 0, []
        for mesh in self.meshes:
            self.slices.append(slice(start, start + len(mesh.vertices)))
            faces.append(mesh.faces + start)
            start += len(mesh.vertices)
        self.faces = np.concatenate(faces).astype(np.int32) if faces else np.zeros((0, 3), np.int32)
        self.points = np.zeros((start, 3), np.float32)
        self.paint = np.zeros((start, 3), np.float32)
        for geom, part in zip(self.geoms, self.slices, strict=True):
            self.paint[part, 0] = (geom + 1) / _ID_SCALE
        self.paint[:, 2] = self.mark

    def place(self, data: Any, lights: Lights, camera_forward: NDArray[np.float64]) -> None:
        """Move the triangles to where their geoms are and light their vertices."""
        for geom, mesh, part in zip(self.geoms, self.meshes, self.slices, strict=True):
            R = np.asarray(data.geom_xmat[geom]).reshape(3, 3)
            position = np.asarray(data.geom_xpos[geom])
            np.matmul(mesh.vertices, R.T.astype(np.float32), out=self.points[part])
            self.points[part] += position.astype(np.float32)
            directions, strength = lights.falling_on(position, camera_forward)
            facing = mesh.normals @ (R.T @ directions).astype(np.float32)
            np.maximum(facing, 0, out=facing)
            self.paint[part, 1] = (lights.ambient + facing @ strength.astype(np.float32)) / _LIGHT_SCALE


@dataclass
class _Background:
    """A camera's view of what stands still."""

    paint: Singles
    depth: Singles
    fine_rgb: NDArray[np.uint8]


class RasterRenderer:
    """Draws one task's scene with OpenCV's triangle rasteriser."""

    def __init__(self, model: Any, data: Any) -> None:
        import cv2

        if not hasattr(cv2, "triangleRasterize"):
            raise ConfigError(
                f"renderer 'raster': expected OpenCV 5 or newer, found {cv2.__version__}.",
                "Run pip install 'opencv-python>=5', or use the renderer 'ray'.",
            )
        self._cv2 = cv2
        self._settings = cv2.TriangleRasterizeSettings()
        self._settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
        self._settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
        drawn = visible_geoms(model)
        self._palette = Palette(model)
        self._lights = Lights(model, data)
        self._ray = RayRenderer(model, data)
        still = [g for g in drawn if not is_moving(model, g)]
        moving = [g for g in drawn if is_moving(model, g)]
        self._still = _Layer(still, [mesh_of(model, g) for g in still], mark=0.0)
        self._moving = _Layer(moving, [mesh_of(model, g) for g in moving], mark=1.0)
        self._backgrounds: dict[tuple[str, int, int], _Background] = {}

    def begin(self, data: Any) -> None:
        """Forget the pictures of what stands still: layouts differ between episodes."""
        self._backgrounds.clear()

    def close(self) -> None:
        """Forget all pictures."""
        self._backgrounds.clear()

    def render(self, data: Any, view: CameraView, *, depth: bool = True, segmentation: bool = True) -> Picture:
        """Draw the scene as it is now; see `Renderer`."""
        if not view.fixed:
            return self._ray.render(data, view, depth=depth, segmentation=segmentation)
        cv2 = self._cv2
        background = self._background(data, view)
        paint, z = background.paint.copy(), background.depth.copy()
        self._draw(self._moving, data, view, paint, z)
        changed = np.flatnonzero(paint[..., 2].ravel() > 0.5)
        fine = background.fine_rgb.copy()
        fine.reshape(-1, 3)[changed] = self._colours(paint.reshape(-1, 3)[changed])
        kernel = np.array([0.25, 0.5, 0.25], np.float32)
        rgb = np.ascontiguousarray(cv2.sepFilter2D(fine, -1, kernel, kernel)[1::2, 1::2])
        centre = z[1::2, 1::2]
        nothing = centre > FAR_M * 0.999
        ids = np.rint(paint[1::2, 1::2, 0] * _ID_SCALE).astype(np.int32) - 1
        return Picture(
            rgb=rgb,
            depth_m=np.where(nothing, np.float32(np.nan), centre) if depth else None,
            segmentation=np.where(nothing, np.int32(-1), ids) if segmentation else None,
        )

    def _background(self, data: Any, view: CameraView) -> _Background:
        key = (view.name, view.width, view.height)
        found = self._backgrounds.get(key)
        if found is None:
            size = (2 * view.height + 1, 2 * view.width + 1)
            paint, z = np.zeros((*size, 3), np.float32), np.full(size, FAR_M, np.float32)
            self._draw(self._still, data, view, paint, z)
            colours = self._colours(paint.reshape(-1, 3)).reshape(*size, 3)
            colours[z > FAR_M * 0.999] = BACKGROUND
            found = _Background(paint, z, colours)
            self._backgrounds[key] = found
        return found

    def _colours(self, paint: Singles) -> NDArray[np.uint8]:
        ids = np.rint(paint[:, 0] * _ID_SCALE).astype(np.intp)
        return self._palette.shade(ids, paint[:, 1] * np.float32(_LIGHT_SCALE))

    def _draw(self, layer: _Layer, data: Any, view: CameraView, paint: Singles, z: Singles) -> None:
        T = view.T_base_cam
        layer.place(data, self._lights, T[:3, 2])
        R_gl = T[:3, :3] @ np.diag([1.0, -1.0, -1.0])
        world_to_camera = np.eye(4, dtype=np.float32)
        world_to_camera[:3, :3] = R_gl.T
        world_to_camera[:3, 3] = -R_gl.T @ T[:3, 3]
        # 2 H + 1 samples half a pixel apart, the outermost on the image border: sample 2 i + 1 is pixel i's centre.
        faces = layer.faces
        ahead = (layer.points - T[:3, 3].astype(np.float32)) @ T[:3, 2].astype(np.float32) > NEAR_M
        if not ahead.all():
            faces = faces[ahead[faces].all(axis=1)]
        field_of_view = 2 * float(np.arctan((2 * view.height + 1) / (4 * view.K[1, 1])))
        self._cv2.triangleRasterize(
            layer.points,
            faces,
            layer.paint,
            paint,
            z,
            world_to_camera,
            field_of_view,
            NEAR_M,
            FAR_M,
            self._settings,
        )
