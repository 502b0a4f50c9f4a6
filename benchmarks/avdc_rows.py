"""Rows of the AVDC protocol, gathered into columns, and the figures that are counted from them; see avdc_table.py."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import DataError

SUITE = "metaworld-11-avdc"
DRAWS = 4000
Row = dict[str, Any]
Values = Mapping[tuple[str, str], Mapping[int, float]]  # (task, camera) -> layout -> value


@dataclass(frozen=True, kw_only=True)
class Column:
    """Rows that were measured the same way; `name` is of their file, `about` what they learnt from."""

    name: str
    rows: list[Row]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def control(self) -> str | None:
        """The control condition, or None."""
        return self.rows[0].get("control")

    @property
    def title(self) -> str:
        """Its heading."""
        title = str(self.about.get("title") or self.name)
        return f"{title}, {self.control}" if self.control else title

    @property
    def key(self) -> tuple[Any, ...]:
        """What it shares with its control."""
        return self.rows[0].get("recipe_digest"), self.rows[0].get("rig_digest"), self.rows[0].get("suite")

    @property
    def weights(self) -> frozenset[tuple[tuple[str, str], ...]]:
        """Digests of the networks that made its rows, by plug-in."""
        return frozenset(tuple(sorted((row.get("weights") or {}).items())) for row in self.rows)

    def values(self) -> Values:
        """Success as 0 or 1, by cell and layout."""
        found: dict[tuple[str, str], dict[int, float]] = {}
        for row in self.rows:
            found.setdefault((row["task"], row["camera"] or ""), {})[row["seed"]] = float(bool(row["success"]))
        return found


def read_rows(path: Path) -> list[Row]:
    """Read rows of a file that may be compressed; a last line that a kill cut off is left out."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected rows of episodes, found that it cannot be read ({error}).") from error
    rows = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise DataError(f"{path}:{number}: expected one JSON object per line, found {line[:40]!r}.") from error
        if not isinstance(row, dict) or not {"task", "seed", "camera", "success"} <= set(row):
            raise DataError(f"{path}:{number}: expected an episode of `cascade eval`, found {line[:40]!r}.")
        rows.append(row)
    return rows


def columns_of(paths: Sequence[Path], about: Mapping[str, Mapping[str, Any]]) -> list[Column]:
    """Return the columns of some files, in their order; an episode that is there twice counts once."""
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], Row]] = {}
    names: dict[tuple[Any, ...], str] = {}
    for path in paths:
        name = name_of(path)
        for row in read_rows(path):
            row.setdefault("suite", SUITE)
            # Rows without a digest were written before there was one: there, the file says what belongs together.
            made = (row.get("recipe_digest") or name, row.get("rig_digest"), row["suite"])
            group = (*made, row.get("control"))
            episode = (row["task"], row["seed"], row["camera"])
            known = groups.setdefault(group, {}).setdefault(episode, row)
            if known["success"] != row["success"]:
                what = f"{row['task']} {row['seed']} through {row['camera']}"
                raise DataError(f"{path}: {what} is there twice and ended differently.", "Give each run once.")
            names.setdefault(group, name)
    return [
        Column(name=names[group], rows=list(rows.values()), about=about.get(names[group], {}))
        for group, rows in groups.items()
    ]


def name_of(path: Path) -> str:
    """Return what a file of rows is called: avdc-NAME-control.jsonl.gz is NAME, DIR/episodes.jsonl is DIR."""
    name = path.name.split(".")[0]
    return (path.resolve().parent.name if name == "episodes" else name.removeprefix("avdc-")).removesuffix("-control")


def mean_of_cells(values: Values) -> float:
    """Return the mean of the rates of all cells, as the published figures are made; NaN without any."""
    rates = [np.mean(list(cell.values())) for cell in values.values() if cell]
    return float(np.mean(rates)) if rates else float("nan")


def bootstrap(values: Values, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float] | None:
    """Return a 95 % percentile interval of `mean_of_cells`, drawing layouts within each task.

    A layout is seen by every camera, so it is drawn with all of them. None where a task has a single layout: nothing is
    known of others.
    """
    rng = np.random.default_rng(seed)
    rates = []
    for task in dict.fromkeys(task for task, _ in values):
        cells = [cell for (name, _), cell in values.items() if name == task]
        layouts = sorted({layout for cell in cells for layout in cell})
        if len(layouts) < 2:
            return None
        table = np.array([[cell.get(layout, np.nan) for cell in cells] for layout in layouts])
        picks = rng.integers(len(layouts), size=(draws, len(layouts)))
        drawn = table[picks]
        there = np.isfinite(drawn).sum(axis=1)
        rates.append(np.where(there > 0, np.nansum(drawn, axis=1) / np.maximum(there, 1), np.nan))
    if not rates:
        return None
    low, high = np.percentile(np.nanmean(np.concatenate(rates, axis=1), axis=1), [2.5, 97.5])
    return float(low), float(high)


def gap(column: Column, control: Column) -> tuple[float, tuple[float, float] | None, int]:
    """Return the difference to a control on the episodes both have, its interval, and how many they are."""
    ours, theirs = column.values(), control.values()
    pairs = {
        cell: {k: v - theirs[cell][k] for k, v in layouts.items() if k in theirs[cell]}
        for cell, layouts in ours.items()
        if cell in theirs
    }
    pairs = {cell: layouts for cell, layouts in pairs.items() if layouts}
    return mean_of_cells(pairs), bootstrap(pairs), sum(map(len, pairs.values()))


def count(rows: Iterable[Row]) -> tuple[int, int]:
    """Return successes and episodes."""
    done = [bool(row["success"]) for row in rows]
    return sum(done), len(done)
