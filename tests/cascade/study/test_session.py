"""A study that is run: in which the plan does not move, so that the gate refuses it and little time passes."""

import json

import pytest
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.contracts import CascadeError, ConfigError, PluginError
from cascade.study.config import StudyConfig
from cascade.study.launchers import launch
from cascade.study.session import run_study

STUDY = {
    "name": "still",
    "tasks": ["handle-press"],
    "seed": 400,
    "layouts": {"frozen": 2},
    "set": ["rig.options.arm_process=false"],
    "arms": {
        "hold": {"recipe": "unipi", "planner": "hold", "set": ["extractor.options.fuse=latents"]},
        "hold again": {"recipe": "unipi", "planner": "hold", "set": ["extractor.options.fuse=latents"]},
    },
}


def still(**changes):
    return StudyConfig.model_validate({**STUDY, **changes})


def keys(path):
    lines = (json.loads(line) for line in (path / "episodes.jsonl").read_text().splitlines())
    return sorted((row["arm"], row["clock"], row["task"], row["seed"]) for row in lines)


def test_a_study_goes_on_where_a_kill_left_it_and_the_result_is_the_same(tmp_path):
    told = []
    first = run_study(still(), tmp_path, on_row=told.append)

    assert first["episodes"] == first["planned"] == 4
    assert first["arms"]["frozen"]["hold"]["success"]["hits"] == 0
    assert first["arms"]["frozen"]["hold"]["failures"] == {"gate": 2}
    assert first["comparisons"]["frozen"][0]["verdict"] == "open"
    whole = keys(tmp_path)
    assert len(told) == len(set(whole)) == 4

    with pytest.raises(ConfigError, match=r"found a study.*--resume"):
        run_study(still(), tmp_path)
    with pytest.raises(ConfigError, match=r"another study \(different: seed"):
        run_study(still(seed=401), tmp_path, resume=True)

    lines = (tmp_path / "episodes.jsonl").read_text().splitlines()
    (tmp_path / "episodes.jsonl").write_text("\n".join(lines[:3]) + "\n" + lines[3][:30])  # as a kill would leave it
    so_far = run_study(still(), tmp_path, resume=True, only_evaluate=True)
    assert (so_far["episodes"], so_far["planned"]) == (3, 4)
    again = run_study(still(), tmp_path, resume=True)

    assert keys(tmp_path) == whole
    fewer = run_study(still(layouts={"frozen": 1}), tmp_path, resume=True)  # layouts may change: rows stay, some count
    assert (fewer["episodes"], len(keys(tmp_path))) == (2, 4)
    assert again["arms"]["frozen"]["hold"]["success"] == first["arms"]["frozen"]["hold"]["success"]


def test_an_arm_that_cannot_be_built_is_told_before_anything_runs(tmp_path):
    with pytest.raises(PluginError, match="planner 'nobody'"):
        run_study(still(arms={"x": {"recipe": "unipi", "planner": "nobody"}}), tmp_path)
    assert not (tmp_path / "episodes.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [("cloud", {}, "launcher 'cloud'"), ("pool", {"partition": "x"}, "no option 'partition'")],
)
def test_an_unknown_launcher_or_option_is_told(tmp_path, name, options, told):
    with pytest.raises(ConfigError, match=told):
        list(launch(name, [], workers=1, options=options, folder=tmp_path))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit leaves its logs open here
def test_slurm_jobs_run_in_this_process_where_submitit_is_told_to_debug(tmp_path):
    pytest.importorskip("submitit")
    options = {"cluster": "debug", "episodes_per_job": 3}

    result = run_study(still(), tmp_path, launcher="slurm", options=options)

    assert result["episodes"] == 4
    assert len(keys(tmp_path)) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("package", "launcher", "options"),
    [("ray", "ray", {}), ("submitit", "slurm", {"cluster": "local", "episodes_per_job": 1})],
)
def test_two_workers_elsewhere_do_what_the_pool_does(tmp_path, package, launcher, options):
    pytest.importorskip(package)

    result = run_study(still(), tmp_path, launcher=launcher, options=options, jobs=2)

    assert result["episodes"] == 4
    assert result["arms"]["frozen"]["hold"]["failures"] == {"gate": 2}
    assert result["errors"] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("package", "launcher", "options"), [("ray", "ray", {}), ("submitit", "slurm", {"cluster": "local"})]
)
def test_an_error_in_a_worker_elsewhere_comes_back_as_itself(tmp_path, package, launcher, options):
    pytest.importorskip(package)
    broken = still(arms={"x": {"recipe": "policy", "set": [f"planner.options.weights={tmp_path}"]}})

    with pytest.raises(CascadeError, match=r"settings\.json"):
        run_study(broken, tmp_path / "out", launcher=launcher, options=options, jobs=2)


def test_the_command_runs_a_file_and_writes_table_plots_and_rows(tmp_path):
    import yaml

    path = tmp_path / "still.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    out = tmp_path / "out"

    done = CliRunner().invoke(app, ["study", str(path), "--layouts", "frozen=1", "-o", str(out), "--json"])

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["episodes"] == 2
    assert "hold again" in done.stderr
    for name in ("study.json", "episodes.jsonl", "result.json", "result.md", "plots/success.svg"):
        assert (out / name).is_file(), name
