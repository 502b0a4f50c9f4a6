"""The Rerun recording: there with the package, one clear error without it."""

import builtins
from pathlib import Path

import pytest

from cascade.contracts import ConfigError
from cascade.report.rerun_recording import write_recording


def test_a_recording_is_written_whole(make_run, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="needs the extra rerun")
    folder = make_run(plans=2)
    path = write_recording(folder, tmp_path / "run.rrd")
    data = path.read_bytes()
    assert data[:3] == b"RRF"
    assert 50_000 < len(data) < 20_000_000
    assert b"imagined" in data
    assert not list(tmp_path.glob("*.partial"))


def test_without_the_package_it_says_what_to_install(make_run, tmp_path: Path, monkeypatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args, **kwargs):
        if name == "rerun":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match="expected the package rerun-sdk"):
        write_recording(make_run(), tmp_path / "run.rrd")
