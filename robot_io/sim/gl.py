"""Renderers that need an OpenGL library: EGL (GPU or llvmpipe) and OSMesa (software)."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_io.sim.geometry import visible_geoms
from robot_io.sim.views import CameraView, Picture

_MAX_GEOMS = 2000


class OpenGlRenderer:
    """Draws one task's scene with MuJoCo's OpenGL renderer, without shadows, reflections and goal markers.

    Colours are supersampled and filtered as in `raster`. Use it from one thread; one process can use one platform.
    """

    def __init__(self, model: Any, platform: str, width: int, height: int) -> None:
        import mujoco

        self._mujoco, self._model = mujoco, model
        if platform == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
        fine_width, fine_height = 2 * width + 1, 2 * height + 1
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0  # most of the time goes there
        model.vis.global_.offwidth, model.vis.global_.offheight = fine_width, fine_height
        self._gl = GLContext(fine_width, fine_height)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._solid = np.zeros(model.ngeom + 1, dtype=bool)
        self._solid[visible_geoms(model)] = True
        self._release = weakref.finalize(self, _release, self._context, self._gl)

    def begin(self, data: Any) -> None:
        """Nothing is kept between episodes."""

    def close(self) -> None:
        """Release the OpenGL context."""
        self._release()

    def render(self, data: Any, view: CameraView, *, depth: bool = True, segmentation: bool = True) -> Picture:
        """Draw the scene as it is now; see `Renderer`."""
        import cv2

        self._gl.make_current()
        # 2 H + 1 samples half a pixel apart, the outermost on the image border: sample 2 i + 1 is pixel i's centre.
        field_of_view = float(self._model.cam_fovy[view.index])
        size = (2 * view.height + 1, 2 * view.width + 1)
        self._model.cam_fovy[view.index] = 2 * np.rad2deg(np.arctan(size[0] / (4 * view.K[1, 1])))
        try:
            fine, _ = self._draw(data, view, size, ids=False)
        finally:
            self._model.cam_fovy[view.index] = field_of_view
        kernel = np.array([0.25, 0.5, 0.25], np.float32)
        rgb = np.ascontiguousarray(cv2.sepFilter2D(fine, -1, kernel, kernel)[1::2, 1::2])
        if not (depth or segmentation):
            return Picture(rgb=rgb, depth_m=None, segmentation=None)
        codes, z = self._draw(data, view, (view.height, view.width), ids=True)
        ids = self._geoms(codes)
        return Picture(
            rgb=rgb,
            depth_m=np.where(ids >= 0, z, np.nan).astype(np.float32) if depth else None,
            segmentation=ids if segmentation else None,
        )

    def _draw(
        self, data: Any, view: CameraView, size: tuple[int, int], *, ids: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        mujoco, scene, flags = self._mujoco, self._scene, self._mujoco.mjtRndFlag
        self._camera.fixedcamid = view.index
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, scene
        )
        scene.flags[flags.mjRND_SHADOW] = scene.flags[flags.mjRND_REFLECTION] = 0
        scene.flags[flags.mjRND_SEGMENT] = scene.flags[flags.mjRND_IDCOLOR] = int(ids)
        rect = mujoco.MjrRect(0, 0, size[1], size[0])
        colour, z = np.empty((*size, 3), np.uint8), np.empty(size, np.float32)
        mujoco.mjr_render(rect, scene, self._context)
        mujoco.mjr_readPixels(colour, z, rect, self._context)
        # OpenGL's first row is the bottom one; a camera mounted upside down is turned by 180 degrees on top of that.
        colour, z = (colour[:, ::-1], z[:, ::-1]) if view.turned else (colour[::-1], z[::-1])
        return np.ascontiguousarray(colour), self._metric(z)

    def _metric(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        """Depth buffer (1 near, 0 far) to metres along the optical axis."""
        extent = float(self._model.stat.extent)
        near, far = float(self._model.vis.map.znear) * extent, float(self._model.vis.map.zfar) * extent
        return near * far / (near + z.astype(np.float64) * (far - near))

    def _geoms(self, codes: NDArray[np.uint8]) -> NDArray[np.int32]:
        scene = self._scene
        table = np.full(scene.ngeom + 1, -1, np.int32)
        geom_type = int(self._mujoco.mjtObj.mjOBJ_GEOM)
        for drawn in scene.geoms[: scene.ngeom]:
            if drawn.segid != -1 and drawn.objtype == geom_type and self._solid[drawn.objid]:
                table[drawn.segid + 1] = drawn.objid
        parts = codes.astype(np.uint32)
        found: NDArray[np.int32] = table[parts[..., 0] + (parts[..., 1] << 8) + (parts[..., 2] << 16)]
        return found


def _release(context: Any, gl: Any) -> None:
    gl.make_current()
    context.free()
    gl.free()
