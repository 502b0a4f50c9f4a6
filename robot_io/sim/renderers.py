"""Choice of a renderer."""

from __future__ import annotations

from typing import Any

from cascade.contracts import DeviceError
from robot_io.sim.config import SimConfig
from robot_io.sim.raster import RasterRenderer
from robot_io.sim.views import Renderer


def resolve_renderer(name: str) -> str:
    """Return the renderer that `name` stands for on this machine; raises DeviceError when it does not work here."""
    if name in ("raster", "ray"):
        return name
    raise DeviceError(f"renderer {name!r}: not available.")


def make_renderer(name: str, model: Any, data: Any, config: SimConfig) -> Renderer:
    """Build a renderer for one task's scene."""
    return RasterRenderer(model, data)
