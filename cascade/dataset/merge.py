"""Merging staged episodes into the LeRobotDataset v3 layout, in steps that survive a kill.

Videos are linked to their final names and never move again. The new `data` and `meta` folders are written beside the
old ones; only when both are complete does the marker `merge.ready` appear, after which the swap is carried on by
whoever comes next.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import DataError
from cascade.dataset import format as layout
from cascade.dataset import stats
from cascade.dataset.entries import EpisodeEntry, write_json
from cascade.dataset.finalised import CALIBRATION, INFO, MERGING, finalised_entries, read_parquet
from cascade.dataset.manifest import MANIFEST, manifest, read_header
from cascade.dataset.staging import STAGED, staged_entries

_SWAPPED = ("data", "meta")


def all_entries(root: Path) -> list[EpisodeEntry]:
    """Return every complete episode of the set at `root`, finalised or still staged, in canonical order.

    Raises:
        DataError: there is no set, or a merge was interrupted and waits for `cascade record --recover`.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected the folder of a dataset, found none.", "Make one with `cascade record`.")
    if (root / MERGING).exists():
        raise DataError(
            f"{root}: expected a settled set, found an interrupted merge.", f"cascade record --recover {root}"
        )
    found = {entry.key: entry for entry in staged_entries(root)}
    if (root / INFO).exists():
        found.update((entry.key, entry) for entry in finalised_entries(root))
    return sorted(found.values(), key=lambda entry: entry.order)


def settle(root: Path) -> None:
    """Carry on a merge that was interrupted after its point of no return; drop one that was not."""
    if (root / MERGING).exists():
        _swap(root)
        return
    for name in _SWAPPED:
        shutil.rmtree(root / f"{name}.new", ignore_errors=True)


def finalize(root: Path) -> dict[str, Any]:
    """Merge all staged episodes into the set at `root` and return its manifest; does nothing when nothing is staged.

    Raises:
        DataError: there is no complete episode, or episodes do not fit together.
    """
    settle(root)
    entries = all_entries(root)
    if not entries:
        raise DataError(f"{root}: expected at least one complete episode, found none.", "Record with `cascade record`.")
    first = entries[0]
    for entry in entries:
        if entry.fps != first.fps or entry.sizes != first.sizes:
            found = f"{entry.key}: {entry.fps} Hz {entry.sizes}, {first.key}: {first.fps} Hz {first.sizes}"
            raise DataError(f"{root}: expected one frame rate and one set of cameras, found {found}.")
    header = read_header(root)
    content = manifest(header, entries)
    if any(entry.data_file.is_relative_to(root / STAGED) for entry in entries):
        videos = _place_videos(root, entries)
        _write_new(root, entries, videos, header, content)
        (root / MERGING).write_text(content["digest"] + "\n", encoding="utf-8")
        _swap(root)
    return content


def _swap(root: Path) -> None:
    for name in _SWAPPED:
        new = root / f"{name}.new"
        if new.exists():
            shutil.rmtree(root / name, ignore_errors=True)
            new.rename(root / name)
    shutil.rmtree(root / STAGED, ignore_errors=True)
    (root / MERGING).unlink()


def _place_videos(root: Path, entries: Sequence[EpisodeEntry]) -> list[dict[str, int]]:
    """Link staged videos to their final names; return per episode camera -> number of its file."""
    taken: dict[str, int] = {}
    numbers: list[dict[str, int]] = []
    for entry in entries:
        own = {}
        for camera, (path, _) in entry.videos.items():
            if not path.is_relative_to(root / STAGED):
                own[camera] = _number(path)
                taken[camera] = max(taken.get(camera, -1), own[camera])
        numbers.append(own)
    for entry, own in zip(entries, numbers, strict=True):
        for camera, (path, _) in entry.videos.items():
            if camera in own:
                continue
            own[camera] = taken[camera] = taken.get(camera, -1) + 1
            chunk, file = layout.place(own[camera])
            key = layout.IMAGES + camera
            target = root / layout.VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # left by a merge that was killed
            try:
                os.link(path, target)
            except FileNotFoundError as error:
                raise DataError(f"{path}: expected the video of {entry.key}, found none.") from error
            except OSError:  # a file system without links
                shutil.copyfile(path, target)
    return numbers


def _number(path: Path) -> int:
    chunk, file = path.parent.name.removeprefix("chunk-"), path.stem.removeprefix("file-")
    return int(chunk) * layout.CHUNKS_SIZE + int(file)


def _write_new(
    root: Path,
    entries: Sequence[EpisodeEntry],
    videos: Sequence[Mapping[str, int]],
    header: Mapping[str, Any],
    content: Mapping[str, Any],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    instructions = sorted({entry.instruction for entry in entries})
    rows = _write_data(root, entries, instructions)
    for row, entry, numbers in zip(rows, entries, videos, strict=True):
        row.update(_episode_row(entry, numbers))
    keys = [layout.IMAGES + camera for camera in sorted(entries[0].sizes)] + list(layout.table_features())
    total = {key: stats.combined([_stats_of(row, key) for row in rows]) for key in keys}
    episodes = root / layout.EPISODES_PATH.replace("meta/", "meta.new/", 1)
    episodes.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), episodes, compression="snappy")
    pq.write_table(layout.tasks_table(instructions), root / "meta.new/tasks.parquet")
    meta = root / "meta.new"
    frames = sum(entry.length for entry in entries)
    robot = str(header.get("robot", "unknown"))
    first = entries[0]
    info = layout.info(first.sizes, first.fps, robot, len(entries), frames, len(instructions))
    write_json(meta / Path(INFO).name, info)
    write_json(meta / "stats.json", total)
    write_json(meta / Path(CALIBRATION).name, _calibration(entries))
    write_json(meta / Path(MANIFEST).name, content)


def _write_data(root: Path, entries: Sequence[EpisodeEntry], instructions: Sequence[str]) -> list[dict[str, Any]]:
    """Write the data files, one row group per episode; return per episode where its rows went and their statistics."""
    import pyarrow.parquet as pq

    schema = layout.arrow_schema()
    rows: list[dict[str, Any]] = []
    start, file_number, written, writer = 0, -1, 0, None
    try:
        for number, entry in enumerate(entries):
            table = _indexed(entry, number, start, instructions.index(entry.instruction), schema)
            if writer is None or written + table.nbytes > layout.DATA_FILE_MB * 2**20:
                if writer is not None:
                    writer.close()
                file_number, written = file_number + 1, 0
                chunk, file = layout.place(file_number)
                relative = layout.DATA_PATH.format(chunk_index=chunk, file_index=file)
                path = root / relative.replace("data/", "data.new/", 1)
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(path, schema, compression="snappy")
            writer.write_table(table, row_group_size=max(len(table), 1))
            written += table.nbytes
            row: dict[str, Any] = {
                "episode_index": number,
                "tasks": [entry.instruction],
                "length": entry.length,
                "data/chunk_index": file_number // layout.CHUNKS_SIZE,
                "data/file_index": file_number % layout.CHUNKS_SIZE,
                "dataset_from_index": start,
                "dataset_to_index": start + entry.length,
            }
            for name in schema.names:
                for key, value in stats.of_vectors(column(table, name)).items():
                    row[f"stats/{name}/{key}"] = value
            rows.append(row)
            start += entry.length
    finally:
        if writer is not None:
            writer.close()
    return rows


def _indexed(entry: EpisodeEntry, number: int, start: int, task: int, schema: Any) -> Any:
    import pyarrow as pa

    table = read_parquet(entry.data_file, row_group=entry.row_group)
    if len(table) != entry.length:
        raise DataError(f"{entry.data_file}: expected {entry.length} rows of {entry.key}, found {len(table)}.")
    own = {"episode_index": np.full(len(table), number), "task_index": np.full(len(table), task)}
    own["index"] = np.arange(start, start + len(table))
    columns = [
        pa.array(own[name].astype(np.int64)) if name in own else table.column(name).combine_chunks()
        for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def column(table: Any, name: str) -> Any:
    """Return one column of a data table as (N,) or (N, D) numpy."""
    values = table.column(name).combine_chunks()
    width = getattr(values.type, "list_size", None)
    if width is None:
        return values.to_numpy(zero_copy_only=False)
    return values.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)


def _episode_row(entry: EpisodeEntry, videos: Mapping[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for camera, number in sorted(videos.items()):
        key = layout.IMAGES + camera
        row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"] = layout.place(number)
        row[f"videos/{key}/from_timestamp"] = 0.0
        row[f"videos/{key}/to_timestamp"] = entry.length / entry.fps
        for name, value in entry.image_stats[camera].items():
            row[f"stats/{key}/{name}"] = value
    row.update({"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
    row.update(suite_task=entry.task, kind=entry.kind, seed=entry.seed, success=entry.success)
    return row


def _stats_of(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    prefix = f"stats/{key}/"
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _calibration(entries: Sequence[EpisodeEntry]) -> dict[str, Any]:
    """Calibration of the first episode, and of those that differ from it."""
    common = {camera: dict(value) for camera, value in entries[0].calibration.items()}
    own = {
        str(number): {camera: dict(value) for camera, value in entry.calibration.items()}
        for number, entry in enumerate(entries)
        if {camera: dict(value) for camera, value in entry.calibration.items()} != common
    }
    return {"cameras": common, "episodes": own}
