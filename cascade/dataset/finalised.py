"""Reading the metadata of a set in LeRobotDataset v3 layout, with every inconsistency named."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cascade.contracts import DataError
from cascade.dataset import format as layout
from cascade.dataset.entries import EpisodeEntry, read_json
from cascade.dataset.manifest import read_manifest
from cascade.dataset.stats import QUANTILES

INFO = "meta/info.json"
CALIBRATION = "meta/calibration.json"
MERGING = "merge.ready"
_INFO_KEYS = ("codebase_version", "fps", "features", "data_path", "video_path", "total_episodes", "total_frames")
_STAT_NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)


def read_parquet(path: Path, *, row_group: int | None = None) -> Any:
    """Return the table (or one row group) of a Parquet file; raises DataError when it is missing or broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path}: expected a Parquet file, found none.", "Restore it or record the set again.")
    try:
        stamp = path.stat()
        with pq.ParquetFile(path, metadata=_footer(path, stamp.st_size, stamp.st_mtime_ns)) as file:
            return file.read() if row_group is None else file.read_row_group(row_group)
    except (pa.ArrowException, OSError, IndexError) as error:
        problem = f"{path}: expected a complete Parquet file, found a broken one ({error})."
        raise DataError(problem, "It was cut short or changed; restore it or record the set again.") from error


@lru_cache(maxsize=8)
def _footer(path: Path, size: int, changed_ns: int) -> Any:
    """Footers of large sets take milliseconds to parse; size and time say whether the file is still the same."""
    import pyarrow.parquet as pq

    return pq.read_metadata(path)


def read_info(root: Path) -> dict[str, Any]:
    """Return meta/info.json; raises DataError when its version or features are not those we can read."""
    info: dict[str, Any] = read_json(root / INFO)
    missing = [key for key in _INFO_KEYS if key not in info]
    if missing:
        raise DataError(f"{root / INFO}: expected the keys of LeRobotDataset v3, missing {', '.join(missing)}.")
    if info["codebase_version"] != layout.CODEBASE_VERSION:
        problem = f"{root / INFO}: expected codebase_version {layout.CODEBASE_VERSION}, "
        problem += f"found {info['codebase_version']}."
        raise DataError(problem, "Convert the set with the tools of its own version first.")
    for name, wanted in layout.table_features().items():
        found = info["features"].get(name)
        if found is None:
            raise DataError(f"{root / INFO}: expected feature {name!r}, found none.", "Record with `cascade record`.")
        if found["dtype"] != wanted["dtype"] or list(found["shape"]) != wanted["shape"]:
            expected = f"{wanted['dtype']} {wanted['shape']}"
            raise DataError(f"{root / INFO}: {name}: expected {expected}, found {found['dtype']} {found['shape']}.")
    return info


def finalised_entries(root: Path) -> list[EpisodeEntry]:
    """Return the episodes of the finalised set at `root`, in their order."""
    info = read_info(root)
    manifest = read_manifest(root)["episodes"]
    calibration = read_json(root / CALIBRATION)
    table = read_parquet(root / layout.EPISODES_PATH)
    rows = table.to_pylist()
    if not len(rows) == len(manifest) == info["total_episodes"]:
        counts = f"{len(rows)} rows, {len(manifest)} in the manifest and {info['total_episodes']} in info.json"
        raise DataError(f"{root}: expected one number of episodes, found {counts}.", "Restore the folder meta/.")
    cameras = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    row_groups: dict[Path, int] = {}
    entries = []
    for row, known in zip(rows, manifest, strict=True):
        path = root / info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        group = row_groups.get(path, 0)
        row_groups[path] = group + 1
        videos = {key.removeprefix(layout.IMAGES): _video(root, info, row, key) for key in cameras}
        own = {**calibration["cameras"], **calibration["episodes"].get(str(row["episode_index"]), {})}
        entries.append(
            EpisodeEntry(
                task=known["task"],
                instruction=known["instruction"],
                kind=known["kind"],
                seed=known["seed"],
                success=known["success"],
                length=row["length"],
                fps=float(info["fps"]),
                sha256=known["sha256"],
                data_file=path,
                row_group=group,
                videos=videos,
                calibration={camera: own[camera] for camera in videos},
                image_stats={key.removeprefix(layout.IMAGES): _image_stats(row, key) for key in cameras},
            )
        )
    return entries


def _video(root: Path, info: Mapping[str, Any], row: Mapping[str, Any], key: str) -> tuple[Path, float]:
    chunk, file = row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]
    path = root / info["video_path"].format(video_key=key, chunk_index=chunk, file_index=file)
    return path, float(row[f"videos/{key}/from_timestamp"])


def _image_stats(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: row[f"stats/{key}/{name}"] for name in _STAT_NAMES}
