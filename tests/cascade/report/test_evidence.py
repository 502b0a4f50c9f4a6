"""What the page shows beside the videos: who is at fault, tracks, other readers, contact, age, spread; and two runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import DataError
from cascade.report import build_report, read_run
from cascade.report.age import action_age_s, deadline_ms
from cascade.report.compare import build_comparison
from cascade.report.contact import stopped_short, stretches
from cascade.report.tracks import tracks_of


def put_on_trial(folder: Path, stage: str = "tracking") -> None:
    """What `cascade blame` leaves in a run folder."""
    path = [[0.0, 0.6, 0.2], [0.1, 0.7, 0.1], [0.0, 0.8, 0.3]]
    checks = [
        {"stage": stage, "name": "the hand answers after", "value": 0.4, "limit": 0.1, "unit": "s", "failed": True},
        {"stage": "plan", "name": "a <b>thing</b>", "value": None, "limit": None, "unit": "m", "why": "not filmed"},
    ]
    document = {
        "schema_version": 1,
        "stage": stage,
        "verdict": "The arm does not follow its targets: late.",
        "suspects": ["extraction"],
        "plan": 0,
        "checks": checks,
        "paths": {"flow": path, "idm": path, "broken": [[1]]},
        "spread_m": [0.01] * 17,
        "missing": {"scene": "no <i>configuration</i>"},
    }
    (folder / "blame.json").write_text(json.dumps(document))


def test_the_stage_at_fault_stands_first(make_run) -> None:
    folder = make_run(outcome="failed", verdict="Not done: it missed.")
    put_on_trial(folder)
    page = build_report(folder).read_text()
    assert page.index("At fault: <b>tracking</b>") < page.index('id="player"')
    assert "Also above a limit: extraction." in page
    assert "400" in page or "0.4 s" in page
    assert "a &lt;b&gt;thing&lt;/b&gt;" in page
    assert "no &lt;i&gt;configuration" in page


def test_a_run_that_nobody_judged_says_how_to(make_run) -> None:
    page = build_report(make_run()).read_text()
    assert "cascade blame 20261120-120000-pick-unipi" in page


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 99}'])
def test_a_broken_verdict_is_none(make_run, text: str) -> None:
    folder = make_run()
    (folder / "blame.json").write_text(text)
    assert "cascade blame" in build_report(folder).read_text()


def test_what_other_readers_saw_is_drawn(make_run, data_of) -> None:
    folder = make_run()
    put_on_trial(folder)
    report = build_report(folder)
    assert [other["name"] for other in data_of(report)["others"]] == ["flow"]  # idm is the imagined path already
    assert "read by flow" in report.read_text()


def test_tracks_are_followed_and_lost_ones_stay_lost(make_run, data_of) -> None:
    folder = make_run()
    tracks = tracks_of(read_run(folder), 0)
    assert tracks is not None
    assert tracks.uv.shape[0] == 17
    assert tracks.kept[0].all()
    assert not (np.diff(tracks.kept.astype(int), axis=0) > 0).any()
    moved = np.linalg.norm(tracks.uv[-1] - tracks.uv[0], axis=1)
    assert moved[tracks.kept.all(axis=0)].max(initial=0) > 5 or not tracks.kept[-1].all()
    assert data_of(build_report(folder))["plans"][0]["tracks"]["source"].startswith("followed for this report")


def test_the_extractors_own_tracks_come_first(make_run) -> None:
    folder = make_run()
    path = folder / "chunks" / "000.json"
    chunk = json.loads(path.read_text())
    chunk["provenance"] |= {"extractor": "flow", "tracks": {"uv": [[[5, 6]]] * 17, "kept": [[1]] * 17}}
    path.write_text(json.dumps(chunk))
    found = tracks_of(read_run(folder), 0)
    assert found is not None
    assert found.source == "followed by the extractor flow"
    assert found.uv.shape == (17, 1, 2)


def test_the_age_of_the_action_grows_from_the_thinking(make_run) -> None:
    run = read_run(make_run(plans=2))
    age = action_age_s(run)
    thought = (142.5 + 18.25 + 6.5 + 0.4) / 1000
    assert age[0] == pytest.approx(thought, abs=1e-6)
    second = int(np.flatnonzero(run.trajectory.chunk == 1)[0])
    assert age[second] < age[second - 1]  # a new look
    assert deadline_ms(run) == pytest.approx(181 / 80 * 1000)
    page = build_report(run.folder).read_text()
    assert 'class="deadline"' in page
    assert "every one kept it" in page


def test_fingers_that_stop_half_way_are_contact(make_run) -> None:
    track = read_run(make_run()).trajectory
    spans = stretches(stopped_short(track))
    assert len(spans) >= 1
    closed = np.flatnonzero((track.gripper_target < 0.5) & (np.abs(track.opening - 0.4) < 0.01))
    assert spans[0][0] >= closed[0]
    assert stretches(np.zeros(9, dtype=np.bool_)) == []


def test_two_runs_stand_side_by_side(make_run) -> None:
    first = make_run()
    second = make_run(name="20261120-130000-pick-avdc", outcome="failed", verdict="Not done <here>.")
    (second / "config.yaml").write_text("recipe: avdc\nseed: 9\n")
    put_on_trial(second)
    page = build_comparison(first, second)
    text = page.read_text()
    assert page.parent == first
    assert page.stat().st_size < 15_000_000
    assert "Not done &lt;here&gt;." in text
    assert "Done: the goal was reached" in text
    assert "<td>unipi</td><td>avdc</td>" in text
    assert "<td>7</td><td>9</td>" in text
    assert "tracking: the hand answers after" in text


def test_the_same_run_twice_differs_in_nothing(make_run) -> None:
    folder = make_run()
    assert "Nothing: facts, configuration" in build_comparison(folder, folder).read_text()


def test_a_second_folder_that_is_no_run_is_one_clear_error(make_run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected run\.json"):
        build_comparison(make_run(), tmp_path)
