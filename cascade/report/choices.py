"""What best-of-N chose from, as a part of the page: every candidate with its scores, and what was held against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from cascade.report.run_folder import Row
from cascade.report.sections import number

OPEN_CHOICES = 3
MOST_CHOICES = 100


def choices(events: Iterable[Row]) -> str:
    """Return the section with one table per choice, or nothing where a run had nothing to choose from."""
    made = [row for row in events if row.get("kind") == "choice" and _mappings(row.get("candidates"))]
    if not made:
        return ""
    tables = "".join(_choice(row, is_open=len(made) <= OPEN_CHOICES) for row in made[:MOST_CHOICES])
    more = len(made) - MOST_CHOICES
    note = f'<p class="quiet small">{more} more choices are in events.jsonl.</p>' if more > 0 else ""
    return (
        '<section aria-labelledby="h-choice">\n<h2 id="h-choice">Why this plan</h2>\n'
        '<p class="quiet small">Scorers have different units, so each one only ranks the candidates: 1 for the best, 0 '
        "for the worst, in brackets. The total is the mean of the ranks by the scorers' weights. What the gate "
        f"refuses, or what resembles a plan that failed, comes last.</p>\n{tables}{note}\n</section>\n"
    )


def _choice(row: Row, *, is_open: bool) -> str:
    candidates, measures = _mappings(row.get("candidates")), _mappings(row.get("measures"))
    heads = "".join(f"<th class='n'>{_measured(measure)}</th>" for measure in measures)
    names = [str(measure.get("name")) for measure in measures]
    rows = "".join(_candidate(one, names, first=place == 0) for place, one in enumerate(candidates))
    return (
        f"<details{' open' if is_open else ''}><summary><b>Plan {escape(str(row.get('plan', '?')))}</b> "
        f'<span class="quiet">{escape(str(row.get("why") or ""))}</span></summary><div class="scroll"><table>'
        f"<thead><tr><th>Candidate</th>{heads}<th class='n'>Total</th><th>Verdict</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _measured(measure: Mapping[str, Any]) -> str:
    unit = str(measure.get("unit") or "")
    better = "higher is better" if measure.get("higher_is_better") else "lower is better"
    return f"{escape(str(measure.get('name')))}<br><small>{escape(f'{unit}, ' if unit else '')}{better}</small>"


def _candidate(one: Mapping[str, Any], names: Sequence[str], *, first: bool) -> str:
    scores, ranks = _mapping(one.get("scores")), _mapping(one.get("ranks"))
    cells = "".join(f"<td class='n'>{_number(scores.get(name))}{_rank(ranks.get(name))}</td>" for name in names)
    sample = one.get("sample")
    name = f"sample {sample + 1}" if isinstance(sample, int) else "sample"
    total = f"<td class='n'>{_number(one.get('total'))}</td>"
    return f"<tr><td>{name}</td>{cells}{total}<td>{_verdict(one, first)}</td></tr>"


def _verdict(one: Mapping[str, Any], first: bool) -> str:
    """What became of a candidate, and what spoke against it."""
    against = [escape(str(one["refused"]))] if one.get("refused") else []
    if one.get("avoided"):
        away = one.get("failed_m")
        far = f"{number(away * 1000, 2)} mm from" if isinstance(away, int | float) else "like"
        against.append(f"{far} a plan that failed")
    reasons = f'<span class="why">{"; ".join(against)}</span>' if against else ""
    if first:
        return f'<span class="clip">◐ least bad</span>{reasons}' if against else '<span class="pass">✓ chosen</span>'
    return f'<span class="fail">✕ put last</span>{reasons}' if against else ""


def _rank(value: Any) -> str:
    return f" <small>({number(value, 2)})</small>" if isinstance(value, int | float) else ""


def _number(value: Any) -> str:
    return number(value, 3) if isinstance(value, int | float) else "–"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """Of a text from a run folder, what is of the expected form."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
