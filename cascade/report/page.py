"""One HTML file that shows a run: works from `file://`, needs no network, stays under 15 MB."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from cascade.report import figures, sections, trial
from cascade.report.charts import bounds
from cascade.report.choices import choices
from cascade.report.images import Sheets, as_plan_sees, encode_sheets, fit
from cascade.report.numbers import failure_stage, outcome_of, verdict_words
from cascade.report.run_folder import RunRecord, read_run
from cascade.report.story import Story, tell
from cascade.report.timeline import ImaginedPath
from cascade.report.tracks import tracks_of

MOST_BYTES = 15_000_000
MOST_TRACKED = 12  # plans whose tracks are shown
FRAME_BYTES = 11_000_000
QUALITIES = ((92, 320), (80, 256), (65, 160), (50, 96))  # WebP quality and largest side [px], best first
MARKS = {
    "success": "✓",
    "planned": "◇",
    "failed": "✕",
    "rejected": "✕",
    "error": "!",
    "interrupted": "‖",
    "unfinished": "…",
}


def build_report(run_dir: Path, output: Path | None = None) -> Path:
    """Write the report of a run and return its path.

    Args:
        run_dir: a run folder, also one whose run was killed.
        output: where to write; `report.html` inside the run folder by default.

    Raises:
        DataError: `run_dir` is no run folder, its run.json is broken, or `output` cannot be written.
    """
    page = _page(tell(read_run(run_dir)))
    return write_page(page, output or run_dir / "report.html", str(run_dir), MOST_BYTES)


def write_page(page: str, target: Path, about: str, most_bytes: int) -> Path:
    """Write a page whole or not at all, and return its path.

    Raises:
        DataError: it is too large, or `target` cannot be written.
    """
    size = len(page.encode("utf-8"))
    if size > most_bytes:
        raise DataError(f"{about}: expected a report under {most_bytes / 1e6:.0f} MB, found {size / 1e6:.1f} MB.")
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


def _page(story: Story) -> str:
    run, timeline = story.run, story.timeline
    outcome, verdict = outcome_of(run.facts), verdict_words(run.facts)
    said = str(run.facts.get("instruction") or "")
    stage = failure_stage(run.facts)
    because = trial.sentence(story.trial)
    if not because and stage and story.trial is None:
        because = f'<p class="because">Ended in stage: <b>{escape(stage)}</b></p>'
    versions = run.facts.get("versions")
    version = f" {versions.get('cascade-wam', '')}" if isinstance(versions, Mapping) else ""
    pieces = {
        "title": escape(f"{verdict} · {run.facts.get('task') or run.folder.name}"),
        "style": asset("report.css"),
        "outcome": outcome,
        "eyebrow": sections.eyebrow(run.facts),
        "mark": MARKS.get(outcome, "?"),
        "verdict": escape(verdict),
        "instruction": f"“{escape(said)}”" if said else "",
        "because": because,
        "problems": sections.problems(run),
        "tiles": sections.tiles(run, story.distance_m),
        "bands": figures.bands(timeline),
        "strip": figures.strip(story),
        "last_moment": str(max(len(timeline) - 1, 0)),
        "alignment": f"Imagined and executed are matched by {escape(timeline.alignment)}."
        if len(run.trajectory)
        else "Nothing was executed; the imagined video plays alone.",
        "path_note": escape("Imagined: " + ", ".join(sorted({path.source for path in story.paths.values()})) + ".")
        if story.paths
        else "",
        "projections": figures.projections(story),
        "curves": figures.curves(story),
        "second": "".join(
            f'<span class="key {"flow" if name == "flow" else "second"}">imagined, read by {escape(name)}</span>'
            for name in story.others
        ),
        "trial": trial.evidence(story.trial, f"cascade blame {shlex.quote(run.folder.name)}"),
        "choices": choices(run.events),
        "gate": sections.gate(run),
        "time": sections.times(run),
        "facts": sections.facts(run),
        "footer": escape(
            f"cascade {version} · {run.folder.resolve().name} · this file is complete and needs no network"
        ),
        "data": _data(story),
    }
    return document("report", pieces)


def document(name: str, pieces: Mapping[str, str]) -> str:
    """Return a page made of the files `name`.html and `name`.js; its policy lets no other script run.

    Args:
        name: of the page: report or compare.
        pieces: what stands in the place of every {{name}}; title, style and data among them.
    """
    script = asset(f"{name}.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    known = {**pieces, "script": script, "script_hash": f"sha256-{digest}"}
    template = asset("document.html").replace("{{body}}", asset(f"{name}.html"))
    # One pass, so that a text of the run that looks like a placeholder stays a text.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: known[match.group(1)], template)


def asset(name: str) -> str:
    """Return the text of a file that pages are made from."""
    return (files("cascade.report") / "assets" / name).read_text(encoding="utf-8")


def _data(story: Story) -> str:
    run, timeline = story.run, story.timeline
    lines = figures.paths(story)
    low, high = bounds([line.points for line in lines], story.workspace_m)
    plans, executed = frames_of(story)
    value = {
        "moments": {
            "t_s": [round(float(t), 3) for t in timeline.t_s],
            **{name: getattr(timeline, name).tolist() for name in ("step", "row", "plan", "frame", "point")},
            "executed": np.where(timeline.executed >= 0, np.cumsum(timeline.executed >= 0) - 1, -1).tolist(),
        },
        "plans": [_plan_data(run, story.paths[index], index, plans[index]) for index in plans],
        "executed": executed.as_json() if executed is not None else None,
        "others": [{"name": name, "path": _points(path)} for name, path in story.others.items()],
        "measured": _points(run.trajectory.measured_m),
        "commanded": _points(next(line.points for line in lines if line.kind == "commanded")),
        "workspace": None if story.workspace_m is None else _points(story.workspace_m),
        "bounds": _points(np.stack([low, high])),
        "yaw": round(figures.viewing_angle([line.points for line in lines]), 3),
    }
    # `<` never appears in the data, so that no text of the run can end the script element.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _plan_data(run: RunRecord, path: ImaginedPath, index: int, sheets: Sheets) -> dict[str, Any]:
    tracks = tracks_of(run, index) if index < MOST_TRACKED else None
    return {
        "index": index,
        "count": len(run.plans[index]),
        "path": _points(path.position_m),
        "sheets": sheets.as_json(),
        "size": list(run.plans[index].frames.shape[2:0:-1]),
        "tracks": None if tracks is None else tracks.as_json(),
    }


def frames_of(story: Story, *, share: int = 1) -> tuple[dict[int, Sheets], Sheets | None]:
    """Encode the plans' frames and the executed frames of all moments, as well as the size of the page allows.

    Args:
        story: of the run.
        share: how many runs share the page.
    """
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
        if size <= FRAME_BYTES / share:
            return plans, executed
    return plans, executed


def _points(values: NDArray[np.float64]) -> list[list[float] | None]:
    return [[round(float(v), 5) for v in row] if np.isfinite(row).all() else None for row in values]
