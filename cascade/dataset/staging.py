"""Writing one episode so that a kill at any instant leaves either all of it or nothing.

An episode is written into `<set>/staged/<key>.partial/` and renamed when complete; `merge.finalize` later moves the
staged episodes into the LeRobotDataset v3 layout.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError, checks
from cascade.contracts.video import write_mp4
from cascade.dataset import format as layout
from cascade.dataset import stats
from cascade.dataset.entries import Calibration, EpisodeEntry, episode_key, read_json, write_json

STAGED = "staged"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_HASHED = ("observation.state", "action", "action.asked", "next.success")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpisodeRecording:
    """What was recorded in one episode of N frames.

    Attributes:
        frames: camera -> (N, H, W, 3) uint8.
        state: (N, 8) measured xyz [m], quaternion wxyz, gripper opening 0..1.
        action, action_asked: (N, 8) the same of the command, as sent after limits and as asked for.
        next_success: (N,) whether the goal has been reached once the action has been done.
        capture_time_s: (N,) true time of each image on the rig's clock [s].
        calibration: camera -> K, T_base_cam, size_px.
        success: whether the goal was reached at any time.
    """

    frames: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    action_asked: NDArray[np.float32]
    next_success: NDArray[np.bool_]
    capture_time_s: NDArray[np.float64]
    calibration: Mapping[str, Calibration]
    fps: float
    instruction: str
    task: str
    kind: str
    seed: int
    success: bool

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError("episode: expected images of at least one camera, found none.")
        if set(self.frames) != set(self.calibration):
            found = f"images of {sorted(self.frames)} and calibration of {sorted(self.calibration)}"
            raise DataError(f"episode: expected calibration for every camera, found {found}.")
        count = len(self.state)
        if count == 0:
            raise DataError("episode: expected at least one frame, found none.")
        for name in (*self.frames, self.task):
            if not _PLAIN_NAME.fullmatch(name):
                raise DataError(f"name {name!r}: expected letters, digits, '-', '_' and '.' (it becomes a file name).")
        for camera, frames in self.frames.items():
            checks.array(f"frames of {camera}", frames, (count, None, None, 3), np.uint8)
            if frames.shape[1] % 2 or frames.shape[2] % 2:
                raise DataError(f"frames of {camera}: expected an even image size, found {frames.shape[1:3]}.")
        for name in ("state", "action", "action_asked"):
            checks.array(name, getattr(self, name), (count, 8), np.float32)
        checks.array("next_success", self.next_success, (count,), np.bool_)
        checks.array("capture_time_s", self.capture_time_s, (count,), np.float64)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Columns of the table that do not depend on the other episodes of the set."""
        number = np.arange(len(self.state), dtype=np.int64)
        return {
            "observation.state": np.asarray(self.state, dtype=np.float32),
            "action": np.asarray(self.action, dtype=np.float32),
            "action.asked": np.asarray(self.action_asked, dtype=np.float32),
            "next.success": self.next_success,
            "capture_time_s": self.capture_time_s,
            "timestamp": (number / self.fps).astype(np.float32),
            "frame_index": number,
        }

    def sha256(self) -> str:
        """Return the hash of the content: table and pixels, but neither indices nor capture times."""
        digest = hashlib.sha256()
        columns = self.columns
        for name in _HASHED:
            digest.update(f"{name}:{columns[name].dtype}:{columns[name].shape};".encode())
            digest.update(np.ascontiguousarray(columns[name]).tobytes())
        for camera, frames in sorted(self.frames.items()):
            digest.update(f"{camera}:{frames.shape};".encode())
            digest.update(np.ascontiguousarray(frames).tobytes())
        return digest.hexdigest()


def write_episode(root: Path, episode: EpisodeRecording) -> Path:
    """Stage one complete episode in the set at `root` and return its folder; safe from several processes at once."""
    import pyarrow.parquet as pq

    key = episode_key(episode.kind, episode.task, episode.seed)
    final = root / STAGED / key
    partial = final.with_name(key + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    pq.write_table(to_table(episode.columns), partial / "data.parquet", compression="snappy")
    for camera, frames in episode.frames.items():
        write_mp4(partial / f"{camera}.mp4", np.asarray(frames), episode.fps, exact_colour=True)
    header = {
        "task": episode.task,
        "instruction": episode.instruction,
        "kind": episode.kind,
        "seed": episode.seed,
        "success": bool(episode.success),
        "length": len(episode.state),
        "fps": episode.fps,
        "sha256": episode.sha256(),
        "calibration": {camera: dict(values) for camera, values in episode.calibration.items()},
        "image_stats": {camera: stats.of_images(frames) for camera, frames in episode.frames.items()},
    }
    write_json(partial / "episode.json", header)
    if final.exists():
        shutil.rmtree(final)
    partial.replace(final)
    return final


def to_table(columns: Mapping[str, NDArray[Any]]) -> Any:
    """Return the Arrow table of some of the format's columns."""
    import pyarrow as pa

    schema = layout.arrow_schema()
    arrays, fields = [], []
    for name, values in columns.items():
        field = schema.field(name)
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        if values.ndim == 2:
            flat = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        arrays.append(flat.cast(field.type))
        fields.append(field)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def staged_entries(root: Path) -> Iterator[EpisodeEntry]:
    """Yield the complete staged episodes of the set at `root`; what was being written is passed over."""
    for folder in sorted((root / STAGED).glob("*")):
        if folder.name.endswith(".partial") or not folder.is_dir():
            continue
        header = read_json(folder / "episode.json")
        videos = {camera: (folder / f"{camera}.mp4", 0.0) for camera in header["calibration"]}
        yield EpisodeEntry(**header, data_file=folder / "data.parquet", row_group=0, videos=videos)
