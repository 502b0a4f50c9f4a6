"""A drawn camera: squares that wander over a chequered wall, with exact metric depth; the same on every machine."""

from __future__ import annotations

import time

import numpy as np

from cascade.contracts import DeviceError
from robot_io.cameras.config import SyntheticConfig
from robot_io.cameras.source import SourceFrame, SourceInfo, pinhole

WALL_M = 1.5
SQUARES = 3


class SyntheticSource:
    """Draws image number n from n and the seed alone, `fps` times a second."""

    def __init__(self, config: SyntheticConfig) -> None:
        self._config = config
        self._begin_s = 0.0
        self._number = 0

    def open(self, *, serial: str | None = None) -> SourceInfo:
        """Begin to draw; see `FrameSource`."""
        config = self._config
        if serial is not None and serial != config.serial:
            raise DeviceError(
                f"camera {config.name!r}: expected serial {serial}, found {config.serial}.", "Set `serial` back."
            )
        self._begin_s, self._number = time.monotonic(), 0
        return SourceInfo(
            kind="synthetic",
            serial=config.serial,
            model="drawn by robot_io.cameras.synthetic",
            width=config.width,
            height=config.height,
            fps=config.fps,
            K=pinhole(config.width, config.height, config.hfov_deg),
            has_depth=config.depth,
        )

    def read(self, timeout_s: float) -> SourceFrame | None:
        """Wait for the next image's time and draw it."""
        due_s = self._begin_s + (self._number + 1) / self._config.fps
        wait_s = due_s - time.monotonic()
        if wait_s > timeout_s:
            time.sleep(timeout_s)
            return None
        time.sleep(max(0.0, wait_s))
        self._number = max(self._number + 1, int((time.monotonic() - self._begin_s) * self._config.fps))
        due_s = self._begin_s + self._number / self._config.fps
        rgb, depth_m = draw(self._config, self._number)
        return SourceFrame(
            rgb=rgb,
            depth_m=depth_m if self._config.depth else None,
            t_dev_s=due_s,
            depth_t_dev_s=due_s if self._config.depth else None,
            t_host_s=time.monotonic(),
            number=self._number,
        )

    def close(self) -> None:
        """Nothing to let go of."""


def draw(config: SyntheticConfig, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return colour (H, W, 3) uint8 and depth (H, W) float32 [m] of image `number`."""
    height, width = config.height, config.width
    rows, columns = np.mgrid[0:height, 0:width]
    cell = max(8, width // 20)
    chequer = ((rows // cell + columns // cell) % 2).astype(np.uint8)
    rgb = np.repeat((90 + 60 * chequer)[..., None], 3, axis=2)
    depth = np.full((height, width), WALL_M, dtype=np.float32)
    rng = np.random.default_rng(config.seed)
    for _ in range(SQUARES):
        colour = rng.integers(30, 255, 3, dtype=np.uint8)
        phase, speed = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.02, 0.06, 2)
        distance_m = np.float32(rng.uniform(0.4, 1.2))
        half = max(4, int(0.06 * width / distance_m / 2))
        centre = 0.5 + 0.35 * np.sin(phase + speed * number)
        x, y = int(centre[0] * width), int(centre[1] * height)
        box = slice(max(0, y - half), y + half), slice(max(0, x - half), x + half)
        nearer = depth[box] > distance_m
        rgb[box][nearer] = colour
        depth[box][nearer] = distance_m
    return rgb, depth
