"""The files are those a reader of LeRobotDataset v3 looks for, in the types it casts them to.

The expectations are those of that format's own loader (info.json keys, pandas index of tasks.parquet, feature types,
statistics shapes, file tables); the package itself needs other versions of torch and Python and is not run here.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.dataset.merge import finalize
from cascade.dataset.staging import write_episode

VIDEO = "observation.images.corner"


@pytest.fixture
def root(tmp_path, make_episode):
    for seed, count in ((1000, 12), (1001, 7)):
        write_episode(tmp_path, make_episode("door-open", seed, count))
    write_episode(tmp_path, make_episode("button-press", 1000, 5))
    finalize(tmp_path)
    return tmp_path


@pytest.fixture
def episodes(root):
    return pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def test_info_describes_version_totals_paths_and_features(root):
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (3, 24, 2, 40)
    assert isinstance(info["fps"], int)
    assert info["splits"] == {"train": "0:3"}
    assert info["chunks_size"] == 1000
    assert info["features"][VIDEO]["dtype"] == "video"
    assert info["features"][VIDEO]["shape"] == [64, 64, 3]
    assert info["features"][VIDEO]["info"]["video.pix_fmt"] == "yuv444p"
    for name, dtype in {"timestamp": "float32", "frame_index": "int64", "task_index": "int64"}.items():
        assert info["features"][name] == {"dtype": dtype, "shape": [1], "names": None}
    assert not any("/" in name for name in info["features"])


def test_data_columns_are_exactly_the_features_in_the_types_they_are_cast_to(root):
    info = json.loads((root / "meta/info.json").read_text())
    schema = pq.read_schema(root / "data/chunk-000/file-000.parquet")
    assert set(schema.names) == {name for name, f in info["features"].items() if f["dtype"] != "video"}
    assert schema.field("observation.state").type == pa.list_(pa.float32(), 8)
    assert schema.field("next.success").type == pa.bool_()
    assert schema.field("capture_time_s").type == pa.float64()


def test_row_groups_and_indices_follow_the_episodes(root, episodes):
    file = pq.ParquetFile(root / "data/chunk-000/file-000.parquet")
    assert file.num_row_groups == 3
    start = 0
    for number, row in enumerate(episodes):
        group = file.read_row_group(number).to_pydict()
        assert (row["episode_index"], row["dataset_from_index"]) == (number, start)
        assert row["dataset_to_index"] == start + row["length"]
        assert group["index"] == list(range(start, start + row["length"]))
        assert group["frame_index"] == list(range(row["length"]))
        assert set(group["episode_index"]) == {number}
        np.testing.assert_allclose(group["timestamp"], np.arange(row["length"]) / 40, atol=1e-6)
        start += row["length"]


def test_videos_are_where_the_episode_table_says(root, episodes):
    info = json.loads((root / "meta/info.json").read_text())
    for row in episodes:
        place = {part: row[f"videos/{VIDEO}/{part}"] for part in ("chunk_index", "file_index")}
        assert (root / info["video_path"].format(video_key=VIDEO, **place)).is_file()
        assert row[f"videos/{VIDEO}/from_timestamp"] == 0.0
        assert row[f"videos/{VIDEO}/to_timestamp"] == pytest.approx(row["length"] / 40)
        assert (row["data/chunk_index"], row["data/file_index"]) == (0, 0)
        assert (row["meta/episodes/chunk_index"], row["meta/episodes/file_index"]) == (0, 0)


def test_tasks_have_the_sentence_as_pandas_index(root, episodes):
    table = pq.read_table(root / "meta/tasks.parquet")
    pandas = json.loads(table.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    sentences = dict(zip(table["task_index"].to_pylist(), table["task"].to_pylist(), strict=True))
    assert sentences == {0: "do button-press", 1: "do door-open"}
    data = pq.read_table(root / "data/chunk-000/file-000.parquet")
    for row in episodes:
        assert row["tasks"] == [sentences[data["task_index"][row["dataset_from_index"]].as_py()]]


def test_statistics_have_the_shapes_and_values_of_the_data(root, episodes):
    stats = json.loads((root / "meta/stats.json").read_text())
    state = np.array(pq.read_table(root / "data/chunk-000/file-000.parquet")["observation.state"].to_pylist())
    for name, wanted in (("min", state.min(0)), ("max", state.max(0)), ("mean", state.mean(0)), ("std", state.std(0))):
        np.testing.assert_allclose(stats["observation.state"][name], wanted, atol=1e-6)
    assert stats["observation.state"]["count"] == [24]
    assert np.shape(stats[VIDEO]["mean"]) == (3, 1, 1)
    assert 0 <= np.min(stats[VIDEO]["min"]) < np.max(stats[VIDEO]["max"]) <= 1
    assert np.shape(episodes[0][f"stats/{VIDEO}/q99"]) == (3, 1, 1)
    assert len(episodes[0]["stats/action/q01"]) == 8
    assert len(episodes[0]["stats/next.success/mean"]) == 1


def test_image_statistics_are_those_of_the_pixels(make_episode, tmp_path):
    from cascade.dataset.stats import of_images

    frames = make_episode().frames["corner"]
    found = of_images(frames)
    scaled = frames.reshape(-1, 3) / 255.0
    np.testing.assert_allclose(np.ravel(found["mean"]), scaled.mean(0))
    np.testing.assert_allclose(np.ravel(found["std"]), scaled.std(0))
    np.testing.assert_allclose(np.ravel(found["q50"]), np.quantile(scaled, 0.5, axis=0), atol=1 / 255)
