"""The report says what best-of-N chose from: candidates, scores, ranks, and what was held against them."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from cascade.report import build_report

MEASURES = [
    {"name": "consensus", "unit": "m", "higher_is_better": False},
    {"name": "progress", "unit": "", "higher_is_better": True},
]


def candidate(sample: int, **more: Any) -> dict[str, Any]:
    return {
        "sample": sample,
        "plan_id": f"p{sample}",
        "scores": {"consensus": 0.0125, "progress": None},
        "ranks": {"consensus": 1.0, "progress": 0.0},
        "total": 0.5,
        "refused": "",
        "failed_m": None,
        "avoided": False,
    } | more


def chosen(folder: Path, *candidates: Any, **more: Any) -> Path:
    event = {
        "kind": "choice",
        "t_s": 0.1,
        "plan": 0,
        "sample": 1,
        "why": "sample 2 of 3: it <is> so",
        "measures": MEASURES,
        "candidates": list(candidates),
    }
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(event | more) + "\n")
    return folder


def section(folder: Path) -> list[str]:
    """Rows of the section's tables, as words."""
    page = build_report(folder).read_text(encoding="utf-8")
    found = re.search(r'aria-labelledby="h-choice">(.*?)</section>', page, re.DOTALL)
    if found is None:
        return []
    rows = re.split(r"</tr>|</summary>", found[1])
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in rows]


def test_every_candidate_stands_with_its_scores_and_what_spoke_against_it(make_run) -> None:
    refused = candidate(2, refused="gate: <b>too far</b>", scores={"consensus": 0.2, "progress": 0.75})
    avoided = candidate(0, avoided=True, failed_m=0.012)
    rows = section(chosen(make_run(), candidate(1), avoided, refused))

    assert "sample 2 of 3: it <is> so" in rows[0]
    assert "consensus m, lower is better" in rows[1]
    assert "progress higher is better" in rows[1]
    assert rows[2].startswith("sample 2 0.0125 (1) – (0) 0.5 ✓ chosen")
    assert rows[3].endswith("✕ put last 12 mm from a plan that failed")
    assert rows[4].endswith("0.2 (1) 0.75 (0) 0.5 ✕ put last gate: <b>too far</b>")


def test_the_best_of_refused_plans_is_not_praised(make_run) -> None:
    rows = section(chosen(make_run(), candidate(1, refused="out of reach")))
    assert rows[2].endswith("◐ least bad out of reach")


def test_a_run_without_a_choice_has_no_such_section(make_run) -> None:
    assert section(make_run()) == []


@pytest.mark.parametrize("candidates", [None, "x", [], [3]])
def test_a_broken_event_is_no_choice(make_run, candidates: Any) -> None:
    assert section(chosen(make_run(), candidates=candidates)) == []


def test_a_half_broken_candidate_is_shown_as_far_as_it_goes(make_run) -> None:
    rows = section(chosen(make_run(), {"scores": [1], "total": "much"}, measures={"name": 1}))
    assert rows[2] == "sample – ✓ chosen"
