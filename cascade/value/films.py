"""Demonstrations as the value learns from them: a few small frames, each with the share of the task that is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import EpisodeSource, ImageTransform
from cascade.contracts.errors import DataError
from cascade.contracts.keyframes import keyframe_indices, path_progress
from cascade.value.model import shrunk


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Film:
    """One demonstration: `frames` (F, S, S, 3) uint8, `done` (F,) 0..1, and whether it is kept for measuring."""

    instruction: str
    seed: int
    frames: NDArray[np.uint8]
    done: NDArray[np.float32]
    held_out: bool


def load_films(
    episodes: EpisodeSource, *, camera: str, count: int, hold_every: int, tick: Callable[[int, int], None]
) -> list[Film]:
    """Return the demonstrations that succeeded, `count` frames of each, evenly spaced along what happens.

    What is done is the way of the hand so far, changes of the gripper included, as a share of the whole.

    Args:
        episodes: recorded demonstrations.
        camera: view.
        count: frames of each.
        hold_every: layouts whose seed leaves the remainder hold_every - 1 are kept for measuring.
        tick: called with how many are read, and of how many.

    Raises:
        DataError: a camera is missing, nothing succeeded, or nothing is left to learn from or to measure.
    """
    films = []
    for number in range(len(episodes)):
        tick(number, len(episodes))
        episode = episodes[number]
        if not episode.success or not episode.instruction:
            continue
        if camera not in episode.frames:
            raise DataError(f"episode {number}: expected camera {camera!r}, found {', '.join(episode.frames)}.")
        frames = episode.frames[camera]
        picks = keyframe_indices(episode.ee_position_m, episode.gripper_opening, count - 1)
        progress = path_progress(episode.ee_position_m, episode.gripper_opening)
        height, width = frames.shape[1:3]
        view = ImageTransform.centre_square(width, height, min(width, height))
        films.append(
            Film(
                instruction=episode.instruction,
                seed=episode.seed,
                frames=shrunk(np.stack([view.apply(frames[k]) for k in picks])),
                done=(progress[picks] / progress[-1]).astype(np.float32),
                held_out=episode.seed % hold_every == hold_every - 1,
            )
        )
    kept = sum(film.held_out for film in films)
    if not kept or kept == len(films):
        raise DataError(
            f"value: expected demonstrations to learn from and to measure on, found {len(films) - kept} and {kept}.",
            f"Record layouts of at least {hold_every} seeds, or set hold_every lower.",
        )
    return films
