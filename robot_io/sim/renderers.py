"""Choice of a renderer; OpenGL is tried in a process of its own, since a failed attempt cannot be undone."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Any

from cascade.contracts import DeviceError
from robot_io.sim.config import SimConfig
from robot_io.sim.views import Renderer

_PROBE_TIMEOUT_S = 60.0
_PROBE = """
import sys, mujoco
if sys.argv[1] == "egl":
    from mujoco.egl import GLContext
else:
    from mujoco.osmesa import GLContext
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
gl = GLContext(64, 64)
gl.make_current()
context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
context.free()
gl.free()
"""


@functools.cache
def probe(platform: str) -> str | None:
    """Try an OpenGL platform ('egl' or 'osmesa') in a subprocess; return None when it works, else what went wrong."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    environment["MUJOCO_GL"] = platform
    try:
        done = subprocess.run(  # noqa: S603  (our own interpreter and our own code)
            [sys.executable, "-c", _PROBE, platform],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def resolve_renderer(name: str) -> str:
    """Return the renderer that `name` stands for on this machine.

    Raises:
        DeviceError: an OpenGL renderer was asked for by name and does not work here.
    """
    if name == "auto":
        return next((platform for platform in ("egl", "osmesa") if probe(platform) is None), "raster")
    if name in ("egl", "osmesa"):
        problem = probe(name)
        if problem is not None:
            library = "libegl1 libgl1" if name == "egl" else "libosmesa6"
            raise DeviceError(
                f"renderer {name!r}: does not work on this machine ({problem}).",
                f"Install it (Debian: apt-get install {library}), or use 'raster', which needs no OpenGL.",
            )
    return name


def make_renderer(name: str, model: Any, data: Any, config: SimConfig) -> Renderer:
    """Build a renderer, whose name is resolved, for one task's scene."""
    if name == "raster":
        from robot_io.sim.raster import RasterRenderer

        return RasterRenderer(model, data)
    if name == "ray":
        from robot_io.sim.raycast import RayRenderer

        return RayRenderer(model, data)
    from robot_io.sim.gl import OpenGlRenderer

    return OpenGlRenderer(model, name, config.width, config.height)
