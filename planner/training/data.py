"""Episodes in memory, ready for training: frames as plan pixels, hand in image and world, words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Episode, EpisodeSource
from cascade.contracts.errors import DataError
from cascade.contracts.keyframes import keyframe_indices, path_progress
from planner.frames import View, plan_transform
from planner.phrases import task_name
from planner.strides import SHARES, WHOLE, Stride
from planner.training.hands import Hands
from planner.training.spacing import progress_indices, video_progress

MIN_FRAMES = 8


@dataclass(frozen=True, eq=False)
class Track:
    """One episode of N frames in one camera.

    Attributes:
        frames: (N, S, S, 3) uint8 plan pixels. uv: (N, 2) projected hand in -1..1 of the image, NaN when unknown.
        position_m: (N, 3). opening: (N,). Both NaN of a video. task, instruction: of the episode.
        teaches: whether plans are learnt from it (a demonstration that succeeded, or a video).
        held_out: whether it is kept for measuring.
        camera: number of the camera among those that are learnt.
        progress: (N,) along which frames of a video are spaced; None of a demonstration, where the hand is known.
    """

    frames: NDArray[np.uint8]
    uv: NDArray[np.float32]
    position_m: NDArray[np.float64]
    opening: NDArray[np.float64]
    task: str
    instruction: str
    teaches: bool
    held_out: bool
    camera: int = 0
    progress: NDArray[np.float64] | None = None

    @property
    def labelled(self) -> bool:
        """Whether the hand is known; of a video there are only its frames and its sentence."""
        return self.progress is None


@dataclass(frozen=True)
class HeldOut:
    """Which episodes are kept for measuring: a share of them all, and those with a seed from `first` to `last`."""

    share: float = 0.0
    first: int = 0
    last: int = -1

    def keeps(self, task: str, seed: int) -> bool:
        """Whether an episode is kept; depends on its task and seed alone, whatever the data set."""
        return self.first <= seed <= self.last or is_held_out(task, seed, self.share)


def is_held_out(task: str, seed: int, share: float) -> bool:
    """Whether an episode belongs to the share that a hash of its task and seed keeps."""
    digest = hashlib.sha256(f"{task}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def project(
    position_m: NDArray[np.float64], K: NDArray[np.float64], T_base_cam: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (N, 2) pixels of base-frame points (N, 3)."""
    points = np.concatenate([position_m, np.ones((len(position_m), 1))], axis=1) @ np.linalg.inv(T_base_cam).T
    pixels = points[:, :3] @ K.T
    result: NDArray[np.float64] = pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-6)
    return result


def to_track(
    episode: Episode,
    camera: str,
    size: int,
    held_out: HeldOut,
    view: View = "square",
    number: int = 0,
    *,
    labelled: bool = True,
) -> Track:
    """Convert one episode as camera `number` saw it.

    With `labelled` off, its frames, its sentence, its kind, and task and seed as its name are all that is looked at.

    Raises:
        DataError: it lacks the camera.
    """
    if camera not in episode.frames:
        raise DataError(
            f"episode {episode.task} seed {episode.seed}: expected camera {camera!r}, found {sorted(episode.frames)}.",
            "Record with that camera, or train with `cameras` set to some of these.",
        )
    video = episode.frames[camera]
    transform = plan_transform(video.shape[2], video.shape[1], size, view)
    frames = np.stack([transform.apply(frame) for frame in video])
    if not labelled:
        return _video(episode, frames, held_out, number)
    position = np.asarray(episode.ee_position_m, np.float64)
    if camera in episode.K and camera in episode.T_base_cam:
        pixels = project(position, transform.intrinsics(episode.K[camera]), episode.T_base_cam[camera])
        uv = pixels * (2 / size) - 1
    else:
        uv = np.full((len(frames), 2), np.nan)
    task = task_name(episode.task)
    return Track(
        frames=frames,
        uv=np.clip(uv, -1.5, 1.5).astype(np.float32),
        position_m=position,
        opening=np.clip(np.asarray(episode.gripper_opening, np.float64), 0, 1),
        task=task,
        instruction=episode.instruction,
        teaches=episode.kind == "expert" and episode.success and len(frames) >= MIN_FRAMES,
        held_out=held_out.keeps(task, episode.seed),
        camera=number,
    )


def _video(episode: Episode, frames: NDArray[np.uint8], held_out: HeldOut, number: int) -> Track:
    count, task = len(frames), task_name(episode.task)
    return Track(
        frames=frames,
        uv=np.full((count, 2), np.nan, np.float32),
        position_m=np.full((count, 3), np.nan),
        opening=np.full(count, np.nan),
        task=task,
        instruction=episode.instruction,
        teaches=episode.kind == "expert" and count >= MIN_FRAMES,
        held_out=held_out.keeps(task, episode.seed),
        camera=number,
        progress=video_progress(frames),
    )


def load_tracks(
    episodes: EpisodeSource,
    *,
    cameras: tuple[str, ...],
    size: int,
    held_out: HeldOut,
    view: View = "square",
    unlabelled: Collection[str] = (),
    hands: Hands | None = None,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> list[Track]:
    """Decode all episodes into memory (about 50 kB a frame and camera at 128 px), camera by camera of each.

    An episode need not have all cameras, but one of them. Of episodes of the tasks `unlabelled` only the video is read.
    With `hands`, every episode that is learnt from has the hand as read there, and those in which it could not be read
    are passed over; those held out keep theirs, to measure.

    Raises:
        DataError: there is no successful demonstration to learn from, no episode of a task in `unlabelled`, or no
            reading of an episode in `hands`.
    """
    tracks = []
    videos = {task_name(task) for task in unlabelled}
    for index in range(len(episodes)):
        episode = episodes[index]
        seen = [name for name in cameras if name in episode.frames] or list(cameras)
        task = task_name(episode.task)
        known = task not in videos
        learnt = known and not held_out.keeps(task, episode.seed)
        told = hands.put_into(episode) if hands is not None and learnt else episode
        if told is not None:
            tracks += [to_track(told, name, size, held_out, view, cameras.index(name), labelled=known) for name in seen]
        tick(index + 1, len(episodes))
    if missing := videos - {track.task for track in tracks}:
        raise DataError(
            f"unlabelled: expected episodes of {', '.join(sorted(missing))}, found none.",
            f"The sets have {', '.join(sorted({track.task for track in tracks}))}.",
        )
    if not any(track.teaches and track.labelled and not track.held_out for track in tracks):
        raise DataError(
            f"planner training: expected successful expert episodes, found none among {len(tracks)}.",
            "Make some with `cascade record`.",
        )
    return tracks


@dataclass(frozen=True)
class Window:
    """A plan to learn: from frame `indices[0]` of track `track` to its end, or as far as its stride goes."""

    track: int
    indices: NDArray[np.int64]
    stride: Stride = WHOLE


def draw_window(tracks: list[Track], track: int, frames: int, start: int, stride: Stride = WHOLE) -> Window:
    """Return the window of a track that begins at `start`: `frames` future frames spread along what happens."""
    chosen = tracks[track]
    if chosen.progress is None and stride == WHOLE:
        return Window(track, keyframe_indices(chosen.position_m, chosen.opening, frames, start=start))
    progress = chosen.progress
    if progress is None:
        progress = path_progress(chosen.position_m, chosen.opening)
    return Window(track, progress_indices(progress, frames, start=start, share=SHARES[stride]), stride)


class WindowSampler:
    """Draws training windows: most begin at the episode's start, the rest anywhere before its last moments.

    With `labelled` on, none are of videos.
    """

    def __init__(
        self,
        tracks: list[Track],
        *,
        frames: int,
        start_share: float,
        rng: np.random.Generator,
        start_frame: int = 0,
        labelled: bool = False,
        strides: Sequence[Stride] = (WHOLE,),
    ) -> None:
        self.strides = tuple(strides)
        self._tracks, self._frames, self._start_share, self._rng = tracks, frames, start_share, rng
        self._start_frame = start_frame
        by_task: dict[str, list[int]] = {}
        for index, track in enumerate(tracks):
            if track.teaches and not track.held_out and (track.labelled or not labelled):
                by_task.setdefault(track.task, []).append(index)
        self._by_task = list(by_task.values())

    def draw(self, count: int) -> list[Window]:
        """Return `count` windows, tasks equally often."""
        windows = []
        for _ in range(count):
            group = self._by_task[int(self._rng.integers(len(self._by_task)))]
            index = group[int(self._rng.integers(len(group)))]
            start = self._start_frame
            if self._rng.random() >= self._start_share:
                last = len(self._tracks[index].frames) - MIN_FRAMES
                start = int(self._rng.integers(start, max(start + 1, last + 1)))
            # A single choice costs no random number, so that runs without strides stay what they were.
            several = len(self.strides) > 1
            stride = self.strides[int(self._rng.integers(len(self.strides)))] if several else self.strides[0]
            windows.append(draw_window(self._tracks, index, self._frames, start, stride))
        return windows


def held_out_windows(
    tracks: list[Track],
    frames: int,
    limit: int,
    start_frame: int = 0,
    *,
    labelled: bool = True,
    stride: Stride = WHOLE,
) -> list[Window]:
    """Return windows from the start of held-out demonstrations, or of videos with `labelled` off.

    Of training ones when none is held out.
    """
    teaching = [i for i, t in enumerate(tracks) if t.teaches and t.labelled == labelled]
    kept = [i for i in teaching if tracks[i].held_out] or teaching[:limit]
    step = max(1, len(kept) // limit)
    return [draw_window(tracks, index, frames, start_frame, stride) for index in kept[::step][:limit]]


def batches(count: int, size: int) -> Iterator[slice]:
    """Yield slices that cover `count` rows in batches of `size`."""
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))
