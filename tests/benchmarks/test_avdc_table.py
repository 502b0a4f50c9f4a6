import gzip
import importlib
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cascade.contracts import DataError
from cascade.statistics import wilson
from cascade.suites import find_suite

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "avdc_table.py"
SUITE = find_suite("metaworld-11-avdc")


@pytest.fixture(scope="module")
def script():
    """What the script and its module of rows define."""
    sys.path.insert(0, str(SCRIPT.parent))
    names = ("avdc_rows", "avdc_table")
    modules = [importlib.import_module(name) for name in names]
    sys.path.remove(str(SCRIPT.parent))
    yield SimpleNamespace(**{key: value for module in modules for key, value in vars(module).items()})
    for name in names:
        del sys.modules[name]


def row(task="hammer", seed=0, camera="corner", success=True, control=None, digest="aaaa", **more):
    values = {"task": task, "seed": seed, "camera": camera, "success": success, "control": control}
    values |= {"suite": "metaworld-11-avdc", "recipe_digest": digest, "rig_digest": "r", "commit": "c0ffee"}
    values |= {"failure_stage": "none" if success else "timeout", "plans": 2, "steps": 100, "wall_s": 2.0, "load": 1.0}
    values |= {"stage_ms": {"plan": [10.0, 30.0], "extract": [1.0]}, "weights": {"embedded": "w"}}
    return values | {"versions": {"mujoco": "3.3.0"}, "gates": {"plan": {"pass": 2}}, "violations": []} | more


def whole(success, **more):
    cells = product(SUITE.tasks, range(25), SUITE.cameras)
    return [row(task, seed, camera, success(task, seed, camera), **more) for task, seed, camera in cells]


def write(path, rows):
    text = "".join(json.dumps(r) + "\n" for r in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def printed(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def test_a_whole_protocol_is_counted_by_task_camera_and_control(tmp_path):
    ours = whole(lambda task, seed, camera: task != "hammer" and (camera != "corner3" or seed < 10))
    theirs = whole(lambda task, seed, camera: seed < 5, control="wrong-layout")
    paths = [write(tmp_path / "avdc-mine.jsonl.gz", ours), write(tmp_path / "avdc-mine-control.jsonl.gz", theirs)]
    about = {"rows": {"mine": {"title": "my row", "videos": "165", "labels": "no labels"}}, "published": []}
    about["published"] = [{"method": "Other", "all": 40.0, "tasks": dict.fromkeys(SUITE.tasks, 40.0), "source": "page"}]
    (tmp_path / "about.yaml").write_text(yaml.safe_dump(about))
    done = printed(*paths, "--about", tmp_path / "about.yaml")
    assert done.returncode == 0, done.stderr
    lines = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("|")}
    low, high = wilson(60, 75)
    assert f"60/75, 80% ({100 * low:.0f} to {100 * high:.0f})" in lines["door-open"]
    assert "40.0" in lines["door-open"]
    assert "0/75, 0%" in lines["hammer"]
    assert "600/825" in lines["pooled, 95 % Wilson"]
    mean = 100 * 10 / 11 * (1 + 1 + 0.4) / 3
    assert f"**{mean:.1f}**" in lines["mean of the 33 task x camera rates, 95 % bootstrap over layouts"]
    assert "100/275" in lines["corner3"]
    assert "165/825" in lines["my row"]
    assert f"**{mean - 20:.1f}**" in lines["my row"]
    assert lines["videos"].split("|")[2].strip() == "165"
    assert "20.0 / 30.0" in lines["ms per plan, p50 / p99"]
    assert "timeout 225" in lines["failures ended by"]
    assert "Not the whole protocol" not in done.stdout


def test_what_is_missing_or_mixed_is_said(script, tmp_path):
    rows = whole(lambda task, seed, camera: True)
    del rows[0], rows[-1]
    rows[0] |= {"commit": "d00d-dirty", "weights": {"embedded": "other"}}
    rows.append(row("hammer", 100))
    (column,) = script.columns_of([write(tmp_path / "r.jsonl", rows)], {})
    said = "\n".join(script.lacking(column, SUITE))
    assert "lacks 2 of 825 episodes (door-open corner has 24 of 25, assembly corner3 has 24 of 25)" in said
    assert "layouts other than the protocol's 0 to 24 (100 and on)" in said
    assert "mixes commits" in said
    assert "mixes sets of weights" in said
    assert "not committed" in said
    assert "versions" not in said
    text = script.document([column], [])
    assert "Not the whole protocol" in text
    assert "not run" in text  # its control


def test_a_cell_without_episodes_is_a_dash_and_no_zero(script, tmp_path):
    (column,) = script.columns_of([write(tmp_path / "r.jsonl", [row("hammer", 100), row("hammer", 101)])], {})
    lines = script.main_table([column], [], SUITE).splitlines()
    assert next(line for line in lines if "door-open" in line).split("|")[2].strip() == "–"
    assert script.mean_of_cells(column.values()) == 1.0


def test_rows_of_other_recipes_are_other_columns_and_an_episode_counts_once(script, tmp_path):
    first = write(tmp_path / "avdc-a.jsonl", [row(seed=1), row(seed=2, digest="bbbb")])
    again = write(tmp_path / "avdc-b.jsonl.gz", [row(seed=1), row(seed=3, success=False)])
    columns = script.columns_of([first, again], {})
    assert [(c.name, sorted(r["seed"] for r in c.rows)) for c in columns] == [("a", [1, 3]), ("a", [2])]
    with pytest.raises(DataError, match="twice and ended differently"):
        script.columns_of([first, write(tmp_path / "c.jsonl", [row(seed=1, success=False)])], {})


def test_files_that_are_no_rows_are_refused_and_a_cut_line_is_left_out(script, tmp_path):
    cut = tmp_path / "cut.jsonl"
    cut.write_text(json.dumps(row()) + "\n" + json.dumps(row(seed=2))[:30])
    assert len(script.read_rows(cut)) == 1
    cut.write_text("oh\n" + json.dumps(row()) + "\n")
    with pytest.raises(DataError, match=r"cut\.jsonl:1: expected one JSON object"):
        script.read_rows(cut)
    done = printed(write(tmp_path / "x.jsonl", [{"task": "hammer"}]))
    assert done.returncode == 1
    assert "expected an episode of `cascade eval`" in done.stderr
    assert "Traceback" not in done.stderr
    done = printed(tmp_path / "nowhere.jsonl")
    assert done.returncode == 1
    assert "cannot be read" in done.stderr


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=12))
def test_the_interval_holds_the_mean_and_a_layout_keeps_its_cameras(script, layouts):
    values = {("hammer", c): {i: float(seen[k]) for i, seen in enumerate(layouts)} for k, c in enumerate("abc")}
    low, high = script.bootstrap(values, draws=400)
    assert low - 1e-9 <= script.mean_of_cells(values) <= high + 1e-9 or len(layouts) < 5
    assert 0.0 <= low <= high <= 1.0


def test_cameras_that_agree_bring_no_more_certainty_than_one(script):
    rng = np.random.default_rng(0)
    seen = {i: float(v) for i, v in enumerate(rng.random(25) < 0.6)}
    one = script.bootstrap({("hammer", "a"): seen})
    three = script.bootstrap({("hammer", c): seen for c in "abc"})
    assert three == pytest.approx(one, abs=0.03)
    assert three[1] - three[0] > 0.25  # as 25 episodes, not 75, allow
    assert script.bootstrap({("hammer", "a"): {0: 1.0}}) is None


def test_the_gap_counts_only_episodes_of_both(script, tmp_path):
    ours = [row(seed=seed) for seed in range(4)]
    theirs = [row(seed=seed, success=seed == 2, control="wrong-layout") for seed in (1, 2)]
    columns = script.columns_of([write(tmp_path / "a.jsonl", ours), write(tmp_path / "a-control.jsonl", theirs)], {})
    difference, _, n = script.gap(*columns)
    assert (difference, n) == (0.5, 2)
    assert "**50.0**" in script.control_table(columns)


def test_the_published_figures_are_the_mean_of_their_tasks_where_these_are_known():
    about = yaml.safe_load((ROOT / "benchmarks" / "results" / "avdc.yaml").read_text())
    for method in about["published"]:
        if "tasks" in method:
            assert set(method["tasks"]) == set(SUITE.tasks)
            assert np.mean(list(method["tasks"].values())) == pytest.approx(method["all"], abs=0.6), method["method"]


def test_a_row_of_weights_that_are_not_there_is_passed_over_and_said_to_be(tmp_path):
    about = {"rows": {"trained": {"run": "--recipe best", "needs": str(tmp_path / "weights")}}, "published": []}
    (tmp_path / "about.yaml").write_text(yaml.safe_dump(about))
    done = printed("--about", tmp_path / "about.yaml", "--run", tmp_path / "out")
    assert "trained: passed over" in done.stderr
    assert "docs/data.md" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_protocol_runs_anew_and_goes_on_where_it_was(tmp_path):
    about = {"rows": {"tiny": {"run": "--recipe unipi --set extractor.options.fuse=latents"}}, "published": []}
    (tmp_path / "about.yaml").write_text(yaml.safe_dump(about))
    few = "--tasks handle-press --cameras corner --episodes 1 --seed 100"
    arguments = ("--about", tmp_path / "about.yaml", "--run", tmp_path / "out", "--eval", few)
    first = printed(*arguments)
    assert first.returncode == 0, first.stderr
    assert "lacks 825 of 825" in first.stdout
    assert "| tiny, wrong-layout |" in first.stdout.replace("tiny | tiny, ", "tiny, ")
    packed = (tmp_path / "out" / "avdc-tiny-control.jsonl.gz").read_bytes()
    again = printed(*arguments)
    assert again.stdout == first.stdout
    assert (tmp_path / "out" / "avdc-tiny-control.jsonl.gz").read_bytes() == packed


def test_a_control_of_other_weights_is_shown_but_not_subtracted(script, tmp_path):
    ours = [row(seed=seed, weights={"embedded": "new"}) for seed in (1, 2)]
    theirs = [row(seed=seed, success=False, control="wrong-layout", weights={"embedded": "old"}) for seed in (1, 2)]
    columns = script.columns_of([write(tmp_path / "a.jsonl", ours), write(tmp_path / "a-control.jsonl", theirs)], {})
    text = script.control_table(columns)
    assert "other weights" in text
    assert "not comparable" in text
    assert "**" not in text
