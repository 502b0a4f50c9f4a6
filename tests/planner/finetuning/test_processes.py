"""The command as people run it: recorded simulation, one process and two, the same curve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
OPTIONS = {
    "width_px": 64,
    "num_frames": 9,
    "prompt_profile": "plain",
    "steps": 15,
    "rank": 8,
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "device": "cpu",
    "mixed_precision": "no",
    "sample_every": 0,
}


def run(*arguments):
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def losses(output):
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["stage"] == "fine-tuning"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "expert"
    run(BIN / "cascade", "record", "-o", folder, "--tasks", "door-open,drawer-open", "--episodes", 2, "--every", 4)
    return folder


@pytest.fixture(scope="module")
def command(recorded, tiny_model):
    settings = [f"--set={key}={value}" for key, value in OPTIONS.items()]
    model = f"--set=model={tiny_model('wan21-i2v')}"
    return [BIN / "cascade", "train", "planner", recorded, "--backend", "diffusers", "--json", model, *settings]


@pytest.mark.timeout(1200)
def test_two_processes_learn_what_one_learns_and_the_loss_falls(command, tmp_path):
    document = json.loads(run(*command, "-o", tmp_path / "one"))
    assert document["stage"] == "diffusers"
    assert document["scores"]["measured_after"] < 0.9 * document["scores"]["measured_before"]
    launched = [BIN / "torchrun", "--standalone", "--nproc-per-node", 2, *command]
    assert json.loads(run(*launched, "-o", tmp_path / "two"))["scores"]["steps"] == OPTIONS["steps"]  # said once
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    np.testing.assert_allclose(two, one, rtol=1e-3)
    assert len(one) == OPTIONS["steps"]
    assert one[-1] < 0.95 * one[0]
