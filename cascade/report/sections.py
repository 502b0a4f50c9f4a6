"""Parts of the page that are words and tables; every text from the run passes `escape`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.report.age import deadline_ms
from cascade.report.numbers import (
    STAGES,
    GateCheck,
    GateTable,
    StageTime,
    gate_tables,
    stage_samples,
    stage_times,
)
from cascade.report.run_folder import Row, RunRecord

MOST_BARS = 24
MOST_GATE_TABLES = 200
OPEN_GATE_TABLES = 3


def number(value: float, digits: int = 4) -> str:
    """Return a number as people read it: `digits` significant, no exponent for ordinary sizes."""
    if not np.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "–"
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{min(digits - 1, 1) if abs(value) < 1 else digits - 1}e}".replace("-", "−")
    whole = len(str(int(abs(value))))
    if not int(abs(value)):
        whole = 0 if abs(value) >= 0.1 or not value else int(np.floor(np.log10(abs(value)))) + 1
    text = f"{value:.{max(0, digits - whole)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−") or "0"


def milliseconds(value: float) -> str:
    """Return a duration given in ms, in the unit that suits its size."""
    if value >= 60_000:
        return f"{int(value // 60_000)} min {value % 60_000 / 1000:.0f} s"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.2f} ms"


def tiles(run: RunRecord, distance_m: NDArray[np.float64]) -> str:
    """Return the row of headline numbers."""
    hertz = float(run.facts.get("control_hz") or 0)
    steps = len(run.trajectory)
    length = f", {steps / hertz:.1f} s at {hertz:g} Hz" if hertz else ""
    cells = [(f"{steps} steps", f"of control{length}" if steps else "of control: the arm did not move")]
    frames = sorted({len(plan) for plan in run.plans.values()})
    spread = "–".join(str(f) for f in ({frames[0], frames[-1]} if len(frames) > 1 else frames)) if frames else "0"
    cells.append(
        (_many(len(run.plans), "plan"), f"of {spread} imagined frames, read as {_many(len(run.chunks), 'chunk')}")
    )
    known = distance_m[np.isfinite(distance_m)]
    if len(known):
        cells.append(
            (f"{np.median(known) * 1000:.0f} mm", f"from the imagined path, at most {known.max() * 1000:.0f} mm")
        )
    thinking: dict[int, float] = {}
    for stage, plan, ms in stage_samples(run.events):
        if stage in ("plan", "decode", "readout", "extract") and plan >= 0:
            thinking[plan] = thinking.get(plan, 0.0) + ms
    if thinking:
        median = float(np.median(list(thinking.values())))
        cells.append((milliseconds(median), "of thinking per plan: plan, decode, read, extract"))
    checks = [check for table in gate_tables(run.events) for check in table.checks]
    if checks:
        broken = sum(not check.held for check in checks)
        held = f"{len(checks) - broken} of {len(checks)}"
        cells.append((held, "gate checks held" if not broken else "gate checks held; see below which did not"))
    return "\n".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in cells)


def problems(run: RunRecord) -> str:
    """Return the notice of what is missing, or nothing."""
    if not run.problems:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in run.problems)
    return f'<div class="notice" id="problems"><p>Some of this run could not be shown</p><ul>{items}</ul></div>'


def gate(run: RunRecord) -> str:
    """Return one table per plan and chunk; those with a failed check are open."""
    tables = gate_tables(run.events)
    if not tables:
        return '<p class="quiet">The gate looked at nothing.</p>'
    few = len(tables) <= OPEN_GATE_TABLES
    shown = tables
    note = ""
    if len(tables) > MOST_GATE_TABLES:
        shown = [table for table in tables if table.verdict != "pass"][:MOST_GATE_TABLES] or tables[:MOST_GATE_TABLES]
        note = f'<p class="quiet small">{len(shown)} of {len(tables)} shown; events.jsonl has all.</p>'
    return "".join(_gate_details(table, few or table.verdict != "pass") for table in shown) + note


def _gate_details(table: GateTable, is_open: bool) -> str:
    tight = table.tightest
    hint = ""
    if tight is not None:
        verb = "tightest" if tight.held else "failed"
        hint = f'<span class="quiet">{verb}: {escape(tight.check)}, {_limit(tight)}</span>'
    rows = "".join(_gate_row(check) for check in table.checks)
    head = (
        "<tr><th>Check</th><th class='n'>Value</th><th class='n'>Limit</th><th class='n'>Margin</th><th>Unit</th>"
        "<th>Near the limit</th><th>Verdict</th></tr>"
    )
    body = f'<div class="scroll"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>' if rows else ""
    return (
        f"<details{' open' if is_open else ''}><summary><b>{escape(table.subject.capitalize())} {table.index}</b> "
        f"{_verdict(table.verdict)} &ensp;{hint}</summary>{body}</details>"
    )


def _gate_row(check: GateCheck) -> str:
    used = min(check.used, 1.0) if np.isfinite(check.used) else 1.0
    where = f" at step {check.step}" if check.step is not None else ""
    message = f"<br><small>{escape(check.message)}{where}</small>" if check.message else f"<small>{where}</small>"
    return (
        f"<tr><td>{escape(check.check)}{message}</td><td class='n'>{number(check.value)}</td>"
        f"<td class='n'>{'≤' if check.upper else '≥'} {number(check.limit)}</td>"
        f"<td class='n'>{number(check.margin)}</td><td>{escape(check.unit)}</td>"
        f"<td><span class='meter{'' if check.held else ' over'}'><i style='width:{used * 100:.0f}%'></i></span></td>"
        f"<td>{_verdict('held' if check.held else 'failed')}</td></tr>"
    )


def _limit(check: GateCheck) -> str:
    unit = f" {escape(check.unit)}" if check.unit else ""
    return (
        f"{number(check.value)}{unit} where {'at most' if check.upper else 'at least'} {number(check.limit)} is allowed"
    )


def _verdict(word: str) -> str:
    kind = {"pass": "pass", "held": "pass", "clip": "clip"}.get(word, "fail")
    sign = {"pass": "✓", "clip": "◐", "fail": "✕"}[kind]
    return f'<span class="{kind}">{sign} {escape(word)}</span>'


def times(run: RunRecord) -> str:
    """Return stacked bars for the run and for each plan, and a table of all stages."""
    stages = stage_times(run.events)
    if not stages:
        return '<p class="quiet">No stage was timed.</p>'
    total = sum(stage.total_ms for stage in stages)
    bars = [_bar("Whole run", [(stage.stage, stage.total_ms) for stage in stages], total)]
    thinking: dict[int, dict[str, float]] = {}
    for stage, plan, ms in stage_samples(run.events):
        if stage != "motion" and plan >= 0:
            of_plan = thinking.setdefault(plan, {})
            of_plan[stage] = of_plan.get(stage, 0.0) + ms
    deadline = deadline_ms(run)
    longest = max([*(sum(of_plan.values()) for of_plan in thinking.values()), (deadline or 0.0) * 1.05], default=0.0)
    for plan, of_plan in sorted(thinking.items())[:MOST_BARS]:
        ordered = [(name, of_plan[name]) for name in _ordered(of_plan)]
        bars.append(_bar(f"Thinking, plan {plan}", ordered, longest, deadline))
    more = len(thinking) - MOST_BARS
    note = f'<p class="quiet small">{more} more plans are not drawn.</p>' if more > 0 else ""
    if deadline is not None and thinking:
        late = sum(sum(of_plan.values()) > deadline for of_plan in thinking.values())
        kept = f"{late} of {len(thinking)} took longer" if late else "every one kept it"
        note += (
            f'<p class="quiet small">The line is the deadline, {milliseconds(deadline)}: how long the motion of a plan '
            f"lasts. A plan thought within it could be made while the last one is carried out; {kept}.</p>"
        )
    return f'<div class="bars">{"".join(bars)}</div>{note}{_stage_table(stages, total)}'


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (STAGES.index(name) if name in STAGES else len(STAGES), name))


def _bar(label: str, parts: Sequence[tuple[str, float]], full: float, deadline: float | None = None) -> str:
    pieces = "".join(
        f'<i class="{_swatch(stage)}" style="width:{ms / max(full, 1e-9) * 100:.2f}%" '
        f'title="{escape(stage)} {milliseconds(ms)}"></i>'
        for stage, ms in parts
    )
    words = ", ".join(f"{stage} {milliseconds(ms)}" for stage, ms in parts)
    whole = milliseconds(sum(ms for _, ms in parts))
    if deadline is not None:
        words += f", deadline {milliseconds(deadline)}"
        pieces += f'<b class="deadline" style="left:{deadline / max(full, 1e-9) * 100:.2f}%"></b>'
    return (
        f'<div><span>{escape(label)}</span><span class="bar" role="img" aria-label="{escape(words)}">{pieces}</span>'
        f"<span>{whole}</span></div>"
    )


def _stage_table(stages: Sequence[StageTime], total: float) -> str:
    rows = "".join(
        f'<tr><td><span class="swatch {_swatch(s.stage)}"></span>{escape(s.stage)}</td><td class="n">{s.count}</td>'
        f'<td class="n">{milliseconds(s.p50_ms)}</td><td class="n">{milliseconds(s.p99_ms)}</td>'
        f'<td class="n">{milliseconds(s.total_ms)}</td>'
        f'<td class="n">{s.total_ms / max(total, 1e-9) * 100:.1f} %</td></tr>'
        for s in stages
    )
    head = (
        "<tr><th>Stage</th><th class='n'>Calls</th><th class='n'>Median</th><th class='n'>99th percentile</th>"
        "<th class='n'>Total</th><th class='n'>Share</th></tr>"
    )
    return f'<div class="scroll narrow"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _swatch(stage: str) -> str:
    return f"s-{stage}" if stage in STAGES else "s-other"


def facts(run: RunRecord) -> str:
    """Return the command that replays the run, what it was made with, and its whole configuration."""
    told = run.facts
    command = str(told.get("replay_command") or told.get("command") or f"cascade replay {shlex.quote(str(run.folder))}")
    rows: list[tuple[str, str]] = [
        (name.replace("_", " ").capitalize(), _plain(told[name]))
        for name in ("instruction", "task", "seed", "recipe", "planner", "extractor", "reader", "rig", "command")
        if told.get(name) not in (None, "", {})
    ]
    rows += [(name.capitalize(), moment(told[name], "%H:%M:%S")) for name in ("started", "ended") if told.get(name)]
    rows += _decisions(run)
    lists = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    parts = [
        f'<div class="command"><pre id="command">{escape(command)}</pre>'
        '<button id="copy" type="button">Copy</button></div>',
        f"<dl>{lists}</dl>",
        _mapping("Versions", told.get("versions")),
        _mapping("Weights (SHA-256)", told.get("weights")),
        _mapping("Rig", told.get("rig_description")),
    ]
    if run.config:
        parts.append(f"<details><summary>Configuration</summary><pre>{escape(run.config)}</pre></details>")
    return "".join(parts)


def _decisions(run: RunRecord) -> list[tuple[str, str]]:
    """Return whom an arbiter followed in each plan, and why."""
    said = []
    for plan in sorted(run.plans):
        told = next((run.chunks[n].provenance.get("arbiter") for n in run.chunks_of(plan)), None)
        if isinstance(told, Mapping):
            why = f"{told.get('branch')}, follows the {told.get('chosen')}: {told.get('why')}"
            said.append((f"Arbiter, plan {plan}", why))
    return said


def _mapping(title: str, values: Any) -> str:
    if not isinstance(values, Mapping) or not values:
        return ""
    rows = "".join(
        f"<dt>{escape(str(name))}</dt><dd><code>{escape(_plain(value))}</code></dd>" for name, value in values.items()
    )
    return f"<details><summary>{escape(title)}</summary><dl>{rows}</dl></details>"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return number(value, 6) if isinstance(value, float) else str(value)


def eyebrow(told: Row) -> str:
    """Return the line above the verdict: which run this is."""
    parts = [str(told[name]) for name in ("task", "recipe", "planner") if told.get(name)]
    if told.get("seed") is not None:
        parts.insert(1, f"seed {told['seed']}")
    parts += [moment(told["started"])] if told.get("started") else []
    return escape(" · ".join(parts))


def moment(value: Any, clock: str = "%H:%M") -> str:
    """Return a time stamp (ISO text or seconds since 1970) as date and time."""
    try:
        when = datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else datetime.fromisoformat(value)
    except (ValueError, TypeError, OverflowError, OSError):
        return str(value)
    return when.strftime(f"%Y-%m-%d {clock} %Z").strip()


def _many(amount: int, noun: str) -> str:
    return f"{amount} {noun}{'' if amount == 1 else 's'}"
