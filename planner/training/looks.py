"""First looks: images with the path the hand took from there on, of far more layouts than there are films of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DataError
from planner.training.data import HeldOut

_KEYS = ("frames", "path", "uv", "camera", "task", "seed")


@dataclass(frozen=True, eq=False)
class Looks:
    """N images and what followed them.

    Attributes:
        frames: (N, S, S, 3) uint8 plan pixels.
        path: (N, T + 1, 4) hand xyz [m] and opening, from the image on.
        uv: (N, T + 1, 2) where the hand is in the image, -1..1.
        camera: (N,) number among the cameras that are learnt.
        task: (N,) number among the tasks.
        held_out: (N,) whether a look is kept for measuring.
    """

    frames: NDArray[np.uint8]
    path: NDArray[np.float32]
    uv: NDArray[np.float32]
    camera: NDArray[np.int64]
    task: NDArray[np.int64]
    held_out: NDArray[np.bool_]

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `count` rows that are not held out, tasks equally often."""
        groups = [np.flatnonzero((self.task == task) & ~self.held_out) for task in np.unique(self.task)]
        groups = [group for group in groups if len(group)]
        chosen = rng.integers(len(groups), size=count)
        return np.array([groups[g][rng.integers(len(groups[g]))] for g in chosen], dtype=np.int64)

    def kept(self, limit: int) -> NDArray[np.int64]:
        """Return held-out rows, at most about `limit`, evenly chosen."""
        rows = np.flatnonzero(self.held_out)
        return rows[:: max(1, len(rows) // limit)]


def load_looks(
    paths: tuple[Path, ...], cameras: tuple[str, ...], tasks: tuple[str, ...], held_out: HeldOut, size: int
) -> Looks:
    """Read what `benchmarks/first_looks.py` wrote; rows of other cameras and tasks are passed over.

    Raises:
        DataError: a file is missing or not of that form, or nothing fits.
    """
    parts: dict[str, list[NDArray[np.generic]]] = {key: [] for key in _KEYS}
    for path in paths:
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                known = np.isin(file["camera"], cameras) & np.isin(file["task"], tasks)
                for key in _KEYS:
                    parts[key].append(file[key][known])
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(f"{path}: expected first looks, found {error}.", "Make them again.") from error
    rows = {key: np.concatenate(values) for key, values in parts.items()}
    if not len(rows["frames"]) or rows["frames"].shape[1:] != (size, size, 3):
        raise DataError(
            f"looks: expected images of {size} px of the cameras {', '.join(cameras)}, found {rows['frames'].shape}.",
            "Make them with benchmarks/first_looks.py.",
        )
    kept = [held_out.keeps(str(task), int(seed)) for task, seed in zip(rows["task"], rows["seed"], strict=True)]
    return Looks(
        frames=rows["frames"].astype(np.uint8),
        path=rows["path"].astype(np.float32),
        uv=rows["uv"].astype(np.float32),
        camera=np.array([cameras.index(str(name)) for name in rows["camera"]], dtype=np.int64),
        task=np.array([tasks.index(str(name)) for name in rows["task"]], dtype=np.int64),
        held_out=np.array(kept, dtype=np.bool_),
    )
