"""Numbers, words and the terminal summary."""

import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from cascade.report.charts import ticks
from cascade.report.numbers import gate_tables, outcome_of, stage_times, verdict_words
from cascade.report.sections import milliseconds, number
from cascade.report.summary import print_summary


def gate_event(value: float, limit: float, held: bool) -> dict:
    check = {"check": "x", "value": value, "limit": limit, "unit": "m", "step": None, "message": ""}
    return {
        "kind": "gate",
        "subject": "chunk",
        "index": 3,
        "verdict": "pass" if held else "reject",
        "measured": [check],
        "violations": [] if held else [check | {"message": "no"}],
    }


@pytest.mark.parametrize(
    ("value", "limit", "held", "upper", "margin", "used"),
    [
        (0.1, 0.4, True, True, 0.3, 0.25),
        (0.5, 0.4, False, True, -0.1, 1.25),
        (30.0, 20.0, True, False, 10.0, 20 / 30),
        (10.0, 20.0, False, False, -10.0, 2.0),
        (0.0, 0.0, True, True, 0.0, 0.0),
        (-0.02, 0.0, True, True, 0.02, 0.0),
    ],
)
def test_side_of_a_limit_follows_from_whether_the_check_held(value, limit, held, upper, margin, used) -> None:
    (table,) = gate_tables([gate_event(value, limit, held)])
    (check,) = table.checks
    assert (check.held, check.upper) == (held, upper)
    assert check.margin == pytest.approx(margin)
    assert check.used == pytest.approx(used)
    assert table.tightest == check


def test_a_violation_that_was_not_measured_is_listed_too() -> None:
    event = gate_event(0.5, 0.4, False) | {"measured": []}
    (table,) = gate_tables([event])
    assert [check.held for check in table.checks] == [False]


def test_stages_come_in_pipeline_order_with_both_gate_looks_as_one() -> None:
    events = [
        {"kind": "stage", "stage": s, "ms": m}
        for s, m in (("motion", 9), ("gate_plan", 1), ("gate_chunk", 3), ("plan", 5))
    ]
    stages = stage_times([*events, {"kind": "stage", "stage": "plan"}, {"kind": "other"}])
    assert [(s.stage, s.count, s.total_ms) for s in stages] == [("plan", 1, 5), ("gate", 2, 4), ("motion", 1, 9)]


def test_an_unfinished_run_is_never_called_a_success() -> None:
    facts = {"status": "running", "outcome": "success", "verdict": "Done"}
    assert outcome_of(facts) == "unfinished"
    assert "did not finish" in verdict_words(facts)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_number_can_be_shown(value: float) -> None:
    text = number(value)
    assert text
    assert len(text) <= 13
    if math.isfinite(value) and value and 1e-4 <= abs(value) < 1e7:
        assert float(text.replace("−", "-")) == pytest.approx(value, rel=6e-4)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(2, 8))
def test_ticks_lie_inside_and_are_few(low: float, span: float, most: int) -> None:
    values = ticks(low, low + span, most)
    assert 1 <= len(values) <= most + 1
    assert all(low - 1e-3 * span - 1e-3 <= value <= low + span * 1.001 + 1e-3 for value in values)


def test_durations_are_given_in_the_unit_that_suits() -> None:
    assert [milliseconds(v) for v in (0.4, 142.4, 2300, 75_000)] == ["0.40 ms", "142 ms", "2.30 s", "1 min 15 s"]


def summary_of(folder: Path) -> str:
    out = io.StringIO()
    print_summary(folder, Console(file=out, width=80))
    return out.getvalue()


def test_the_summary_fits_eighty_columns_and_names_the_next_step(make_run, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_run(outcome="failed", verdict="Not done: " + "the arm went on and on " * 6)
    before = summary_of(folder)
    (folder / "report.html").touch()
    after = summary_of(folder)
    for text in (before, after):
        assert max(len(line) for line in text.splitlines()) <= 80
        assert "Not done" in text
        assert "142.5 ms" in text
    assert "report.html" not in before
    assert "report.html" in after


@pytest.fixture
def cli():
    import typer

    from cascade.cli.inspect import inspect

    app = typer.Typer()
    app.command()(inspect)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_inspect_prints_where_the_report_is(make_run, cli) -> None:
    folder = make_run()
    result = cli(folder)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(folder.resolve() / "report.html")
    assert Path(result.stdout.strip()).is_file()


def test_inspect_answers_scripts_with_one_document(make_run, cli, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.html"
    document = json.loads(cli(make_run(), "--json", "--output", target).stdout)
    assert document["schema_version"] == 1
    assert document["report"] == str(target.resolve())
    assert document["outcome"] == "success"
    assert document["verdict"].startswith("Done")
    assert document["stages"]["plan"] == {"count": 1, "total_ms": 142.5, "p50_ms": 142.5, "p99_ms": 142.5}
    assert {"readout", "extract", "gate", "motion"} <= set(document["stages"])
