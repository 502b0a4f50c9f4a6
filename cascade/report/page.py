"""One HTML file that shows a run: works from `file://`, needs no network, stays under 15 MB."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from cascade.report import sections
from cascade.report.charts import Line, bounds, curves, projections
from cascade.report.images import Sheets, as_plan_sees, encode_sheets, fit
from cascade.report.numbers import outcome_of, verdict_words
from cascade.report.run_folder import RunRecord, read_run
from cascade.report.timeline import ImaginedPath, Timeline, build_timeline, imagined_path, nearest_imagined

MOST_BYTES = 15_000_000
FRAME_BYTES = 11_000_000
QUALITIES = ((92, 320), (80, 256), (65, 160), (50, 96))  # WebP quality and largest side [px], best first
MARKS = {"success": "✓", "failed": "✕", "rejected": "✕", "error": "!", "interrupted": "■", "unfinished": "…"}
CHANGE_M = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class _Story:
    """A run with what is derived from it once."""

    run: RunRecord
    timeline: Timeline
    paths: dict[int, ImaginedPath]
    workspace_m: NDArray[np.float64] | None
    distance_m: NDArray[np.float64]


def build_report(run_dir: Path, output: Path | None = None) -> Path:
    """Write the report of a run and return its path.

    Args:
        run_dir: a run folder, also one whose run was killed.
        output: where to write; `report.html` inside the run folder by default.

    Raises:
        DataError: `run_dir` is no run folder, its run.json is broken, or `output` cannot be written.
    """
    run = read_run(run_dir)
    paths = {index: imagined_path(run, index) for index in _plan_indices(run)}
    story = _Story(run, build_timeline(run), paths, workspace_of(run.facts), nearest_imagined(run, paths))
    page = _page(story)
    size = len(page.encode("utf-8"))
    if size > MOST_BYTES:
        raise DataError(f"{run_dir}: expected a report under {MOST_BYTES / 1e6:.0f} MB, found {size / 1e6:.1f} MB.")
    target = output or run_dir / "report.html"
    partial = target.with_name(target.name + ".partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise DataError(
            f"{target}: expected to write the report, found that it cannot be written ({error.strerror}).",
            "Name another file with --output.",
        ) from error
    return target


def workspace_of(facts: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return the (2, 3) workspace box the rig described, wherever it stands in its description, or None."""
    waiting: list[Any] = [facts.get("rig_description")]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, Mapping):
            if "workspace_m" in value:
                try:
                    box = np.asarray(value["workspace_m"], dtype=np.float64)
                except (ValueError, TypeError):
                    return None
                return box if box.shape == (2, 3) and bool(np.isfinite(box).all() and (box[1] > box[0]).all()) else None
            waiting += list(value.values())
    return None


def _plan_indices(run: RunRecord) -> list[int]:
    return sorted({*run.plans, *(chunk.plan for chunk in run.chunks.values())})


def _page(story: _Story) -> str:
    run, timeline = story.run, story.timeline
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    outcome, verdict = outcome_of(run.facts), verdict_words(run.facts)
    said = str(run.facts.get("instruction") or "")
    stage = run.facts.get("failure_stage")
    because = f'<p class="because">Stage at fault: <b>{escape(str(stage))}</b></p>' if stage else ""
    versions = run.facts.get("versions")
    version = f" {versions.get('cascade-wam', '')}" if isinstance(versions, Mapping) else ""
    pieces = {
        "title": escape(f"{verdict} · {run.facts.get('task') or run.folder.name}"),
        "script_hash": f"sha256-{digest}",
        "style": _asset("report.css"),
        "outcome": outcome,
        "eyebrow": sections.eyebrow(run.facts),
        "mark": MARKS.get(outcome, "?"),
        "verdict": escape(verdict),
        "instruction": f"“{escape(said)}”" if said else "",
        "because": because,
        "problems": sections.problems(run),
        "tiles": sections.tiles(run, story.distance_m),
        "bands": _bands(timeline),
        "last_moment": str(max(len(timeline) - 1, 0)),
        "alignment": f"Imagined and executed are matched by {escape(timeline.alignment)}."
        if len(run.trajectory)
        else "Nothing was executed; the imagined video plays alone.",
        "path_note": escape("Imagined: " + ", ".join(sorted({path.source for path in story.paths.values()})) + ".")
        if story.paths
        else "",
        "projections": _projections(story),
        "curves": _curves(story),
        "gate": sections.gate(run),
        "time": sections.times(run),
        "facts": sections.facts(run),
        "footer": escape(
            f"cascade {version} · {run.folder.resolve().name} · this file is complete and needs no network"
        ),
        "data": _data(story),
        "script": script,
    }
    # One pass, so that a text of the run that looks like a placeholder stays a text.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: pieces[match.group(1)], _asset("report.html"))


def _asset(name: str) -> str:
    return (files("cascade.report") / "assets" / name).read_text(encoding="utf-8")


def _data(story: _Story) -> str:
    run, timeline = story.run, story.timeline
    lines = _paths(story)
    low, high = bounds([line.points for line in lines], story.workspace_m)
    plans, executed = _frames(story)
    value = {
        "moments": {
            "t_s": [round(float(t), 3) for t in timeline.t_s],
            **{name: getattr(timeline, name).tolist() for name in ("step", "row", "plan", "frame")},
            "executed": np.where(timeline.executed >= 0, np.cumsum(timeline.executed >= 0) - 1, -1).tolist(),
        },
        "plans": [_plan_data(run, story.paths[index], index, plans[index]) for index in plans],
        "executed": executed.as_json() if executed is not None else None,
        "measured": _points(run.trajectory.measured_m),
        "commanded": _points(next(line.points for line in lines if line.kind == "commanded")),
        "workspace": None if story.workspace_m is None else _points(story.workspace_m),
        "bounds": _points(np.stack([low, high])),
    }
    # `<` never appears in the data, so that no text of the run can end the script element.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _plan_data(run: RunRecord, path: ImaginedPath, index: int, sheets: Sheets) -> dict[str, Any]:
    count = len(run.plans[index])
    nearest = np.abs(path.frame[None, :] - np.arange(count)[:, None]).argmin(axis=1) if len(path.frame) else np.zeros(0)
    return {
        "index": index,
        "count": count,
        "path": _points(path.position_m),
        "point": [int(i) for i in nearest],
        "sheets": sheets.as_json(),
    }


def _frames(story: _Story) -> tuple[dict[int, Sheets], Sheets | None]:
    """Encode the plans' frames and the executed frames of all moments, as well as the size of the page allows."""
    run, timeline = story.run, story.timeline
    wanted = timeline.executed[timeline.executed >= 0]
    first = next(iter(run.plans.values()), None)
    for quality, side in QUALITIES:
        plans = {i: encode_sheets(fit(plan.frames, largest=side), quality=quality) for i, plan in run.plans.items()}
        executed = None
        if len(wanted):
            frames = run.executed[wanted]
            frames = fit(as_plan_sees(frames, first.transform) if first is not None else frames, largest=side)
            executed = encode_sheets(frames, quality=quality)
        size = sum(sheets.size_bytes for sheets in plans.values()) + (executed.size_bytes if executed else 0)
        if size <= FRAME_BYTES:
            return plans, executed
    return plans, executed


def _paths(story: _Story) -> list[Line]:
    track = story.run.trajectory
    imagined = [Line("imagined", path.position_m, plan=i, dots=True) for i, path in story.paths.items()]
    sent = track.sent_m[np.isfinite(track.sent_m).all(axis=1)]
    if len(sent):
        sent = sent[np.concatenate([[True], np.linalg.norm(np.diff(sent, axis=0), axis=1) > CHANGE_M])]
    return [*imagined, Line("commanded", sent), Line("measured", track.measured_m)]


def _projections(story: _Story) -> str:
    charts = projections(_paths(story), story.workspace_m)
    return "".join(f"<div><h3>{escape(title)}</h3>{svg}</div>" for title, svg in charts)


def _curves(story: _Story) -> str:
    timeline, track = story.timeline, story.run.trajectory
    if not len(track):
        return '<p class="quiet">No control step was taken.</p>'
    step = track.step.astype(np.float64)
    lines = [
        Line("commanded", np.column_stack([step, track.gripper_target])),
        Line("measured", np.column_stack([step, track.opening])),
    ]
    for index, path in story.paths.items():
        seen = _imagined_opening(timeline, path, index)
        if len(seen):
            lines.insert(0, Line("imagined", seen, dots=True))
    marks = [
        (float(step[np.argmax(track.plan == index)]), f"plan {index}")
        for index in np.unique(track.plan)
        if len(np.unique(track.plan)) > 1
    ][:12]
    gripper = curves(
        lines, y_range=(-0.05, 1.05), y_label="opening, 0 closed to 1 open", title="Gripper opening", marks=marks
    )
    far = story.distance_m * 1000
    top = float(np.nanmax(far)) * 1.1 if np.isfinite(far).any() else 1.0
    off = curves(
        [Line("measured", np.column_stack([step, far]))],
        y_range=(0.0, max(top, 5.0)),
        y_label="mm",
        title="Distance of the hand from the imagined path",
        marks=marks,
    )
    return (
        f'<div><h3>Gripper opening</h3><p class="legend"><span class="key imagined">imagined</span>'
        f'<span class="key commanded">commanded</span><span class="key measured">measured</span></p>{gripper}</div>'
        f"<div><h3>Distance of the hand from the imagined path</h3>"
        f'<p class="legend"><span class="key measured">measured</span></p>{off}</div>'
    )


def _imagined_opening(timeline: Timeline, path: ImaginedPath, index: int) -> NDArray[np.float64]:
    """Return (P, 2) of control step and opening: every imagined frame at the middle of the moments it is shown at."""
    points = []
    for frame, opening in zip(path.frame, path.opening, strict=True):
        moments = np.flatnonzero((timeline.plan == index) & (timeline.frame == frame))
        if len(moments):
            points.append((float(timeline.step[moments].mean()), float(opening)))
    return np.array(sorted(points)).reshape(-1, 2)


def _bands(timeline: Timeline) -> str:
    """Return one strip per imagined frame, as wide as the moments beside which it is shown."""
    if len(timeline) < 2:
        return ""
    change = (np.diff(timeline.frame) != 0) | (np.diff(timeline.plan) != 0)
    starts = np.concatenate([[0], np.flatnonzero(change) + 1, [len(timeline)]])
    full = len(timeline) - 1
    parts = []
    for number, (a, b) in enumerate(pairwise(starts)):
        if timeline.frame[a] < 0:
            continue
        replanned = a > 0 and timeline.plan[a] != timeline.plan[a - 1]
        kind = " ".join(name for name, on in (("odd", number % 2), ("first", replanned)) if on)
        left, wide = max(a - 0.5, 0) / full * 100, (min(b - 0.5, full) - max(a - 0.5, 0)) / full * 100
        parts.append(f'<i class="{kind}" style="left:{left:.2f}%;width:{wide:.2f}%"></i>')
    return "".join(parts)


def _points(values: NDArray[np.float64]) -> list[list[float] | None]:
    return [[round(float(v), 5) for v in row] if np.isfinite(row).all() else None for row in values]
