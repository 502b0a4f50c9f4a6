"""Light as the OpenGL renderer of MuJoCo computes it per vertex, without shadows and highlights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_io.sim.geometry import colours_of, visible_geoms

Floats = NDArray[np.float64]
BACKGROUND = (127, 126, 121)


class Lights:
    """The lamps of a scene and the head light of a camera; all white, so that light is one number per vertex."""

    def __init__(self, model: Any, data: Any) -> None:
        active = [i for i in range(model.nlight) if model.light_active[i]]
        self._position = np.array([data.light_xpos[i] for i in active], dtype=np.float64).reshape(-1, 3)
        self._direction = np.array([data.light_xdir[i] for i in active], dtype=np.float64).reshape(-1, 3)
        self._diffuse = np.array([np.mean(model.light_diffuse[i]) for i in active])
        self._directional = np.array([bool(model.light_directional[i]) for i in active])
        self._cosine = np.cos(np.deg2rad([float(model.light_cutoff[i]) for i in active]))
        self._exponent = np.array([float(model.light_exponent[i]) for i in active])
        head = model.vis.headlight
        self._head_diffuse = float(np.mean(head.diffuse)) if head.active else 0.0
        ambient = sum(float(np.mean(model.light_ambient[i])) for i in active)
        self.ambient = ambient + (float(np.mean(head.ambient)) if head.active else 0.0)

    def falling_on(self, point: Floats, camera_forward: Floats) -> tuple[Floats, Floats]:
        """Return directions towards the lights (3, L) and their strengths (L,) at a point of the world."""
        towards = self._position - point
        towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
        aim = np.clip(-(towards * self._direction).sum(axis=1), 0.0, 1.0)
        spot = np.where(aim > self._cosine, aim**self._exponent, 0.0)
        directions = np.where(self._directional[:, None], -self._direction, towards)
        strength = self._diffuse * np.where(self._directional, 1.0, spot)
        return np.vstack([directions, -camera_forward]).T, np.append(strength, self._head_diffuse)


class Palette:
    """Colours of the geoms of a scene; index 0 is nothing, index i + 1 is geom i."""

    def __init__(self, model: Any) -> None:
        self._colour = np.zeros((model.ngeom + 1, 3), np.float32)
        self._texture = np.zeros((model.ngeom + 1, 3), np.float32)
        self._texture[0] = 1.0
        for geom in visible_geoms(model):
            colour, texture = colours_of(model, geom)
            self._colour[geom + 1], self._texture[geom + 1] = colour, texture * 255.0

    def shade(self, index: NDArray[np.intp], light: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(N, 3) colours of (N,) palette indices under (N,) light; light saturates before the texture, as in OpenGL."""
        lit = self._colour[index] * light[:, None]
        np.minimum(lit, 1.0, out=lit)
        lit *= self._texture[index]
        colours: NDArray[np.uint8] = lit.astype(np.uint8)
        return colours
