"""Names, types and paths of LeRobotDataset v3 as its readers expect them.

The format: `meta/info.json` describes the features, `data/` holds one Parquet row per frame with one row group per
episode, `meta/episodes/` one row per episode with where its rows and its video are, `videos/<key>/` the pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CODEBASE_VERSION = "v3.0"
CHUNKS_SIZE = 1000  # files per chunk folder
DATA_FILE_MB = 100
VIDEO_FILE_MB = 500
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
IMAGES = "observation.images."
POSE_NAMES = ["x", "y", "z", "qw", "qx", "qy", "qz", "opening"]
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def _vector() -> dict[str, Any]:
    return {"dtype": "float32", "shape": [8], "names": list(POSE_NAMES)}


def _scalar(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def table_features() -> dict[str, dict[str, Any]]:
    """Return the features stored in Parquet, in column order."""
    return {
        "observation.state": _vector(),
        "action": _vector(),
        "action.asked": _vector(),
        "next.success": _scalar("bool"),
        "capture_time_s": _scalar("float64"),
        "timestamp": _scalar("float32"),
        "frame_index": _scalar("int64"),
        "episode_index": _scalar("int64"),
        "index": _scalar("int64"),
        "task_index": _scalar("int64"),
    }


def features(cameras: Mapping[str, tuple[int, int]], fps: float) -> dict[str, dict[str, Any]]:
    """Return all features of a set whose `cameras` have the given (height, width)."""
    video: dict[str, dict[str, Any]] = {}
    for camera, (height, width) in sorted(cameras.items()):
        video[IMAGES + camera] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv444p",
                "video.is_depth_map": False,
                "video.fps": whole(fps),
                "video.channels": 3,
                "has_audio": False,
            },
        }
    return {**video, **table_features()}


def whole(value: float) -> int | float:
    """Return an int where the value is one: readers of the format expect whole frame rates."""
    return int(value) if float(value).is_integer() else float(value)


def info(cameras: Mapping[str, tuple[int, int]], fps: float, robot: str, episodes: int, frames: int, tasks: int) -> Any:
    """Return the content of meta/info.json."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": whole(fps),
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features(cameras, fps),
    }


def arrow_schema() -> Any:
    """Return the Arrow schema of the data files: scalars for shape (1,), fixed-size lists for vectors."""
    import pyarrow as pa

    types = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}
    fields = []
    for name, feature in table_features().items():
        kind, size = types[feature["dtype"]], feature["shape"][0]
        fields.append(pa.field(name, kind if size == 1 else pa.list_(kind, size)))
    return pa.schema(fields)


def tasks_table(instructions: list[str]) -> Any:
    """Return meta/tasks.parquet: readers load it with pandas and expect the sentence to be the index."""
    import pyarrow as pa

    def column(name: str, kind: str) -> dict[str, Any]:
        numpy_type = "object" if kind == "unicode" else kind
        return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}

    meta = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [column("task_index", "int64"), column("task", "unicode")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(range(len(instructions)), pa.int64()), "task": instructions})
    return table.replace_schema_metadata({"pandas": json.dumps(meta)})


def place(number: int) -> tuple[int, int]:
    """Return (chunk_index, file_index) of the `number`-th file."""
    return number // CHUNKS_SIZE, number % CHUNKS_SIZE
