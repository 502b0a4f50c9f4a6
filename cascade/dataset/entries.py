"""Where the parts of one stored episode are, and what is known of it without decoding anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.contracts import DataError

Calibration = Mapping[str, Any]  # K (3, 3), T_base_cam (4, 4) or None, size_px (width, height), as lists


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeEntry:
    """One episode on disk.

    Attributes:
        task: suite name; instruction: the sentence; kind: 'expert' or 'play'.
        length: number of frames.
        sha256: of the table (without indices and capture times) and of the pixels before encoding.
        data_file, row_group: where its rows are.
        videos: camera -> (file, time of its first frame in that file [s]).
        calibration: camera -> K, T_base_cam, size_px.
        image_stats: camera -> statistics.
    """

    task: str
    instruction: str
    kind: str
    seed: int
    success: bool
    length: int
    fps: float
    sha256: str
    data_file: Path
    row_group: int
    videos: Mapping[str, tuple[Path, float]]
    calibration: Mapping[str, Calibration]
    image_stats: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Name of the episode within its set."""
        return episode_key(self.kind, self.task, self.seed)

    @property
    def order(self) -> tuple[str, str, int]:
        """Where the episode stands in its set, however and in whatever order it was recorded."""
        return self.kind, self.task, self.seed

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Camera -> (height, width) [px]."""
        return {name: (c["size_px"][1], c["size_px"][0]) for name, c in self.calibration.items()}


def episode_key(kind: str, task: str, seed: int) -> str:
    """Return the name of an episode within its set."""
    return f"{kind}-{task}-{seed:06d}"


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raises DataError when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a file, found none.", "Is this the folder of a dataset?") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected JSON, found a broken file ({error}).", "Restore or re-record it.") from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that readers see the old file or the new one, never half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
