"""The planner that imagines nothing: the world stays as it is. A control for every success rate."""

from __future__ import annotations

import numpy as np

from cascade.contracts import CameraImage, Needs, Observation, VideoPlan
from planner.frames import first_frame


class HoldPlanner:
    """Repeats the current image."""

    def __init__(self, *, camera: str, size_px: int, frames: int) -> None:
        self._camera, self._size, self._frames = camera, size_px, frames

    @property
    def needs(self) -> Needs:
        """One camera."""
        return Needs(cameras=(self._camera,))

    def plan(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        goal: CameraImage | None = None,
        samples: int = 1,
    ) -> list[VideoPlan]:
        """Return `samples` plans in which nothing moves; `goal` is not looked at."""
        image, transform = first_frame(observation, self._camera, self._size)
        still = np.repeat(image[None], self._frames, axis=0)
        return [
            VideoPlan(
                instruction=instruction,
                camera=self._camera,
                transform=transform,
                frames=still,
                seed=seed,
                provenance={"planner": "hold", "ms": {}},
            )
            for _ in range(samples)
        ]
