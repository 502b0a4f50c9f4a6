"""Which of the weights that travel with the package fits what the camera shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.contracts import CameraImage, Needs, Observation, VideoPlan

if TYPE_CHECKING:
    from planner.embedded import EmbeddedPlanner

FOLDER = Path(__file__).parent / "weights"
SQUARE, WIDE = FOLDER / "embedded-1", FOLDER / "embedded-3"
WIDE_ONLY = ("corner2", "corner3")  # views that only the second set knows
WIDE_TOO = ("corner", *WIDE_ONLY)
WIDE_FROM = 1.2  # width over height of an image from which on its sides matter


def shipped_folder(name: Path) -> Path:
    """Return the folder of weights named as a path, or by the plain name of a shipped set such as 'embedded-3'."""
    inside = FOLDER / name
    return inside if len(name.parts) == 1 and not name.exists() and inside.is_dir() else name


class ShippedPlanner:
    """The embedded planner with the shipped weights that fit: one set for square images, one for wide ones.

    Wide images of `corner`, `corner2` and `corner3` belong to the second set, all else to the first, which learnt on
    square images of `corner`. Images decide when a plan is asked for; the likelier set is loaded at once.

    Args:
        load: makes the planner of a folder of weights.
        camera: view to plan through, or None for `corner`.
    """

    def __init__(self, load: Callable[[Path], EmbeddedPlanner], camera: str | None) -> None:
        self._load, self._camera = load, camera or "corner"
        self._planners: dict[Path, EmbeddedPlanner] = {}
        self._planner(WIDE if camera in WIDE_ONLY else SQUARE)

    def _planner(self, folder: Path) -> EmbeddedPlanner:
        if folder not in self._planners:
            self._planners[folder] = self._load(folder)
        return self._planners[folder]

    @property
    def needs(self) -> Needs:
        """The one camera it plans through."""
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
        """Imagine futures with the weights that fit the image; see `EmbeddedPlanner.plan`."""
        height, width = observation.image(self._camera).rgb.shape[:2]
        wide = self._camera in WIDE_ONLY or (self._camera in WIDE_TOO and width / height >= WIDE_FROM)
        folder = WIDE if wide else SQUARE
        return self._planner(folder).plan(observation, instruction, seed=seed, goal=goal, samples=samples)
