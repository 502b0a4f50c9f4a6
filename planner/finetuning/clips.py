"""Clips of recorded episodes: which frames, which words, and their pixels on the model's canvas."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Episode, EpisodeSource
from cascade.contracts.errors import DataError
from cascade.contracts.keyframes import keyframe_indices
from planner.diffusers_planner.prompts import write_prompt
from planner.diffusers_planner.sizes import Canvas
from planner.finetuning.options import FinetuneConfig
from planner.frames import centre_square
from planner.training.data import MIN_FRAMES, is_held_out

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """One video to learn.

    Attributes:
        episode: its number in the data set. indices: frames of the episode that it shows.
        prompt: the text that goes with it. instruction: the sentence inside that text.
        held_out: whether it is only measured.
    """

    episode: int
    indices: tuple[int, ...]
    prompt: str
    instruction: str
    held_out: bool

    def key(self, *more: object) -> str:
        """Return a name for what is computed from it, which changes with the frames and with `more`."""
        return hashlib.sha256(repr((self.episode, self.indices, *more)).encode()).hexdigest()[:24]


def list_clips(
    episodes: EpisodeSource, options: FinetuneConfig, *, template: str, count: int, fps: float | None
) -> list[Clip]:
    """Return the clips of `count` frames that the episodes hold.

    Args:
        episodes: the data set.
        options: camera, starts, timing.
        template: text around the instruction, with {instruction}.
        count: frames of a clip.
        fps: frame rate of the family, for timing 'rate'.

    Raises:
        DataError: no episode teaches, or one lacks the camera.
    """
    clips = []
    for number in range(len(episodes)):
        episode = episodes[number]
        if options.only_successful and not episode.success:
            continue
        if options.camera not in episode.frames:
            raise DataError(
                f"episode {number} ({episode.task}): expected camera {options.camera!r}, "
                f"found {sorted(episode.frames)}.",
                "Set `camera` to one of these.",
            )
        prompt = write_prompt(template, episode.instruction)
        held = is_held_out(episode.task, episode.seed, options.held_out)
        clips += [
            Clip(number, _indices(episode, start, count, options.timing, fps), prompt, episode.instruction, held)
            for start in _starts(len(episode.ee_position_m), options)
        ]
    if not clips:
        raise DataError(
            f"fine-tuning: expected successful episodes, found none among {len(episodes)}.",
            "Make some with `cascade record`, or set only_successful: false.",
        )
    return clips


def _starts(length: int, options: FinetuneConfig) -> list[int]:
    last = max(options.start_frame, length - MIN_FRAMES)
    spread = np.linspace(options.start_frame, last, options.clips_per_episode + 1)[:-1]
    return sorted({min(int(start), length - 2) for start in spread})


def _indices(episode: Episode, start: int, count: int, timing: str, fps: float | None) -> tuple[int, ...]:
    if timing == "progress" or not fps:
        found = keyframe_indices(
            np.asarray(episode.ee_position_m, np.float64),
            np.asarray(episode.gripper_opening, np.float64),
            count - 1,
            start=start,
        )
    else:
        last = len(episode.ee_position_m) - 1
        found = np.minimum(start + np.round(np.arange(count) * episode.fps / fps).astype(np.int64), last)
    return tuple(int(index) for index in found)


def clip_pixels(episode: Episode, camera: str, clip: Clip, canvas: Canvas) -> Image:
    """Return the clip's frames (T, H, W, 3) as the planner would show them to the model."""
    video = episode.frames[camera]
    transform = centre_square(video.shape[2], video.shape[1], min(video.shape[1:3]))
    return np.stack([canvas.place(transform.apply(video[index])) for index in clip.indices])


class Order:
    """Which clip comes when: every clip once per round, in an order drawn anew for each round.

    The order follows from the seed alone, not from what was drawn before, so that a resumed run and one with another
    number of processes see the same clips.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed

    def at(self, position: int) -> int:
        """Return the clip at a position of the whole run."""
        rounds, place = divmod(position, self._count)
        return int(np.random.default_rng([self._seed, rounds]).permutation(self._count)[place])
