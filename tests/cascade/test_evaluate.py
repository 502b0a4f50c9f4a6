import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.cli.evaluate import _camera_table
from cascade.compose import compose
from cascade.config import load_recipe, load_rig
from cascade.contracts import ConfigError, PluginError
from cascade.episodes import open_log
from cascade.evaluate import Evaluation, run_evaluation, summarise
from cascade.suites import SUITES, expand_tasks, find_suite, suite_settings

SET = ["--set", "extractor.options.fuse=latents"]


def evaluation(**changes):
    recipe = load_recipe("unipi", ["extractor.options.fuse=latents", "execution.replans=0"])
    oracle = recipe.planner.model_copy(update={"name": "oracle", "options": {"readout": True}})
    values = {
        "suite": "metaworld-11",
        "tasks": ("handle-press", "faucet-close"),
        "rig": load_rig("sim"),
        "recipe": recipe.model_copy(update={"planner": oracle}),
        "episodes": 1,
        "seed": 400,
    }
    return Evaluation(**{**values, **changes})


def row(task="a", seed=0, success=True, stage="none", **more):
    values = {"task": task, "seed": seed, "camera": None, "success": success, "failure_stage": stage, "error": None}
    return {**values, "stage_ms": {"plan": [1.0, 3.0]}, "weights": {}, **more}


def test_an_evaluation_writes_one_line_per_episode_and_goes_on_where_it_was_interrupted(tmp_path):
    told = []
    result = run_evaluation(evaluation(), tmp_path, jobs=2, on_row=told.append)
    wanted = {"schema_version", "suite", "recipe", "planner", "episodes", "success", "tasks", "latency_ms", "failures"}
    assert wanted <= set(result)
    assert result["episodes"] == 2
    assert result["success"]["rate"] == 1.0
    assert result["success"]["ci95"][0] == pytest.approx(0.3424, abs=1e-3)
    assert result["tasks"]["handle-press"] == {"rate": 1.0, "ci95": [0.2065, 1.0], "n": 1}
    assert {"plan", "extract", "gate_chunk", "motion"} <= set(result["latency_ms"])
    assert json.loads((tmp_path / "result.json").read_text()) == result

    lines = (tmp_path / "episodes.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["task"] for line in lines) == ["faucet-close", "handle-press"]
    assert len(told) == 2
    first = json.loads(lines[0])
    assert first["plan"]["expert_succeeded"] is True
    assert first["plan_steps"] == [first["steps"]]
    assert first["gates"]["plan"] == {"pass": 1}
    assert sum(first["gates"]["chunk"].values()) == first["chunks"] >= 1
    assert first["motion_end"] == "success"
    assert first["wall_s"] > sum(first["stage_ms"]["motion"]) / 1e3
    assert (first["suite"], first["control"], first["recipe"]) == ("metaworld-11", None, "unipi")
    assert first["versions"]["mujoco"]
    assert {"commit", "weights", "rig_digest"} <= set(first)

    with pytest.raises(ConfigError, match=r"found an evaluation.*--resume"):
        run_evaluation(evaluation(), tmp_path)
    with pytest.raises(ConfigError, match=r"another evaluation \(different: seed\)"):
        run_evaluation(evaluation(seed=401), tmp_path, resume=True)

    (tmp_path / "episodes.jsonl").write_text(lines[0] + "\n" + lines[1][:40])  # as a kill would leave it
    again = []
    result = run_evaluation(evaluation(), tmp_path, resume=True, on_row=again.append)
    assert [r["task"] for r in again] == [json.loads(line)["task"] for line in lines]
    assert result["episodes"] == 2
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 2


def test_a_log_may_be_continued_with_more_episodes_but_not_with_fewer(tmp_path):
    def opened(**values):
        return open_log({"seed": 1} | values, tmp_path, kind="evaluation", resume=True, grows="episodes")

    assert opened(episodes=2) == []
    (tmp_path / "episodes.jsonl").write_text('{"task": "door-open"}\n')
    assert opened(episodes=5) == [{"task": "door-open"}]
    with pytest.raises(ConfigError, match=r"different: episodes"):
        opened(episodes=2)
    with pytest.raises(ConfigError, match=r"different: seed"):
        opened(episodes=6, seed=2)


def test_rows_of_other_settings_have_another_digest():
    same, other = evaluation(), evaluation(recipe=load_recipe("unipi", ["execution.replans=1"]))
    assert evaluation().facts()["recipe_digest"] == same.facts()["recipe_digest"] != other.facts()["recipe_digest"]
    changed = evaluation(rig=load_rig("sim", ["options.starts=avdc"]))
    assert same.facts()["rig_digest"] != changed.facts()["rig_digest"]


def test_what_the_gate_refuses_stands_in_the_row(tmp_path):
    strict = load_rig("sim", ["limits.max_step_m=0.001"])
    (row,) = _rows(tmp_path, evaluation(tasks=("handle-press",), rig=strict))
    assert row["outcome"] == "rejected"
    assert row["gates"]["chunk"] == {"reject": 1}
    assert row["violations"][0]["subject"] == "chunk"
    assert row["violations"][0]["value"] > row["violations"][0]["limit"]
    assert row["motion_end"] == ""


def _rows(folder, measured):
    run_evaluation(measured, folder)
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def test_workers_end_when_the_evaluation_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while _runs(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(worker)


KILLED = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from cascade.episodes import ignore_interrupts
pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=ignore_interrupts)
print(pool.submit(os.getpid).result(), flush=True)
time.sleep(600)
"""


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_what_a_killed_evaluation_goes_on_with_equals_what_was_never_killed(tmp_path):
    measure = [sys.executable, "-c", "from cascade.cli.app import main; main()", "eval", "metaworld-11"]
    measure += ["--tasks", "handle-press,button-press", "--episodes", "2", "--seed", "400", *SET, "-o"]
    subprocess.run([*measure, str(tmp_path / "whole")], check=True, capture_output=True)
    killed = tmp_path / "killed"
    first = subprocess.Popen(
        [*measure, str(killed), "--jobs", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    lines, deadline = killed / "episodes.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (lines.exists() and lines.read_text()):
        time.sleep(0.02)
    first.kill()
    first.wait()
    kept = lines.read_text().splitlines()
    assert 1 <= len(kept) < 4
    subprocess.run([*measure, str(killed), "--resume"], check=True, capture_output=True)
    assert lines.read_text().splitlines()[: len(kept)] == kept
    told = ("task", "seed", "success", "steps", "plans", "plan_steps", "gates", "verdict")
    both = [
        sorted(tuple(str(row[key]) for key in told) for row in map(json.loads, path.read_text().splitlines()))
        for path in (lines, tmp_path / "whole" / "episodes.jsonl")
    ]
    assert both[0] == both[1]


def test_what_cannot_be_built_is_told_instead_of_counted(tmp_path):
    recipe = evaluation().recipe
    missing = recipe.planner.model_copy(update={"name": "nobody"})
    with pytest.raises(PluginError, match="planner 'nobody'"):
        run_evaluation(evaluation(recipe=recipe.model_copy(update={"planner": missing})), tmp_path, jobs=1)


def test_failures_are_counted_by_stage_and_latencies_pooled():
    rows = [row(), row(seed=1, success=False, stage="motion"), row(task="b", success=False, stage="gate")]
    result = summarise(evaluation(tasks=("a", "b")), rows)
    assert result["success"]["rate"] == pytest.approx(1 / 3, abs=1e-4)
    assert result["tasks"]["a"]["rate"] == 0.5
    assert result["tasks"]["b"] == {"rate": 0.0, "ci95": [0.0, pytest.approx(0.7935, abs=1e-4)], "n": 1}
    assert result["failures"] == {"motion": 1, "gate": 1}
    assert result["latency_ms"]["plan"]["p50"] == 2.0


def test_rates_are_also_told_by_camera():
    rows = [row(camera="corner"), row(camera="corner2", success=False, stage="motion"), row(task="b", camera="corner2")]
    result = summarise(evaluation(tasks=("a", "b"), cameras=("corner", "corner2")), rows)
    assert result["by_camera"]["corner"]["success"]["n"] == 1
    assert result["by_camera"]["corner2"]["success"]["rate"] == 0.5
    assert result["by_camera"]["corner2"]["tasks"]["a"]["rate"] == 0.0
    assert result["by_camera"]["corner2"]["tasks"]["b"]["rate"] == 1.0
    assert summarise(evaluation(tasks=("a", "b")), rows)["by_camera"] == {}
    shown = io.StringIO()
    Console(file=shown, width=100).print(_camera_table(result))
    assert "0/1" in shown.getvalue()
    assert "1/2" in shown.getvalue()


def test_jobs_go_round_the_tasks_and_use_the_seeds_from_the_first_on():
    jobs = evaluation(episodes=2, cameras=("corner", "corner2")).jobs()
    assert [job.key for job in jobs[:5]] == [
        ("handle-press", 400, "corner"),
        ("faucet-close", 400, "corner"),
        ("handle-press", 400, "corner2"),
        ("faucet-close", 400, "corner2"),
        ("handle-press", 401, "corner"),
    ]
    assert len(jobs) == 8
    assert len({job.key for job in jobs}) == 8


def test_both_suites_have_the_eleven_tasks_of_the_table():
    for name in ("metaworld-11", "metaworld-11-avdc"):
        assert len(find_suite(name).tasks) == len(set(find_suite(name).tasks)) == 11
    with pytest.raises(ConfigError, match="Did you mean 'metaworld-11'"):
        find_suite("metaworld11")
    assert expand_tasks("door-open, hammer,door-open") == ("door-open", "hammer")
    assert expand_tasks("metaworld-11-avdc") == SUITES["metaworld-11"].tasks
    with pytest.raises(ConfigError, match="found none"):
        expand_tasks(" , ")


def test_the_protocol_of_the_table_sets_up_the_rig_and_grants_five_replans():
    assert suite_settings(find_suite("metaworld-11")) == []
    run, _ = compose(
        instruction="",
        task=None,
        seed=0,
        rig="sim",
        recipe="unipi",
        overrides=suite_settings(find_suite("metaworld-11-avdc")),
    )
    options = run.rig.options
    assert (options["starts"], options["width"], options["height"]) == ("avdc", 320, 240)
    assert options["limits"]["workspace_m"][0] == [-0.85, 0.05, -0.02]
    assert options["limits"]["max_speed_m_s"] == 1.0  # the other limits stay as the rig has them
    assert run.recipe.execution.replans == 5


def test_what_the_suite_sets_is_the_default_and_flags_come_after(tmp_path, monkeypatch):
    seen = []

    def note(evaluation, folder, **more):
        seen.append(evaluation)
        raise KeyboardInterrupt

    monkeypatch.setattr("cascade.evaluate.run_evaluation", note)
    runner = CliRunner()
    own = ["eval", "metaworld-11-avdc", "--runs", str(tmp_path)]
    other = [*own, "--seed", "100", "--cameras", "corner2", "--episodes", "2", "--set", "rig.options.starts=stock"]
    for arguments in (own, other, ["eval", "metaworld-11", "--runs", str(tmp_path)]):
        assert runner.invoke(app, arguments).exit_code == 130
    table, changed, stock = seen
    assert (table.cameras, table.episodes, table.seed) == (("corner", "corner2", "corner3"), 25, 0)
    assert len(table.jobs()) == 825
    assert (changed.cameras, changed.episodes, changed.seed) == (("corner2",), 2, 100)
    assert (changed.rig.options["starts"], changed.rig.options["width"]) == ("stock", 320)
    assert (stock.cameras, stock.episodes, stock.seed) == ((), 5, 200)
    assert "starts" not in stock.rig.options
