import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def script():
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("flow_fit")
    sys.path.remove(folder)
    del sys.modules["flow_fit"]


def test_kept_plans_are_taken_from_every_task_before_any_gives_two(script, tmp_path):
    for name in ("corner-hammer-100", "corner-hammer-101", "corner-door-open-100", "corner2-hammer-100"):
        (tmp_path / f"avdc-{name}-16").mkdir()
    (tmp_path / "avdc-corner-hammer-100-8").mkdir()  # of another length
    assert [entry[:2] for entry in script.chosen(tmp_path, ["corner"], 2)] == [("door-open", 100), ("hammer", 100)]
    assert len(script.chosen(tmp_path, ["corner"], 9)) == 3
    assert len(script.chosen(tmp_path, ["corner", "corner2"], 9)) == 4
    assert script.chosen(tmp_path / "none", ["corner"], 9) == []


def test_the_table_tells_the_steps_that_were_timed(script):
    (line,) = script.table({"fit": [10.0, 20.0, 30.0], "search": []})
    assert line.split() == ["fit", "n", "3", "p50", "20.0", "p95", "29.0", "max", "30.0"]
