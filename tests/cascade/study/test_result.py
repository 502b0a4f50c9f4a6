"""What is said about rows: no more than they allow."""

import io
import json

import pytest
from rich.console import Console

from cascade.study.plots import write_plots
from cascade.study.result import compare, decision_ms, summarise, verdict
from cascade.study.table import markdown, notes, show


def test_better_is_said_where_test_and_interval_allow_it_and_nowhere_else():
    assert verdict(0.01, (0.1, 0.3)) == "better"
    assert verdict(0.01, (-0.3, -0.1)) == "worse"
    assert verdict(0.06, (0.1, 0.3)) == "open"
    assert verdict(0.01, (-0.1, 0.3)) == "open"


def test_a_gap_is_measured_on_shared_scenes_alone(rows):
    a = rows("a", range(40), lambda seed: True)
    b = rows("b", range(10, 60), lambda seed: seed % 2 == 0)

    entry = compare([*a, *b], [("a", "b")], "frozen")[0]

    assert entry["n"] == 60  # two tasks, thirty shared layouts
    assert entry["gap"] == pytest.approx(0.5)
    assert (entry["only_first"], entry["only_second"]) == (30, 0)
    assert entry["verdict"] == "better"
    assert entry["ci95"][0] > 0.3


def test_few_scenes_prove_nothing_however_clear_they_look(rows):
    found = compare(
        [*rows("a", range(2), lambda s: True), *rows("b", range(2), lambda s: False)], [("a", "b")], "frozen"
    )

    assert found[0]["gap"] == 1.0
    assert found[0]["verdict"] == "open"
    assert found[0]["detectable_gap"] is None


def test_many_comparisons_cost_each_of_them(rows):
    made = [*rows("a", range(20), lambda s: True), *rows("b", range(20), lambda s: s >= 4)]
    one = compare(made, [("a", "b")], "frozen")[0]
    many = compare(made, [("a", "b")] + [("a", "a")] * 9, "frozen")[0]

    assert one["p"] == many["p"]
    assert many["p_holm"] == pytest.approx(10 * one["p"])
    assert (one["verdict"], many["verdict"]) == ("better", "open")
    assert many["detectable_gap"] > one["detectable_gap"]


def test_time_to_decide_is_summed_plan_by_plan():
    row = {
        "plans": 2,
        "stage_ms": {"begin": [900.0], "plan": [10.0, 20.0], "extract": [1.0, 2.0, 3.0], "motion": [99.0]},
    }

    assert decision_ms(row) == [11.0, 22.0]


def test_the_document_has_rates_with_both_intervals_and_the_price_of_compute(rows, study):
    chosen = study()
    made = rows("a", range(30), lambda s: True) + rows("b", range(30), lambda s: s % 3 == 0)
    made += rows("a", range(30), lambda s: s >= 15, clock="realtime")

    result = json.loads(json.dumps(summarise(chosen, made)))

    success = result["arms"]["frozen"]["a"]["success"]
    assert success["hits"] == success["n"] == 60
    assert success["exact95"] == [pytest.approx(0.9404, abs=1e-4), 1.0]
    assert success["ci95"] == [pytest.approx(0.9398, abs=1e-4), 1.0]
    assert "b" not in result["arms"]["realtime"]
    price = result["price_of_compute"][0]
    assert (price["first"], price["gap"], price["verdict"]) == ("a, frozen", 0.5, "better")
    assert result["arms"]["frozen"]["b"]["tasks"]["door-open"]["hits"] == 10


def test_tables_fit_a_narrow_terminal_and_say_what_is_unfinished(tmp_path, rows, study):
    result = summarise(study(), rows("a", range(2), lambda s: True) + rows("b", range(2), lambda s: False))
    out = io.StringIO()

    show(result, Console(file=out, width=80))

    assert max(len(line) for line in out.getvalue().splitlines()) <= 80
    assert "not finished" in out.getvalue()
    assert any("no gap could have been shown" in line for line in notes(result))
    assert "| 1 a | 4/4 | 100 |" in markdown(result)

    files = write_plots(result, tmp_path)
    assert [path.name for path in files] == ["success.svg", "tasks.svg", "time.svg"]
    assert all("</svg>" in path.read_text() for path in files)
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in write_plots(result, tmp_path)] == before  # the same result, the same file
