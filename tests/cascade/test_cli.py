"""The command line as a person and a script meet it: in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cascade.contracts.video import write_mp4

CASCADE = [sys.executable, "-c", "from cascade.cli.app import main; main()"]
ORACLE = [
    "--planner",
    "oracle",
    "--set",
    "planner.options.readout=true",
    "--set",
    "extractor.options.fuse=latents",
]


def cascade(*arguments, cwd, **more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        [*CASCADE, *arguments], cwd=cwd, capture_output=True, text=True, env=environment, timeout=280, **more
    )


@pytest.fixture
def here(tmp_path, capsys, monkeypatch):
    """Run a command in this process, where that makes no difference: a process of its own imports for seconds."""
    from cascade.cli import app

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cascade", *arguments])
        with pytest.raises(SystemExit) as stop:
            app.main()
        said = capsys.readouterr()
        return SimpleNamespace(returncode=stop.value.code, stdout=said.out, stderr=said.err)

    return run


def fails(done, code, *parts):
    """Check that there is one message, the exit code, and neither traceback nor result."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for part in parts:
        assert part in done.stderr
    return True


COMMANDS = ["run", "plan", "extract", "replay", "inspect", "eval", "record", "train", "doctor", "plugins", "config"]


def test_help_imports_no_heavy_library_and_names_all_commands(tmp_path):
    code = (
        "import sys; sys.argv = ['cascade', '--help']\n"
        "from cascade.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'cv2', 'mujoco', 'metaworld', 'diffusers', 'numpy', 'pydantic', 'scipy')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    from typer.testing import CliRunner

    from cascade.cli.app import app

    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output


def test_every_option_has_a_help_text():
    from cascade.cli.app import COMMANDS as TABLE
    from cascade.cli.app import _load

    for name, (module, attribute, _) in TABLE.items():
        command = _load(module, attribute, name)
        for sub in [command, *getattr(command, "commands", {}).values()]:
            for parameter in sub.params:
                assert getattr(parameter, "help", None), f"{name}: {parameter.name}"


def test_a_run_prints_one_json_document_and_its_plan_can_be_read_and_replayed(tmp_path):
    done = cascade("run", "press the handle down", *ORACLE, "--seed", "5", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["success"] is True
    folder = tmp_path / document["run"]
    assert (folder / "report.html").is_file()
    assert "report.html" in done.stderr
    assert json.loads((folder / "run.json").read_text())["task"] == "handle-press"

    done = cascade("extract", str(folder), cwd=tmp_path)
    chunk = json.loads(done.stdout)
    stored = json.loads((folder / "chunks" / "000.json").read_text())
    assert np.allclose(chunk["values"], stored["values"], atol=1e-6)
    assert chunk["gate"]["verdict"] in ("pass", "clip")

    done = cascade("replay", str(folder), "--json", cwd=tmp_path)
    again = json.loads(done.stdout)
    assert again["success"] is True
    assert again["steps"] == document["steps"]
    assert again["run"] != document["run"]


@pytest.mark.slow
def test_two_runs_at_once_do_not_disturb_each_other(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [*CASCADE, "run", "close the faucet", "--task", "faucet-close", *ORACLE, "--json"]
    both = [
        subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    documents = [json.loads(process.communicate(timeout=280)[0]) for process in both]
    assert [document["outcome"] for document in documents] == ["success", "success"]
    assert documents[0]["run"] != documents[1]["run"]
    assert documents[0]["steps"] == documents[1]["steps"]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_while_the_arm_moves_stops_it_and_the_run_is_written(tmp_path, number):
    # Time to press the keys: the fingers close for a simulated hour, every step is filmed, in a large picture.
    slow = [*ORACLE, "--set", "extractor.options.dwell_s=3600", "--set", "execution.video_every=1"]
    slow += ["--set", "rig.options.width=384", "--set", "rig.options.height=384"]
    process = subprocess.Popen(
        [*CASCADE, "run", "assemble", "--task", "assembly", *slow],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not list(tmp_path.glob("runs/*/trajectory.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    (folder,) = tmp_path.glob("runs/*")
    facts = json.loads((folder / "run.json").read_text())
    assert (facts["status"], facts["outcome"]) == ("done", "interrupted")
    assert "the arm holds" in facts["verdict"]
    assert out.strip() == str(folder.relative_to(tmp_path))
    last = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()][-1]
    assert (last["kind"], last["outcome"]) == ("outcome", "interrupted")


@pytest.mark.slow
def test_an_evaluation_of_the_control_prints_one_json_document(tmp_path):
    tasks = ["--tasks", "handle-press", "--episodes", "1", "--control", "wrong-layout"]
    done = cascade("eval", "metaworld-11", *tasks, *ORACLE, "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["control"] == "wrong-layout"
    assert (document["suite"], document["recipe"], document["planner"]) == ("metaworld-11", "unipi", "oracle")
    assert document["tasks"]["handle-press"]["n"] == document["episodes"] == 1
    assert set(document["success"]) >= {"rate", "ci95"}
    assert set(document["latency_ms"]["extract"]) == {"p50", "p99"}
    (line,) = (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["plan"]["layout_seed"] == row["seed"] + 1000


def corrupt_mp4(folder):
    (folder / "broken.mp4").write_bytes(b"\0" * 400)
    return ["run", "open the door", "--planner", "file", "--plan", "broken.mp4", *ORACLE[4:]]


def short_mp4(folder):
    write_mp4(folder / "other.mp4", np.zeros((9, 64, 64, 3), dtype=np.uint8), 10.0)
    return ["run", "open the door", "--planner", "file", "--plan", "other.mp4", *ORACLE[4:]]


def no_folder(folder):
    (folder / "runs").write_text("a file is in the way")
    return ["run", "open the door", *ORACLE]


def no_weights(folder):
    return ["run", "open the door", *ORACLE[:4], "--set", "extractor.options.weights=nowhere"]


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["run", "open the door", "--task", "door-opne", *ORACLE], 2, ["door-opne", "door-open"]),
        (["run", "sing a song", *ORACLE], 2, ["sing a song", "--task"]),
        (["run"], 2, ["expected an instruction"]),
        (["run", "open the door", "--set", "planner.options.stepz=4"], 2, ["stepz", "Did you mean 'steps'"]),
        (["run", "open the door", "--planner", "file", "--plan", "none.mp4"], 2, ["none.mp4"]),
        (["run", "open the door", "--recipe", "unipy"], 2, ["Did you mean 'unipi'"]),
        (["run", "x", "--config", "c.yaml"], 2, ["--config"]),
        (["extract", "nowhere"], 2, ["nowhere", "expected a plan"]),
        (["replay", "nowhere"], 2, ["nowhere"]),
        (["eval", "metaworld-12"], 2, ["Did you mean 'metaworld-11'"]),
        (["eval", "metaworld-11", "--tasks", "door"], 2, ["not in suite"]),
        (["eval", "metaworld-11", "--resume"], 2, ["-o DIR"]),
        (["plugins", "planer"], 2, ["Did you mean 'planner'"]),
        (["config", "check", "nothing.yaml"], 2, ["nothing.yaml"]),
        (["train", "idm", "nowhere", "-o", "out"], 2, ["nowhere"]),
        (corrupt_mp4, 2, ["broken.mp4"]),
        (no_weights, 3, ["nowhere"]),
        (no_folder, 2, ["--runs"]),
    ],
)
def test_wrong_input_is_one_clear_error(here, arguments, code, parts):
    done = here(*(arguments if isinstance(arguments, list) else arguments(Path.cwd())))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


def test_a_video_of_another_scene_is_refused_and_nothing_moves(here, tmp_path):
    done = here(*short_mp4(tmp_path), "--json")
    assert done.returncode == 4, done.stderr
    document = json.loads(done.stdout)
    assert (document["outcome"], document["steps"]) == ("rejected", 0)
    assert "refused the plan" in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = cascade("--debug", "eval", "metaworld-12", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_config_show_says_where_values_came_from(tmp_path):
    done = cascade("config", "show", "--set", "execution.replans=3", "--origin", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" = ", 1) for line in done.stdout.splitlines())
    assert lines["recipe.execution.replans"] == "3  (--set)"
    assert lines["recipe.gate.motion"] == "true  (default)"
    assert lines["recipe.extractor.name"].endswith("unipi.yaml)")


def test_all_packaged_configurations_pass_the_check(tmp_path):
    done = cascade("config", "check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {Path(line.split("  ")[1]).stem for line in done.stdout.splitlines()}
    assert {"sim", "unipi", "avdc", "avdc-geometry", "hybrid"} <= names


def test_config_check_names_the_wrong_key(tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\nplanner: {name: oracle}\nextractor: {name: idm}\ngat: {}\n")
    fails(cascade("config", "check", "mine.yaml", cwd=tmp_path), 2, "gat: unknown key", "Did you mean 'gate'")


def test_plugins_lists_ours_as_json(tmp_path):
    document = json.loads(cascade("plugins", "--json", cwd=tmp_path).stdout)
    names = {(row["group"], row["name"]) for row in document["plugins"]}
    assert {("planner", "embedded"), ("extractor", "idm"), ("extractor", "flow"), ("rig", "sim")} <= names
    assert all(row["broken"] is None for row in document["plugins"])
