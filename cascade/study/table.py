"""A study's result as tables for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cascade.study.result import OPEN

Result = Mapping[str, Any]
Sheet = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def sheets(result: Result) -> Iterator[Sheet]:
    """Yield (title, column names, rows) of every table of a result."""
    for clock, arms in result["arms"].items():
        if not arms:
            continue
        yield (
            f"{result['study']}: success, {_clock(clock)}",
            _ARMS,
            [_arm(f"{i} {name}", arm) for i, (name, arm) in enumerate(arms.items(), 1)],
        )
        yield (
            f"successes by task and number of the arm, {_clock(clock)}",
            ("task", *_numbers(arms)),
            list(_tasks(result, arms)),
        )
        compared = result["comparisons"][clock]
        if compared:
            yield f"comparisons, {_clock(clock)}", _PAIRS, [_pair(entry) for entry in compared]
    if result["price_of_compute"]:
        yield "price of compute: world waits against real time", _PAIRS, [_pair(e) for e in result["price_of_compute"]]


_ARMS = ("arm", "success", "%", "Wilson", "exact", "steps", "plans", "ms p50", "ms p99")
_PAIRS = ("first", "second", "n", "gap", "95 %", "p Holm", "seen", "first is")


def _arm(name: str, arm: Mapping[str, Any]) -> tuple[str, ...]:
    of, ms = arm["success"], arm["decision_ms"]
    return (
        name,
        f"{of['hits']}/{of['n']}",
        f"{100 * of['rate']:.0f}",
        _span(of["ci95"]),
        _span(of["exact95"]),
        f"{arm['steps']['mean']:.0f}",
        f"{arm['plans']['mean']:.1f}",
        f"{ms['p50']:.0f}",
        f"{ms['p99']:.0f}",
    )


def _tasks(result: Result, arms: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for task in result["tasks"]:
        rates = (arm["tasks"][task] for arm in arms.values())
        yield (task, *(f"{of['hits']}/{of['n']}" if of["n"] else "" for of in rates))


def _pair(entry: Mapping[str, Any]) -> tuple[str, ...]:
    gap = entry["detectable_gap"]
    return (
        entry["first"],
        entry["second"],
        str(entry["n"]),
        f"{100 * entry['gap']:+.0f}",
        f"{100 * entry['ci95'][0]:+.0f} to {100 * entry['ci95'][1]:+.0f}",
        f"{entry['p_holm']:.2g}",
        "none" if gap is None else f"{100 * gap:.0f}",
        entry["verdict"],
    )


def _numbers(arms: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the numbers of the arms, for columns too narrow for names."""
    return tuple(str(number) for number in range(1, len(arms) + 1))


def _span(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.0f}-{100 * interval[1]:.0f}"


def _clock(clock: str) -> str:
    return "the world waits" if clock == "frozen" else "real time"


def show(result: Result, console: Console) -> None:
    """Print all tables and what they may be taken for."""
    for title, names, rows in sheets(result):
        table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for name in names:
            text = name in ("arm", "task", "first", "second", "first is")
            table.add_column(name, justify="left" if text else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in notes(result):
        console.print(line, markup=False)


def notes(result: Result) -> list[str]:
    """Return the sentences that belong under the tables."""
    lines = [
        "Success with 95 % intervals in per cent (Wilson; exact: Clopper-Pearson); ms from look to permitted chunk.",
        "Gap in points with its 95 % bootstrap interval over scenes; seen: smallest gap found four times in five.",
    ]
    if result["episodes"] < result["planned"]:
        lines.append(f"{result['episodes']} of {result['planned']} episodes: not finished, and no basis for claims.")
    gaps = [e["detectable_gap"] for entries in result["comparisons"].values() for e in entries]
    known = [gap for gap in gaps if gap is not None]
    if known:
        low, high = 100 * min(known), 100 * max(known)
        lines.append(
            f"Gaps below {low:.0f} to {high:.0f} points (by pair) would have been missed more often than once in five; "
            f'"{OPEN}" is no proof of equality.'
        )
    elif gaps:
        lines.append("So few scenes that no gap could have been shown.")
    lines += [f"error: {error}" for error in result["errors"][:3]]
    return lines


def markdown(result: Result) -> str:
    """Return the same as Markdown."""
    parts = []
    for title, names, rows in sheets(result):
        parts += [f"**{title[:1].upper()}{title[1:]}**", ""]
        parts += [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        parts += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join([*parts, *notes(result), ""])
