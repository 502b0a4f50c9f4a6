"""A report says what happened, whatever state its run folder is in."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import DataError
from cascade.report import build_report, read_run
from cascade.report import page as page_module
from cascade.report.story import workspace_of
from cascade.report.timeline import build_timeline, imagined_path, nearest_imagined


def text_of(page: str) -> str:
    body = page[page.index("<body>") : page.index('<script type="application/json"')]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_the_page_names_verdict_instruction_and_how_to_replay(make_run) -> None:
    page = build_report(make_run()).read_text(encoding="utf-8")
    text = text_of(page)
    for expected in (
        "Done: the goal was reached after 181 control steps.",
        "“pick up the green block”",
        "cascade replay 20261120-120000-pick-unipi",
        "5a" * 32,
        "recipe: unipi",
        "oracle",
        "mujoco",
    ):
        assert expected in text
    assert "could not be shown" not in text


def test_the_page_asks_the_network_for_nothing(make_run) -> None:
    page = build_report(make_run()).read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:|#)[a-z]+:""", page)
    assert "default-src 'none'" in page
    assert page.count("<script") == 2


@pytest.mark.parametrize(
    "attack", ["<script>document.title='owned'</script>", "{{script}} </script><b>", '"><img src=x>']
)
def test_words_of_a_run_stay_words(make_run, attack: str) -> None:
    page = build_report(make_run(instruction=attack, verdict=attack)).read_text(encoding="utf-8")
    assert attack not in page
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert text_of(page).count("&lt;") + text_of(page).count("{{script}}") + text_of(page).count("&quot;") > 0


def test_frames_shrink_until_the_page_is_small_enough(make_run, data_of, monkeypatch) -> None:
    folder = make_run(plans=2)
    whole = build_report(folder).stat().st_size
    monkeypatch.setattr(page_module, "FRAME_BYTES", 60_000)
    report = build_report(folder)
    sheets = [data_of(report)["executed"], *(plan["sheets"] for plan in data_of(report)["plans"])]
    assert sum(len(source) for sheet in sheets for source in sheet["sources"]) <= 60_000
    assert report.stat().st_size < whole
    assert len({(sheet["width"], sheet["height"]) for sheet in sheets}) == 1


def test_a_page_that_would_be_too_large_is_refused(make_run, monkeypatch) -> None:
    monkeypatch.setattr(page_module, "MOST_BYTES", 10_000)
    with pytest.raises(DataError, match="expected a report under"):
        build_report(make_run())


def test_a_long_video_is_thinned_and_keeps_its_ends(make_run, data_of) -> None:
    from cascade.contracts.video import write_mp4

    folder = make_run()
    write_mp4(folder / "executed.mp4", np.zeros((900, 32, 32, 3), dtype=np.uint8), 80)
    rows = [json.dumps({"frame": i, "step": i // 5, "t_s": i / 400}) for i in range(900)]
    (folder / "executed.jsonl").write_text("\n".join(rows), encoding="utf-8")
    report = build_report(folder)
    assert report.stat().st_size < page_module.MOST_BYTES
    assert data_of(report)["executed"]["count"] == 600
    assert data_of(report)["moments"]["step"][0] == 0
    assert data_of(report)["moments"]["step"][-1] == 179


def test_moments_pair_executed_frames_with_the_right_plan(make_run, data_of) -> None:
    folder = make_run(plans=3)
    moments = data_of(build_report(folder))["moments"]
    steps, plans, frames = (np.array(moments[name]) for name in ("step", "plan", "frame"))
    assert list(np.unique(plans)) == [0, 1, 2]
    assert (np.diff(plans) >= 0).all()
    for plan in range(3):
        mine = frames[plans == plan]
        assert (np.diff(mine) >= 0).all()
        assert mine[-1] == 16
    assert (np.diff(steps) >= 0).all()
    assert (np.diff(moments["t_s"]) >= 0).all()
    assert moments["executed"] == list(range(len(steps)))


def test_the_imagined_grasp_stands_beside_the_executed_grasp(make_run, data_of) -> None:
    folder = make_run()
    moments = data_of(build_report(folder))["moments"]
    run = read_run(folder)
    imagined = np.asarray(run.plans[0].readout.opening)[np.array(moments["frame"])]
    measured = run.trajectory.opening[np.array(moments["row"])]
    assert np.abs(imagined - measured).max() < 0.25


def test_without_a_reading_the_targets_are_the_imagined_path(make_run) -> None:
    run = read_run(make_run(readout=False))
    path = imagined_path(run, 0)
    np.testing.assert_allclose(path.position_m, run.chunks[0].position_m)
    assert not path.read
    moments = build_timeline(run)
    assert "pixels" in moments.alignment
    assert (moments.frame[0], moments.frame[-1]) == (0, 16)
    np.testing.assert_array_equal(moments.point, run.trajectory.target[moments.row])


def test_distance_is_measured_to_the_line_and_not_to_its_points(make_run) -> None:
    run = read_run(make_run(readout=False))
    distance = nearest_imagined(run, {0: imagined_path(run, 0)})
    assert np.nanmax(distance) < 0.012
    run = read_run(make_run(name="bent"))
    assert 0.012 < np.nanmax(nearest_imagined(run, {0: imagined_path(run, 0)})) < 0.03


def test_the_way_back_to_the_start_belongs_to_no_plan(make_run) -> None:
    folder = make_run()
    chunk = json.loads((folder / "chunks" / "000.json").read_text())
    (folder / "chunks" / "001.json").write_text(json.dumps(chunk | {"provenance": {"extractor": "return to start"}}))
    rows = (folder / "trajectory.jsonl").read_text().splitlines()
    back = [json.loads(row) | {"step": 182 + i, "chunk": 1} for i, row in enumerate(rows[::-1])]
    with (folder / "trajectory.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in back)
    run = read_run(folder)
    assert run.chunks_of(0) == [0]
    assert run.rows_of(0).sum() == 181
    assert len(imagined_path(run, 0).position_m) == 17


def test_a_killed_run_is_shown_as_far_as_it_got(make_run) -> None:
    folder = make_run(finish=False)
    with (folder / "trajectory.jsonl").open("a") as file:
        file.write('{"step": 182, "t_s": 2.2')
    text = text_of(build_report(folder).read_text(encoding="utf-8"))
    assert "The run did not finish" in text
    assert "trajectory.jsonl has 1 unreadable line" in text
    assert "181 steps" in text


def test_a_refused_run_shows_its_plan_and_the_check_that_failed(make_run, data_of) -> None:
    folder = make_run(execute=False, outcome="rejected", verdict="Refused by the gate.")
    report = build_report(folder)
    data = data_of(report)
    assert data["executed"] is None
    assert data["moments"]["frame"] == list(range(17))
    text = text_of(report.read_text(encoding="utf-8"))
    assert "failed: step size, 0.31 m where at most 0.15 is allowed" in text
    assert "Two consecutive targets are too far apart. at step 3" in text


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "plans/000/plan.safetensors").write_bytes(b"no"), "Plan 000 cannot be read"),
        (lambda run: (run / "chunks/000.json").write_text("{"), "Chunk 000 cannot be read"),
        (lambda run: (run / "chunks/000.json").write_text('{"values": [["a"]]}'), "Chunk 000 cannot be read"),
        (lambda run: (run / "executed.mp4").write_bytes(b"\0" * 90), "executed.mp4 cannot be read"),
        (lambda run: (run / "executed.mp4").unlink(), "executed.mp4 is missing"),
        (lambda run: (run / "executed.jsonl").unlink(), "executed.jsonl is missing"),
        (lambda run: (run / "events.jsonl").unlink(), "events.jsonl is missing"),
        (lambda run: (run / "events.jsonl").write_bytes(b"\xff\xfe\n[1]\n{}"), "events.jsonl has 2 unreadable lines"),
        (lambda run: (run / "trajectory.jsonl").write_text('{"ee": [1, null, 2]}\n{"ee": "x"}\n'), ""),
        (lambda run: (run / "config.yaml").unlink(), ""),
    ],
)
def test_a_broken_part_costs_that_part_only(make_run, damage, said: str) -> None:
    folder = make_run()
    damage(folder)
    text = text_of(build_report(folder).read_text(encoding="utf-8"))
    assert said in text
    assert "Done: the goal was reached" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected run.json inside, found none"),
        ("{", "expected JSON"),
        ("[]", "expected a JSON object"),
        ('{"schema_version": 2}', "expected schema_version 1, found 2"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match=re.escape(said)):
        build_report(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        build_report(tmp_path / "none")


def test_a_run_with_only_its_facts_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 1, "status": "running"}')
    assert "did not finish" in build_report(tmp_path).read_text(encoding="utf-8")


def test_an_unwritable_place_is_named(make_run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        build_report(make_run(), tmp_path / "nowhere" / "report.html")


@pytest.mark.parametrize(
    ("described", "found"),
    [
        ({"arm": {"limits": {"workspace_m": [[0, 0, 0], [1, 1, 1]]}}}, True),
        ({"workspace_m": [[0, 0], [1, 1]]}, False),
        ({"workspace_m": "big"}, False),
        ({"workspace_m": [[1, 1, 1], [0, 0, 0]]}, False),
        (None, False),
    ],
)
def test_the_workspace_is_found_where_the_rig_put_it(described: object, found: bool) -> None:
    assert (workspace_of({"rig_description": described}) is not None) is found
