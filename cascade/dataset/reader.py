"""Reading recorded sets as trainers want them: cheap lists of what there is, pixels decoded when looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError, Episode, EpisodeSource
from cascade.contracts.video import read_video
from cascade.dataset.entries import EpisodeEntry
from cascade.dataset.finalised import read_parquet
from cascade.dataset.manifest import manifest, read_header
from cascade.dataset.merge import all_entries, column


class LazyFrames(Mapping[str, NDArray[np.uint8]]):
    """Camera -> (N, H, W, 3) uint8 frames of one episode, decoded when first asked for and kept from then on."""

    def __init__(self, entry: EpisodeEntry) -> None:
        self._entry = entry
        self._decoded: dict[str, NDArray[np.uint8]] = {}

    def __getitem__(self, camera: str) -> NDArray[np.uint8]:
        if camera not in self._entry.videos:
            raise KeyError(f"camera {camera!r}: not in this episode. Known: {', '.join(sorted(self._entry.videos))}.")
        if camera not in self._decoded:
            path, from_s = self._entry.videos[camera]
            start = round(from_s * self._entry.fps)
            frames, _ = read_video(path, start=start, count=self._entry.length)
            if len(frames) != self._entry.length:
                raise DataError(f"{path}: expected {self._entry.length} frames, found {len(frames)}.")
            frames.flags.writeable = False
            self._decoded[camera] = frames
        return self._decoded[camera]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entry.videos)

    def __len__(self) -> int:
        return len(self._entry.videos)


class LeRobotDataset:
    """A recorded set, finalised or still being recorded; an `EpisodeSource`.

    Opening reads metadata only; `dataset[i]` reads one episode's table, and its pixels are decoded when looked at.
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
        entry = self.entries[index]
        table = read_parquet(entry.data_file, row_group=entry.row_group)
        if len(table) != entry.length:
            raise DataError(f"{entry.data_file}: expected {entry.length} rows of {entry.key}, found {len(table)}.")
        state = column(table, "observation.state").astype(np.float64)
        action = column(table, "action").astype(np.float64)
        for values in (state, action):
            values.flags.writeable = False
        poses = {name: c["T_base_cam"] for name, c in entry.calibration.items() if c["T_base_cam"] is not None}
        return Episode(
            frames=LazyFrames(entry),
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
