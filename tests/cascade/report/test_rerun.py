"""The Rerun recording: Rerun's own tools read it with the package, one clear error without it."""

import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.contracts import ConfigError
from cascade.report.rerun_recording import write_recording

VIEWS = ("/imagined", "/executed", "/base", "/gripper", "/distance", "/age", "/verdict")


def rrd(*arguments: str) -> str:
    """What `rerun rrd` says of a file; fails where it does."""
    command = [sys.executable, "-m", "rerun", "rrd", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def recorded(path: Path) -> tuple[set[str], set[str]]:
    """Entities and timelines of a recording, without those of its blueprint."""
    said = rrd("stats", str(path))
    entities = set(re.findall(r"^(/\S+): \d+$", said, re.MULTILINE))
    timelines = re.search(r"per index\n-+\n((?:\w+: \d+\n)+)", said)
    assert timelines is not None, said
    return entities, set(re.findall(r"^(\w+):", timelines.group(1), re.MULTILINE))


def origins(path: Path) -> set[str]:
    """Where the views of a recording's blueprint begin."""
    said = rrd("print", "-vvv", "--transposed", "true", str(path))
    return set(re.findall(r"space_origin.*?\[?(/\w+)\]?", said))


def test_rerun_reads_it_and_every_view_has_something_to_show(make_run, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs the extra rerun")
    path = write_recording(make_run(plans=2), tmp_path / "run.rrd")
    assert 50_000 < path.stat().st_size < 20_000_000
    assert "without error" in rrd("verify", str(path))
    entities, timelines = recorded(path)
    assert {"control_step", "time"} <= timelines
    assert origins(path) == set(VIEWS)
    for view in VIEWS:
        assert any(name == view or name.startswith(f"{view}/") for name in entities), view
    paths = {"base/imagined/0", "base/imagined/1", "base/commanded", "base/measured", "base/hand", "base/workspace"}
    assert {f"/{name}" for name in paths} <= entities
    assert "/imagined/tracks" in entities
    assert not list(tmp_path.glob("*.partial"))


def test_a_run_without_motion_gets_no_empty_views(make_run, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs the extra rerun")
    folder = make_run()
    for name in ("trajectory.jsonl", "executed.jsonl", "executed.mp4"):
        (folder / name).unlink(missing_ok=True)
    path = write_recording(folder, tmp_path / "run.rrd")
    assert origins(path) == {"/imagined", "/base", "/verdict"}


def test_without_the_package_it_says_what_to_install(make_run, tmp_path: Path, monkeypatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args, **kwargs):
        if name == "rerun":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match="expected the package rerun-sdk"):
        write_recording(make_run(), tmp_path / "run.rrd")
