"""Play in memory: every frame with its label, and which frames may be paired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError, EpisodeSource


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledFrames:
    """N frames of one camera with what the hand did in them, in one array each.

    Attributes:
        frames: (N, H, W, 3) uint8.
        position_m: (N, 3) float32; opening: (N,) float32.
        episode: (N,) int32, which episode a frame belongs to; frames of an episode are consecutive.
        first, last: (N,) int64, index of the first and last frame of a frame's episode.
        dt_s: (N,) float32, time from a frame to the next one of its episode.
        view: (N,) int64, through which of the views.
    """

    frames: NDArray[np.uint8]
    position_m: NDArray[np.float32]
    opening: NDArray[np.float32]
    episode: NDArray[np.int32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    dt_s: NDArray[np.float32]
    view: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of frames N."""
        return len(self.frames)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """The camera all frames were seen through: intrinsics at the frames' size, and its pose in the arm base."""

    name: str
    K: NDArray[np.float64]
    T_base_cam: NDArray[np.float64]


def load_play(
    episodes: EpisodeSource, camera: str, size_px: int, *, kind: str = "play", limit: int | None = None
) -> tuple[LabelledFrames, View]:
    """Decode every episode of one kind into memory; frames of another size are squeezed, whole, into the square.

    Raises:
        DataError: no such episodes, an unknown camera, or a camera that moved between episodes.
    """
    frames: list[NDArray[np.uint8]] = []
    owners: list[NDArray[np.int32]] = []
    position, opening, rate = [], [], []
    view: View | None = None
    for index in _progress(range(len(episodes)), "reading episodes"):
        item = episodes[index]
        if item.kind != kind:
            continue
        if camera not in item.frames:
            raise DataError(
                f"camera {camera!r}: not in episode {index}.", f"Recorded cameras: {', '.join(sorted(item.frames))}."
            )
        pixels, K = squeezed(np.asarray(item.frames[camera]), item.K[camera], size_px)
        here = View(name=camera, K=K, T_base_cam=item.T_base_cam[camera])
        view = view or here
        if not np.allclose(view.T_base_cam, here.T_base_cam, atol=1e-3) or not np.allclose(view.K, here.K, atol=0.5):
            raise DataError(
                f"episode {index}: camera {camera!r} is not where it was in the first episode.",
                "Weights know one fixed view; train on episodes of one calibration.",
            )
        frames.append(pixels)
        position.append(item.ee_position_m.astype(np.float32))
        opening.append(item.gripper_opening.astype(np.float32))
        owners.append(np.full(len(pixels), len(owners), np.int32))
        rate.append(np.full(len(pixels), 1 / item.fps, np.float32))
        if limit is not None and len(frames) >= limit:
            break
    if view is None:
        raise DataError(
            f"dataset {episodes.digest}: expected {kind} episodes, found none among {len(episodes)}.",
            f"Record some: cascade record --kind {kind}.",
        )
    owner = np.concatenate(owners)
    lengths = np.bincount(owner)
    ends = np.cumsum(lengths)
    return (
        LabelledFrames(
            frames=np.concatenate(frames),
            position_m=np.concatenate(position),
            opening=np.concatenate(opening),
            episode=owner,
            first=(ends - lengths)[owner].astype(np.int64),
            last=(ends - 1)[owner].astype(np.int64),
            dt_s=np.concatenate(rate),
            view=np.zeros(len(owner), np.int64),
        ),
        view,
    )


def load_views(
    episodes: EpisodeSource, cameras: Sequence[str], size_px: int, *, limit: int | None = None
) -> tuple[LabelledFrames, tuple[View, ...]]:
    """Decode every episode of play as seen by each of the cameras; an episode has one number in all of them.

    Raises:
        DataError: as `load_play`.
    """
    parts: list[LabelledFrames] = []
    views: list[View] = []
    for camera in cameras:
        frames, view = load_play(episodes, camera, size_px, limit=limit)
        before = sum(len(part) for part in parts)
        index = np.full(len(frames), len(views), np.int64)
        parts.append(replace(frames, first=frames.first + before, last=frames.last + before, view=index))
        views.append(view)
    values = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(LabelledFrames)}
    return LabelledFrames(**values), tuple(views)


def squeezed(
    frames: NDArray[np.uint8], K: NDArray[np.float64], size_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return frames (N, H, W, 3) at size_px x size_px, width and height each scaled as needed, and intrinsics to match.

    The scaling is the one by which planners and the gate make plan pixels of a whole camera image.
    """
    height, width = frames.shape[1:3]
    if (width, height) == (size_px, size_px):
        return frames, K
    import cv2

    how = cv2.INTER_AREA if size_px < width else cv2.INTER_LINEAR
    scaled = [np.asarray(cv2.resize(frame, (size_px, size_px), interpolation=how)) for frame in frames]
    return np.stack(scaled).astype(np.uint8), np.diag([size_px / width, size_px / height, 1.0]) @ K


def split_by_episode(frames: LabelledFrames, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return frame indices (training, held out); whole episodes are held out, at least one of each kind."""
    count = int(frames.episode.max()) + 1
    if count < 2:
        raise DataError("play: expected at least 2 episodes, found 1.", "Record more, so that some can be held out.")
    held = np.random.default_rng(seed).permutation(count)[: min(max(1, round(share * count)), count - 1)]
    out = np.isin(frames.episode, held)
    return np.flatnonzero(~out), np.flatnonzero(out)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Indices of P training pairs: current frame, goal frame, and the frame a moment after the current one."""

    current: NDArray[np.int64]
    goal: NDArray[np.int64]
    soon: NDArray[np.int64]
    seconds: NDArray[np.float32]


def sample_pairs(
    frames: LabelledFrames,
    allowed: NDArray[np.int64],
    count: int,
    rng: np.random.Generator,
    *,
    reach_s: float,
    next_s: float,
) -> Pairs:
    """Draw pairs up to `reach_s` apart inside an episode; a pair at an episode's end may be a frame with itself."""
    current = rng.choice(allowed, count)
    dt = frames.dt_s[current]
    farthest = np.maximum(1, np.floor(reach_s / dt + 1e-4).astype(np.int64))
    ahead = rng.integers(1, farthest + 1)
    goal = np.minimum(current + ahead, frames.last[current])
    soon = np.minimum(current + np.maximum(1, np.rint(next_s / dt).astype(np.int64)), goal)
    return Pairs(current=current, goal=goal, soon=soon, seconds=((goal - current) * dt).astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtraFrames:
    """Frames from elsewhere with pose labels, such as play that went through a planner's autoencoder.

    `episode` (N,) says which episode of the play they were made from, -1 for none, so that held-out ones stay so;
    `view` (N,) int64 through which of the views they look.
    """

    frames: NDArray[np.uint8]
    position_m: NDArray[np.float32]
    opening: NDArray[np.float32]
    episode: NDArray[np.int32]
    view: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of frames N."""
        return len(self.frames)

    def part(self, chosen: NDArray[np.bool_]) -> ExtraFrames:
        """Return the chosen (N,) frames."""
        return ExtraFrames(
            frames=self.frames[chosen],
            position_m=self.position_m[chosen],
            opening=self.opening[chosen],
            episode=self.episode[chosen],
            view=self.view[chosen],
        )

    def seen_through(self, view: int) -> ExtraFrames:
        """Return the frames of one view."""
        return self.part(self.view == view)


def load_all_extra(paths: Sequence[Path], size_px: int) -> ExtraFrames:
    """Read one file per view, in the views' order; see `load_extra`."""
    parts = [load_extra(path, size_px, view) for view, path in enumerate(paths)]
    return ExtraFrames(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(ExtraFrames)})


def load_extra(path: Path, size_px: int, view: int = 0) -> ExtraFrames:
    """Read `frames` (N, H, W, 3) uint8, `position_m` (N, 3), `opening` (N,) and perhaps `episode` (N,) from a file.

    The file is an .npz or a .safetensors one.

    Raises:
        DataError: missing, corrupt, or of another form.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a file of extra frames, found none.", "Check the path.")
    try:
        values = _tensors(path)
    except Exception as error:  # zipfile, safetensors and numpy each have their own
        raise DataError(f"{path}: expected npz or safetensors, found a broken file ({error}).") from error
    missing = {"frames", "position_m", "opening"} - set(values)
    if missing:
        raise DataError(f"{path}: expected arrays frames, position_m, opening; missing {', '.join(sorted(missing))}.")
    frames, position, opening = values["frames"], values["position_m"], values["opening"]
    n = len(frames)
    episode = values.get("episode", np.full(n, -1)).astype(np.int32)
    shapes = (
        frames.shape[1:] == (size_px, size_px, 3)
        and position.shape == (n, 3)
        and opening.shape == (n,) == episode.shape
    )
    if not shapes or frames.dtype != np.uint8 or not np.isfinite(position).all() or not np.isfinite(opening).all():
        raise DataError(
            f"{path}: expected frames (N, {size_px}, {size_px}, 3) uint8, position_m (N, 3) and opening (N,) finite, "
            f"found {frames.shape} {frames.dtype}, {position.shape}, {opening.shape}."
        )
    return ExtraFrames(
        frames=frames,
        position_m=position.astype(np.float32),
        opening=opening.astype(np.float32),
        episode=episode,
        view=np.full(n, view, np.int64),
    )


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    from safetensors.numpy import load_file

    return dict(load_file(str(path)))


def _progress(items: range, title: str) -> Iterator[int]:
    """Iterate with a progress bar on stderr when a person looks."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, title, console=console, transient=True, disable=not console.is_terminal)
