"""The failure table as Markdown, and as one HTML file with a picture of every class."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cascade.failures.verdict import Failure
from cascade.report.page import asset, write_page

MOST_BYTES = 15_000_000
MEANINGS: Mapping[Failure, str] = {
    Failure.PLAN: "The path leads elsewhere than the expert's, and nothing says that it was read wrongly.",
    Failure.FLOW: "The optical flow of the plan could not be followed.",
    Failure.FIT: "The plan is right, or another reading of it is; the path that was read leads elsewhere.",
    Failure.CONTACT: "The path leads to the object, but the hand did not touch it or did not take hold.",
    Failure.SLIPPED: "The object left the hand, or stayed behind while the hand went its way.",
    Failure.TIMEOUT: "The episode ended while all was well.",
    Failure.GATE: "The gate refused a plan or a motion.",
    Failure.OTHER: "None of these.",
}
HINT = (
    "A class is decided from the first plan of an episode, beside what the scripted expert does from the same start. "
    "Upper row: the plan, with the path that was read in it. Lower row: what the camera saw, with the way of the hand. "
    "Ring: the expert’s hand when it touches the object; cross: where it ends."
)
STYLE = """
.failure { margin: 0 0 40px; } .failure img { width: 100%; max-width: 960px; border-radius: 8px; display: block; }
.failure figcaption { display: block; white-space: normal; margin: 8px 0 0; }
td.n, th.n { text-align: right; }
"""


def failures_of(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows that failed and say why."""
    return [row for row in rows if not row["success"] and row.get("diagnosis")]


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """Return task -> class -> how many failed so, tasks as they come; also those without a single failure."""
    found: dict[str, Counter[str]] = {row["task"]: Counter() for row in rows}
    for row in failures_of(rows):
        found[row["task"]][row["diagnosis"]["class"]] += 1
    return found


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the failure table as Markdown."""
    head, *lines = _cells(rows)
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    classes = [failure.value for failure in Failure]
    by_task = counts(rows)
    episodes = Counter(row["task"] for row in rows)
    failed = Counter(row["task"] for row in rows if not row["success"])
    unseen = any(not row["success"] and not row.get("diagnosis") for row in rows)
    lines = [["task", "failed", *classes, *(["not looked into"] if unseen else [])]]
    total: Counter[str] = Counter()
    for task, found in by_task.items():
        total += found
        cells = [str(found[name] or "") for name in classes]
        lines.append([task, f"{failed[task]} of {episodes[task]}", *cells, *_rest(failed[task], found, unseen)])
    cells = [str(total[name] or "") for name in classes]
    lines.append(["all", f"{failed.total()} of {len(rows)}", *cells, *_rest(failed.total(), total, unseen)])
    return lines


def _rest(failed: int, found: Counter[str], unseen: bool) -> list[str]:
    return [str(failed - found.total() or "")] if unseen else []


def write_failures(rows: Sequence[Mapping[str, Any]], folder: Path, title: str) -> Path:
    """Write `failures.html` and `failures.md` into a folder of rows and return the first.

    Args:
        rows: of all episodes, those that failed with a diagnosis.
        folder: where their pictures are.
        title: of the page.

    Raises:
        DataError: a file cannot be written.
    """
    (folder / "failures.md").write_text(markdown(rows) + "\n", encoding="utf-8")
    return write_page(_page(rows, folder, title), folder / "failures.html", str(folder), MOST_BYTES)


def _page(rows: Sequence[Mapping[str, Any]], folder: Path, title: str) -> str:
    failed = failures_of(rows)
    shown = [(failure, [row for row in failed if row["diagnosis"]["class"] == failure.value]) for failure in Failure]
    sections = "".join(_section(failure, found, folder) for failure, found in shown if found)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{asset('report.css')}{STYLE}</style></head><body>"
        f'<header class="top"><p class="eyebrow">{escape(title)}</p><h1>Why episodes failed</h1></header><main>'
        f'<section><div class="scroll">{_html_table(_cells(rows))}</div>'
        f'<p class="hint">{HINT}</p></section>'
        f'{sections}<section><h2>Every failure</h2><div class="scroll">{_every(failed)}</div></section></main>'
        "<footer><p>This file is complete and needs no network.</p></footer></body></html>"
    )


def _section(failure: Failure, rows: Sequence[Mapping[str, Any]], folder: Path) -> str:
    pictured = next((row for row in rows if _picture(row, folder)), None)
    figure = '<p class="quiet">No picture: nothing was planned, or nothing moved.</p>'
    if pictured is not None:
        name = f"{pictured['task']}, layout {pictured['seed']}, through {pictured['camera'] or 'the recipe’s camera'}"
        figure = (
            f'<figure class="failure"><img alt="Plan above, execution below: {escape(name)}" '
            f'src="{_picture(pictured, folder)}"><figcaption><b>{escape(name)}.</b> '
            f"{escape(pictured['diagnosis']['reason'])}</figcaption></figure>"
        )
    heading = f"{failure.value.capitalize()}: {len(rows)}"
    return f'<section id="{failure.name.lower()}"><h2>{heading}</h2><p>{MEANINGS[failure]}</p>{figure}</section>'


def _picture(row: Mapping[str, Any], folder: Path) -> str:
    name = row["diagnosis"].get("picture")
    if not name or not (folder / name).is_file():
        return ""
    return "data:image/webp;base64," + base64.b64encode((folder / name).read_bytes()).decode("ascii")


def _every(rows: Sequence[Mapping[str, Any]]) -> str:
    def perfect(row: Mapping[str, Any]) -> str:
        return {None: "–", True: "succeeds", False: "fails"}[row["diagnosis"].get("perfect_plan")]

    lines = [["task", "camera", "layout", "why", "in words", "with the expert's plan"]]
    for row in rows:
        found = row["diagnosis"]
        lines.append(
            [row["task"], row["camera"] or "", str(row["seed"]), found["class"], found["reason"], perfect(row)]
        )
    return _html_table(lines)


def _html_table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    rest = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in body)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{rest}</tbody></table>"
