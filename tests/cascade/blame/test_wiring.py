"""A failed run is put on trial by itself; a trial that cannot be held does not cost the report."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.cli.app import app


@pytest.mark.slow
def test_a_failed_run_carries_the_stage_at_fault_into_its_report(tmp_path: Path) -> None:
    still = ["--planner", "hold", "--set", "gate.motion=false", "--set", "execution.replans=0"]
    simple = ["--set", "rig.options.arm_process=false", "--set", "extractor.options.overshoot_m=0"]
    command = ["run", "press the button", "--task", "button-press", "--json", "--runs", str(tmp_path), *still, *simple]
    done = CliRunner().invoke(app, command)
    result = json.loads(done.stdout)
    assert result["outcome"] == "failed", done.output
    folder = Path(result["run"])
    document = json.loads((folder / "blame.json").read_text())
    assert document["stage"] == "plan"  # nothing was imagined, and that was read and followed faithfully
    assert "At fault: <b>plan</b>" in (folder / "report.html").read_text()
