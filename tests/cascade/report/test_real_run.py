"""The report of a run that really happened: simulated arm, perfect plan, shipped inverse dynamics."""

from pathlib import Path

import numpy as np

from cascade.api import run
from cascade.report import build_report, read_run
from cascade.report.story import tell


def test_a_real_run_is_shown_whole(tmp_path: Path, data_of) -> None:
    result = run("open the door", task="door-open", planner="oracle", seed=7, runs=tmp_path)
    folder = Path(result.run_dir)
    report = build_report(folder)
    record = read_run(folder)
    story = tell(record)
    data = data_of(report)

    assert record.problems == ()
    assert result.verdict in report.read_text(encoding="utf-8")
    assert len(record.trajectory) == result.steps
    assert story.workspace_m is not None
    assert (story.workspace_m[0] <= record.trajectory.measured_m + 0.05).all()
    assert np.isfinite(story.distance_m).all()
    assert data["executed"]["count"] == len(record.executed) == len(data["moments"]["step"])
    assert max(data["moments"]["frame"]) >= 8
    assert (np.diff(data["moments"]["frame"]) >= 0).all()
