"""The table of the AVDC protocol, counted from rows of episodes, as Markdown.

    python benchmarks/avdc_table.py                             # from the committed rows
    python benchmarks/avdc_table.py runs/mine/episodes.jsonl    # from what `cascade eval metaworld-11-avdc` wrote
    python benchmarks/avdc_table.py --run runs/avdc             # runs the protocol first; interrupted, it goes on

Rows of one recipe, rig and control condition are a column, whichever file they are in. A column's control is the column
of the same recipe and rig whose plans were made for another layout. What a column learnt from, and the figures that
others published, stand in benchmarks/results/avdc.yaml.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from avdc_rows import SUITE, Column, Row, bootstrap, columns_of, count, gap, mean_of_cells

from cascade.contracts import CascadeError, DataError
from cascade.statistics import percentiles, wilson
from cascade.suites import Suite, find_suite

RESULTS = Path(__file__).parent / "results"
ABOUT = RESULTS / "avdc.yaml"
CONTROL = "wrong-layout"
MOST_MISSING = 6  # cells named one by one


def rate(rows: Iterable[Row]) -> str:
    """Return `hits/n, rate (Wilson interval)`, a dash without episodes."""
    hits, n = count(rows)
    if not n:
        return "–"
    low, high = wilson(hits, n)
    return f"{hits}/{n}, {hits / n:.0%} ({100 * low:.0f} to {100 * high:.0f})"


def percent(value: float, interval: tuple[float, float] | None) -> str:
    """Return a rate in percent with its interval."""
    if not np.isfinite(value):
        return "–"
    text = f"**{100 * value:.1f}**"
    return text + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else " (too few layouts)")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---", *["--:"] * (len(head) - 1)], *rows)]
    return "\n".join(lines)


def main_table(columns: Sequence[Column], published: Sequence[Mapping[str, Any]], suite: Suite) -> str:
    """Tasks down, ours and the published figures across."""
    head = ["success, %", *(c.title for c in columns), *(f"{p['method']} {p['all']}" for p in published)]
    lines: list[list[str]] = []
    for task in suite.tasks:
        theirs = [f"{p['tasks'][task]:.1f}" if p.get("tasks") else "" for p in published]
        lines.append([task, *(rate(r for r in c.rows if r["task"] == task) for c in columns), *theirs])
    overall = [f"**{p['all']}**" for p in published]
    cells = len(suite.tasks) * len(suite.cameras)
    means = [percent(mean_of_cells(c.values()), bootstrap(c.values())) for c in columns]
    lines.append([f"mean of the {cells} task x camera rates, 95 % bootstrap over layouts", *means, *overall])
    lines.append(["pooled, 95 % Wilson", *(rate(c.rows) for c in columns), *[""] * len(published)])
    lines.append(["source", *["this table's rows"] * len(columns), *(str(p["source"]) for p in published)])
    lines.append(
        ["labels", *(str(c.about.get("labels", "not stated")) for c in columns), *_stated(published, "labels")]
    )
    lines.append(["masks", *(str(c.about.get("masks", "not stated")) for c in columns), *_stated(published, "masks")])
    return table(head, lines)


def _stated(published: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return [str(p.get(key, "not stated")) for p in published]


def camera_table(columns: Sequence[Column], suite: Suite) -> str:
    """Cameras down."""
    lines = [[camera, *(rate(r for r in c.rows if r["camera"] == camera) for c in columns)] for camera in suite.cameras]
    return table(["camera", *(c.title for c in columns)], lines)


def control_table(columns: Sequence[Column]) -> str:
    """Every column beside the same recipe with plans for another layout."""
    controls = {c.key: c for c in columns if c.control == CONTROL}
    lines = []
    for column in columns:
        if column.control is not None:
            continue
        control = controls.get(column.key)
        if control is None:
            lines.append([column.title, rate(column.rows), "not run", "", "0"])
            continue
        if column.weights != control.weights:
            other = f"{rate(control.rows)}, other weights"
            lines.append([column.title, rate(column.rows), other, "not comparable", "0"])
            continue
        difference, interval, n = gap(column, control)
        lines.append([column.title, rate(column.rows), rate(control.rows), percent(difference, interval), str(n)])
    head = ["", "plans of the scene", "plans of another layout", "what seeing bought, points", "episodes of both"]
    return table(head, lines)


def cost_table(columns: Sequence[Column]) -> str:
    """Plans, time, and how episodes ended."""

    def across(name: str, cell: Callable[[Column], str]) -> list[str]:
        return [name, *(cell(column) for column in columns)]

    def times(words: str, stage: str) -> list[str]:
        return across(f"ms per {words}, p50 / p99", lambda column: _times(column, stage))

    lines = [
        across("plans per episode, mean", lambda c: _mean(c, "plans")),
        across("success without a second plan", lambda c: rate(r | {"success": _at_once(r)} for r in c.rows)),
        across("control steps per episode, mean", lambda c: _mean(c, "steps")),
        times("plan", "plan"),
        times("decoding", "decode"),
        times("gate of a plan", "gate_plan"),
        times("chunk", "extract"),
        times("gate of a chunk", "gate_chunk"),
        across("wall seconds per episode, mean", lambda c: _mean(c, "wall_s")),
        across("load of the machine, median", lambda c: _median(c, "load")),
        across("failures ended by", lambda c: _counted(r["failure_stage"] for r in c.rows if not r["success"])),
        across("verdicts of the gate", _gates),
        across("gate: what was wrong", lambda c: _counted(v["check"] for r in c.rows for v in r.get("violations", []))),
    ]
    return table(["", *(c.title for c in columns)], lines)


def _at_once(row: Row) -> bool:
    return bool(row["success"]) and row.get("plans") == 1


def _known(column: Column, key: str) -> list[float]:
    return [float(row[key]) for row in column.rows if row.get(key) is not None]


def _mean(column: Column, key: str) -> str:
    known = _known(column, key)
    return f"{np.mean(known):.1f}" if known else "–"


def _median(column: Column, key: str) -> str:
    known = _known(column, key)
    return f"{np.median(known):.1f}" if known else "–"


def _times(column: Column, stage: str) -> str:
    found = [ms for row in column.rows for ms in row.get("stage_ms", {}).get(stage, [])]
    shown = percentiles(found)
    return f"{shown['p50']:.1f} / {shown['p99']:.1f}" if found else "–"


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {n}" for word, n in Counter(words).most_common()) or "–"


def _gates(column: Column) -> str:
    total: Counter[str] = Counter()
    for row in column.rows:
        for subject, verdicts in row.get("gates", {}).items():
            total.update({f"{subject} {verdict}": n for verdict, n in verdicts.items()})
    return ", ".join(f"{name} {n}" for name, n in sorted(total.items())) or "–"


def budget_table(columns: Sequence[Column]) -> str:
    """What each column learnt from."""
    own = [column for column in columns if column.control is None]
    keys = {"videos": "videos", "labels": "action labels", "hours": "training time", "parameters": "parameters"}
    lines = [[words, *(str(c.about.get(key, "not stated")) for c in own)] for key, words in keys.items()]
    return table(["", *(c.title for c in own)], lines)


def origin_table(columns: Sequence[Column]) -> str:
    """Commits, weights, versions, and what the columns lack of the protocol."""

    def told(column: Column, key: str) -> str:
        return ", ".join(sorted({str(row.get(key)) for row in column.rows}))

    def weights(column: Column) -> str:
        return ", ".join(sorted({f"{k} {v}" for pairs in column.weights for k, v in pairs})) or "none"

    def versions(column: Column) -> str:
        known = {json.dumps(row["versions"], sort_keys=True) for row in column.rows if row.get("versions")}
        return "; ".join(", ".join(f"{k} {v}" for k, v in json.loads(text).items()) for text in sorted(known)) or "–"

    lines = [
        ["episodes", *(str(len(c.rows)) for c in columns)],
        ["layouts", *(_layouts(c) for c in columns)],
        ["commit", *(told(c, "commit") for c in columns)],
        ["recipe", *(told(c, "recipe_digest") for c in columns)],
        ["rig", *(told(c, "rig_digest") for c in columns)],
        ["weights", *map(weights, columns)],
        ["versions", *map(versions, columns)],
    ]
    return table(["", *(c.title for c in columns)], lines)


def _layouts(column: Column) -> str:
    seeds = sorted({row["seed"] for row in column.rows})
    return f"{seeds[0]} to {seeds[-1]} ({len(seeds)})" if len(seeds) > 1 else str(seeds[0])


def lacking(column: Column, suite: Suite) -> list[str]:
    """Return in what a column is not the whole protocol, in words; nothing when it is."""
    said = []
    layouts = range(suite.seed, suite.seed + suite.episodes)
    other = sorted({row["seed"] for row in column.rows} - set(layouts))
    if other:
        said.append(f"has layouts other than the protocol's {layouts[0]} to {layouts[-1]} ({other[0]} and on)")
    values = column.values()
    short = {cell: len(values.get(cell, {}).keys() & set(layouts)) for cell in product(suite.tasks, suite.cameras)}
    short = {cell: n for cell, n in short.items() if n < len(layouts)}
    if short:
        total = len(suite.tasks) * len(suite.cameras) * len(layouts)
        missing = sum(len(layouts) - n for n in short.values())
        named = [f"{task} {camera} has {n} of {len(layouts)}" for (task, camera), n in short.items()]
        more = f" and {len(named) - MOST_MISSING} cells more" if len(named) > MOST_MISSING else ""
        said.append(f"lacks {missing} of {total} episodes ({', '.join(named[:MOST_MISSING])}{more})")
    for key, words in (("commit", "commits"), ("versions", "versions of packages"), ("weights", "sets of weights")):
        if len({json.dumps(row.get(key), sort_keys=True) for row in column.rows if row.get(key)}) > 1:
            said.append(f"mixes {words}")
    if any(str(row.get("commit")).endswith("-dirty") for row in column.rows):
        said.append("ran from files that were not committed")
    if any(not row.get("recipe_digest") for row in column.rows):
        said.append("has rows that do not say of which recipe they are")
    return said


def document(columns: Sequence[Column], published: Sequence[Mapping[str, Any]]) -> str:
    """Return all tables."""
    names = {str(column.rows[0]["suite"]) for column in columns}
    if len(names) > 1:
        raise DataError(f"rows: expected one suite, found {', '.join(sorted(names))}.", "Give rows of one suite.")
    suite = find_suite(names.pop())
    own = [column for column in columns if column.control is None]
    parts = [main_table(own, published, suite)] if own else []
    flaws = [f"- {column.title}: {text}." for column in columns for text in lacking(column, suite)]
    if flaws:
        parts.append("Not the whole protocol, so not to be read beside the published figures:\n\n" + "\n".join(flaws))
    parts += [control_table(columns), camera_table(columns, suite), cost_table(columns)]
    parts += [budget_table(columns), origin_table(columns)]
    return "\n\n".join(parts)


def run_all(about: Mapping[str, Mapping[str, Any]], folder: Path, jobs: int, extra: Sequence[str]) -> list[Path]:
    """Run every row and its control; what an earlier call finished is not run again. Returns the files.

    A row that `needs` a folder that is not there, weights that are not shipped, is passed over and said to be.
    """
    found = []
    for name, row in about.items():
        if "needs" in row and not Path(row["needs"]).is_dir():
            print(
                f"{name}: passed over, for it needs {row['needs']}; docs/data.md says how to make it", file=sys.stderr
            )
            continue
        for suffix, control in (("", ()), ("-control", ("--control", CONTROL))):
            output = folder / f"avdc-{name}{suffix}"
            arguments = [*shlex.split(str(row["run"])), *control, *extra, "--jobs", str(jobs), "--resume"]
            command = [sys.executable, "-c", "from cascade.cli.app import main; main()", "eval", SUITE]
            print(f"cascade eval {SUITE} {shlex.join(arguments)} -o {output}", file=sys.stderr)
            done = subprocess.run([*command, *arguments, "-o", str(output)], stdout=subprocess.DEVNULL, check=False)
            if done.returncode:
                raise SystemExit(done.returncode)
            packed = folder / f"avdc-{name}{suffix}.jsonl.gz"
            text = (output / "episodes.jsonl").read_bytes()
            packed.write_bytes(gzip.compress(text, mtime=0))
            found.append(packed)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="*", help="files of rows; the committed ones when none is named")
    parser.add_argument("--about", type=Path, default=ABOUT, help="what rows learnt from, and published figures")
    parser.add_argument("--run", type=Path, metavar="DIR", help="run the protocol into DIR first")
    parser.add_argument("--only", help="with --run: only these rows, separated by commas")
    parser.add_argument("--eval", default="", metavar="OPTIONS", help="with --run: further options of `cascade eval`")
    parser.add_argument("--jobs", type=int, default=1, help="with --run: processes")
    options = parser.parse_args()
    try:
        print(_answer(options))
    except CascadeError as error:
        raise SystemExit(f"Error: {error.problem}\n  {error.fix}".rstrip()) from None


def _answer(options: argparse.Namespace) -> str:
    about = yaml.safe_load(options.about.read_text(encoding="utf-8"))
    rows = about.get("rows") or {}
    paths = list(options.rows)
    if options.run is not None:
        chosen = options.only.split(",") if options.only else list(rows)
        unknown = [name for name in chosen if name not in rows]
        if unknown:
            known = ", ".join(rows) or "none"
            raise DataError(f"--only: expected rows of {options.about}, found {unknown[0]!r}.", f"Known: {known}.")
        options.run.mkdir(parents=True, exist_ok=True)
        paths += run_all({name: rows[name] for name in chosen}, options.run, options.jobs, shlex.split(options.eval))
    elif not paths:
        paths = sorted(options.about.parent.glob("avdc-*.jsonl.gz"))
    columns = columns_of(paths, rows)
    if not columns:
        fix = "Name files of rows, or run the protocol: make reproduce-table RUN=1"
        raise DataError(f"expected rows of episodes in {options.about.parent}/avdc-*.jsonl.gz, found none.", fix)
    return document(columns, about.get("published") or [])


if __name__ == "__main__":
    main()
