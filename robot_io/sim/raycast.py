"""Reference renderer: one MuJoCo ray per pixel centre. Several times slower than `raster`, and not smooth at edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_io.sim.geometry import VISIBLE_GROUPS, visible_geoms
from robot_io.sim.shading import BACKGROUND, Lights, Palette
from robot_io.sim.views import FAR_M, CameraView, Picture

_HIDDEN_GROUP = 5


class RayRenderer:
    """Draws one task's scene by casting rays with `mj_multiRay`."""

    def __init__(self, model: Any, data: Any) -> None:
        self._model = model
        self._lights = Lights(model, data)
        self._palette = Palette(model)
        drawn = set(visible_geoms(model))
        for geom in range(model.ngeom):  # window panes would stop rays; groups have no part in the physics
            if int(model.geom_group[geom]) in VISIBLE_GROUPS and geom not in drawn:
                model.geom_group[geom] = _HIDDEN_GROUP

    def begin(self, data: Any) -> None:
        """Nothing is kept between episodes."""

    def close(self) -> None:
        """Nothing is held."""

    def render(self, data: Any, view: CameraView, *, depth: bool = True, segmentation: bool = True) -> Picture:
        """Draw the scene as it is now; see `Renderer`."""
        import mujoco

        h, w = view.height, view.width
        u, v = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
        rays = np.stack([(u - w / 2) / view.K[0, 0], (v - h / 2) / view.K[1, 1], np.ones_like(u)], axis=-1)
        rays = rays.reshape(-1, 3) @ view.T_base_cam[:3, :3].T
        length = np.linalg.norm(rays, axis=1)
        ids, distance = np.full(h * w, -1, np.int32), np.zeros(h * w)
        groups = np.array([g in VISIBLE_GROUPS for g in range(6)], np.uint8)
        origin = np.array(view.T_base_cam[:3, 3])
        unit = np.ascontiguousarray(rays / length[:, None])
        if view.fixed:
            mujoco.mj_multiRay(self._model, data, origin, unit.ravel(), groups, 1, -1, ids, distance, h * w, FAR_M)
        else:  # close to long geoms MuJoCo 3.3.0's multi-ray drops parts of them; single rays do not
            for i, ray in enumerate(unit):
                distance[i] = mujoco.mj_ray(self._model, data, origin, ray, groups, 1, -1, ids[i : i + 1])
        z = np.where(ids >= 0, distance / length, np.nan)
        points = (origin + rays * z[:, None]).reshape(h, w, 3)
        light = self._light(data, view, points, ids.reshape(h, w))
        rgb = self._palette.shade(ids.astype(np.intp) + 1, light.ravel())
        rgb[ids < 0] = BACKGROUND
        return Picture(
            rgb=rgb.reshape(h, w, 3),
            depth_m=z.reshape(h, w).astype(np.float32) if depth else None,
            segmentation=ids.reshape(h, w) if segmentation else None,
        )

    def _light(
        self, data: Any, view: CameraView, points: NDArray[np.float64], ids: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        normals = np.cross(_slope(points, 0), _slope(points, 1))
        towards_camera = view.T_base_cam[:3, 3] - points
        normals *= np.sign((normals * towards_camera).sum(axis=-1, keepdims=True))
        normals = np.nan_to_num(normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12))
        light = np.full(ids.shape, self._lights.ambient, np.float32)
        for geom in np.unique(ids[ids >= 0]):
            directions, strength = self._lights.falling_on(np.asarray(data.geom_xpos[geom]), view.T_base_cam[:3, 2])
            mask = ids == geom
            light[mask] += np.maximum(normals[mask] @ directions, 0.0) @ strength
        return light


def _slope(points: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Difference to the neighbour along an image axis, on the side where the surface goes on."""
    forward = np.diff(points, axis=axis, append=np.take(points, [-1], axis=axis))
    backward = np.diff(points, axis=axis, prepend=np.take(points, [0], axis=axis))
    sizes = [np.nan_to_num(np.linalg.norm(d, axis=-1, keepdims=True), nan=np.inf) for d in (forward, backward)]
    sizes = [np.where(s == 0, np.inf, s) for s in sizes]
    return np.where(sizes[0] <= sizes[1], forward, backward)
