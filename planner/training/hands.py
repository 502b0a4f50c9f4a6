"""Hands read from videos: where inverse dynamics saw the hand, in place of what the robot recorded.

Videos with readings teach a path without anybody having recorded one: inverse dynamics learnt from play of no task
labels the demonstrations (Baker et al., "Video PreTraining", arXiv 2206.11795).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Episode
from cascade.contracts.errors import DataError

_KEYS = ("position_m", "opening", "task", "seed", "length")
Reading = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Hands:
    """Readings of episodes, by task and seed: position (N, 3) in metres and opening (N,) 0..1; N = 0 if unreadable."""

    readings: Mapping[tuple[str, int], Reading]

    def put_into(self, episode: Episode) -> Episode | None:
        """Return the episode with the hand as it was read, None where it could not be: a reading of no frames.

        What was recorded is not looked at.

        Raises:
            DataError: there is no reading of it, or one of another length.
        """
        found = self.readings.get((episode.task, episode.seed))
        count = len(next(iter(episode.frames.values())))
        if found is not None and len(found[0]) == 0:
            return None
        if found is None or len(found[0]) != count:
            what = "none" if found is None else f"{len(found[0])}"
            raise DataError(
                f"hands: expected readings of the {count} frames of {episode.task} seed {episode.seed}, found {what}.",
                "Read all sets that are learnt from with benchmarks/read_hands.py.",
            )
        return replace(episode, ee_position_m=found[0], gripper_opening=found[1])


def load_hands(paths: tuple[Path, ...]) -> Hands:
    """Read what `benchmarks/read_hands.py` wrote.

    Raises:
        DataError: a file is missing, not of that form, or not finite.
    """
    readings: dict[tuple[str, int], Reading] = {}
    for path in paths:
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                parts = {key: file[key] for key in _KEYS}
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(f"{path}: expected readings of hands, found {error}.", "Make them again.") from error
        ends = np.cumsum(parts["length"])
        position, opening = parts["position_m"].astype(np.float64), parts["opening"].astype(np.float64)
        total = int(ends[-1]) if len(ends) else 0
        if position.shape != (total, 3) or opening.shape != (total,):
            raise DataError(f"{path}: expected {total} positions, found {position.shape}.", "Make them again.")
        if not (np.isfinite(position).all() and np.isfinite(opening).all()):
            raise DataError(f"{path}: expected finite hands, found NaN or infinite ones.", "Make them again.")
        for task, seed, start, end in zip(parts["task"], parts["seed"], ends - parts["length"], ends, strict=True):
            readings[str(task), int(seed)] = position[start:end], opening[start:end]
    return Hands(readings)
