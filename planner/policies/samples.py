"""States of demonstrations with what came after: the next targets, and the frames a little later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Episode, EpisodeSource
from cascade.contracts.errors import DataError
from planner.frames import plan_transform
from planner.phrases import task_name
from planner.training.data import is_held_out

SIZE_PX = 128
STEP_S = 0.05  # time between targets
FRAME_S = 0.1  # time between imagined frames
REACH_M = 0.05  # a target farther ahead than this only says "full speed"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Film:
    """One demonstration, thinned out to a frame every `FRAME_S`; N states.

    Attributes:
        frames: (N, 128, 128, 3) uint8. hand: (N, 4) measured position [m] and opening.
        targets: (N, H, 4) offsets from the measured position [m] and commanded openings.
    """

    frames: NDArray[np.uint8]
    hand: NDArray[np.float32]
    targets: NDArray[np.float32]
    task: str
    instruction: str
    held_out: bool


def chunk_of(episode: Episode, start: int, horizon: int) -> Floats:
    """Return (H, 4): where the arm was sent during the steps after frame `start`, as offsets from the hand there.

    A target holds for `STEP_S`. It is where the demonstration's hand was at the end of that time, and as far ahead of
    it as the demonstrator aimed, so that a controller that goes towards it gets there; after the end it stays.
    """
    stride = max(1, round(STEP_S * episode.fps))
    last = len(episode.ee_position_m) - 1
    ends = np.minimum(start + stride * np.arange(1, horizon + 1), last)
    aimed = np.maximum(ends - 1, 0)
    ahead = np.clip(episode.action[aimed, :3] - episode.ee_position_m[aimed], -REACH_M, REACH_M)
    offset = episode.ee_position_m[ends] + ahead - episode.ee_position_m[start]
    return np.concatenate([offset, episode.action[aimed, 7:8]], axis=1)


def to_film(episode: Episode, camera: str, horizon: int, held_out: float) -> Film:
    """Convert one episode; raises DataError when it lacks the camera."""
    if camera not in episode.frames:
        raise DataError(
            f"episode {episode.task} seed {episode.seed}: expected camera {camera!r}, found {sorted(episode.frames)}.",
            "Record with that camera, or train with `camera` set to one of these.",
        )
    video = episode.frames[camera]
    transform = plan_transform(video.shape[2], video.shape[1], SIZE_PX, "square")
    starts = np.arange(0, len(video), max(1, round(FRAME_S * episode.fps)))
    hand = np.concatenate([episode.ee_position_m, episode.gripper_opening[:, None]], axis=1)
    return Film(
        frames=np.stack([transform.apply(video[i]) for i in starts]),
        hand=hand[starts].astype(np.float32),
        targets=np.stack([chunk_of(episode, int(i), horizon) for i in starts]).astype(np.float32),
        task=task_name(episode.task),
        instruction=episode.instruction,
        held_out=is_held_out(task_name(episode.task), episode.seed, held_out),
    )


def load_films(
    episodes: EpisodeSource,
    *,
    camera: str,
    horizon: int,
    held_out: float,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> list[Film]:
    """Decode all successful demonstrations (about 0.7 MB each).

    Raises:
        DataError: there are none to learn from.
    """
    films = []
    for index in range(len(episodes)):
        episode = episodes[index]
        if episode.kind == "expert" and episode.success and len(episode.ee_position_m) > 1:
            films.append(to_film(episode, camera, horizon, held_out))
        tick(index + 1, len(episodes))
    if not any(not film.held_out for film in films):
        raise DataError(
            f"policy training: expected successful expert episodes, found none among {len(episodes)}.",
            "Make some with `cascade record`.",
        )
    return films
