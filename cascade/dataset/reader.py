"""Reading recorded sets as trainers want them: cheap lists of what there is, pixels decoded when looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError, Episode, EpisodeSource
from cascade.contracts.video import read_video
from cascade.dataset.entries import EpisodeEntry
from cascade.dataset.finalised import read_parquet
from cascade.dataset.manifest import manifest, read_header
from cascade.dataset.merge import all_entries, column

Result = TypeVar("Result")


class LazyFrames(Mapping[str, NDArray[np.uint8]]):
    """Camera -> (N, H, W, 3) uint8 frames of one episode, decoded when first asked for and kept from then on."""

    def __init__(self, cameras: Sequence[str], decode: Callable[[str], NDArray[np.uint8]]) -> None:
        self._cameras, self._decode = tuple(cameras), decode
        self._decoded: dict[str, NDArray[np.uint8]] = {}

    def __getitem__(self, camera: str) -> NDArray[np.uint8]:
        if camera not in self._cameras:
            raise KeyError(f"camera {camera!r}: not in this episode. Known: {', '.join(sorted(self._cameras))}.")
        if camera not in self._decoded:
            self._decoded[camera] = self._decode(camera)
        return self._decoded[camera]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cameras)

    def __contains__(self, camera: object) -> bool:
        """Whether there is such a camera; nothing is decoded, as Mapping's own would."""
        return camera in self._cameras

    def __len__(self) -> int:
        return len(self._cameras)


def _read_table(entry: EpisodeEntry) -> Any:
    table = read_parquet(entry.data_file, row_group=entry.row_group)
    if len(table) != entry.length:
        raise DataError(f"{entry.data_file}: expected {entry.length} rows of {entry.key}, found {len(table)}.")
    return table


def _read_frames(camera: str, entry: EpisodeEntry) -> NDArray[np.uint8]:
    path, from_s = entry.videos[camera]
    frames, _ = read_video(path, start=round(from_s * entry.fps), count=entry.length)
    if len(frames) != entry.length:
        raise DataError(f"{path}: expected {entry.length} frames, found {len(frames)}.")
    frames.flags.writeable = False
    return frames


class LeRobotDataset:
    """A recorded set, finalised or still being recorded; an `EpisodeSource`.

    Opening reads metadata only; `dataset[i]` reads one episode's table, and its pixels are decoded when looked at.
    A set opened while it is being recorded holds the episodes complete at that time, also after it has been merged.
    Safe to send to worker processes.

    Args:
        root: folder of the set.

    Raises:
        DataError: no set there, of another version, incomplete, or inconsistent.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.entries: tuple[EpisodeEntry, ...] = tuple(all_entries(self.root))
        if not self.entries:
            raise DataError(f"{self.root}: expected at least one complete episode, found none.")
        self.header = read_header(self.root)
        self._digest = str(manifest(self.header, self.entries)["digest"])

    @property
    def digest(self) -> str:
        """Hash of the manifest: names exactly these episodes."""
        return self._digest

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.entries[0].fps

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the recorded cameras."""
        return tuple(sorted(self.entries[0].videos))

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Episode:
        """Return one episode; raises IndexError beyond the end and DataError when its files are broken."""
        table = self._read(index, _read_table)
        entry = self.entries[index]
        state = column(table, "observation.state").astype(np.float64)
        action = column(table, "action").astype(np.float64)
        for values in (state, action):
            values.flags.writeable = False
        poses = {name: c["T_base_cam"] for name, c in entry.calibration.items() if c["T_base_cam"] is not None}
        return Episode(
            frames=LazyFrames(self.cameras, partial(self._frames, index)),
            K={name: np.array(c["K"], dtype=np.float64) for name, c in entry.calibration.items()},
            T_base_cam={name: np.array(pose, dtype=np.float64) for name, pose in poses.items()},
            ee_position_m=state[:, :3],
            gripper_opening=state[:, 7],
            action=action,
            fps=entry.fps,
            instruction=entry.instruction,
            task=entry.task,
            kind=entry.kind,
            success=entry.success,
            seed=entry.seed,
        )

    def _frames(self, index: int, camera: str) -> NDArray[np.uint8]:
        return self._read(index, partial(_read_frames, camera))

    def _read(self, index: int, read: Callable[[EpisodeEntry], Result]) -> Result:
        """Read a part of an episode; once more where it is now, if the set has been merged since it was opened."""
        entry = self.entries[index]
        try:
            return read(entry)
        except DataError:
            found = {other.key: other for other in all_entries(self.root)}
            now = found.get(entry.key)
            if now is None or now.sha256 != entry.sha256 or now.data_file == entry.data_file:
                raise
            self.entries = tuple(found.get(entry.key, entry) for entry in self.entries)
            return read(now)


class JoinedEpisodes:
    """Several sources one after the other; an `EpisodeSource`."""

    def __init__(self, sources: Sequence[LeRobotDataset]) -> None:
        if not sources:
            raise DataError("datasets: expected at least one folder, found none.", "Pass --data DIR.")
        self.sources = tuple(sources)
        self.entries: tuple[EpisodeEntry, ...] = tuple(entry for source in sources for entry in source.entries)

    @property
    def digest(self) -> str:
        """The digest of the only source, else the hash of all of them in order."""
        if len(self.sources) == 1:
            return self.sources[0].digest
        return hashlib.sha256("\n".join(source.digest for source in self.sources).encode()).hexdigest()

    def __len__(self) -> int:
        """Number of episodes of all sources."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Episode:
        """Return one episode; raises IndexError beyond the end."""
        if index < 0:
            index += len(self)
        if index < 0:
            raise IndexError(index)
        for source in self.sources:
            if index < len(source):
                return source[index]
            index -= len(source)
        raise IndexError(f"episode {index + len(self)}: expected less than {len(self)}.")


def open_datasets(paths: Sequence[Path | str]) -> EpisodeSource:
    """Open recorded sets and return them as one source.

    Raises:
        DataError: a folder holds no readable set.
    """
    return JoinedEpisodes([LeRobotDataset(path) for path in paths])
