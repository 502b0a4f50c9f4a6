"""Figures of the page, made from a run's story: paths, curves, the film strip and the bands over the slider."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cascade.report import charts, contact
from cascade.report.age import action_age_s
from cascade.report.charts import Line
from cascade.report.images import as_plan_sees, data_uri, fit
from cascade.report.run_folder import Trajectory
from cascade.report.story import Story
from cascade.report.timeline import ImaginedPath, Timeline

CHANGE_M = 1e-6
CONTACTS = (("fingers stopped short", contact.stopped_short), ("hand stopped short", contact.pushing))
FROM_THE_CORNER_RAD = -2.2  # the 3-D view stays on this side, where the default camera stands
ASKEW_RAD = 0.35
STRIP_COLUMNS = 9
STRIP_PX = 128
STRIP_QUALITY = 80


def paths(story: Story) -> list[Line]:
    """Return the imagined paths, the commanded and the measured one."""
    track = story.run.trajectory
    imagined = [Line("imagined", path.position_m, plan=i, dots=True) for i, path in story.paths.items()]
    sent = track.sent_m[np.isfinite(track.sent_m).all(axis=1)]
    if len(sent):
        sent = sent[np.concatenate([[True], np.linalg.norm(np.diff(sent, axis=0), axis=1) > CHANGE_M])]
    others = [Line("flow" if name == "flow" else "second", path, dots=True) for name, path in story.others.items()]
    return [*imagined, *others, Line("commanded", sent), Line("measured", track.measured_m)]


def projections(story: Story) -> str:
    """Return the three projections of the paths."""
    drawn = charts.projections(paths(story), story.workspace_m)
    return "".join(f"<div><h3>{escape(title)}</h3>{svg}</div>" for title, svg in drawn)


def curves(story: Story) -> str:
    """Return gripper opening and distance from the imagined path over control steps."""
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
    gripper = charts.curves(
        lines, y_range=(-0.05, 1.05), y_label="opening, 0 closed to 1 open", title="Gripper opening", marks=marks
    )
    far = story.distance_m * 1000
    top = float(np.nanmax(far)) * 1.1 if np.isfinite(far).any() else 1.0
    off = charts.curves(
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
        f"{_contact(track)}{_age(story)}{_spread(story)}"
    )


def _contact(track: Trajectory) -> str:
    lanes = [(name, contact.stretches(found(track))) for name, found in CONTACTS]
    drawn = charts.lanes(lanes, last=float(track.step[-1]), title="Contact of the hand")
    words = "; ".join(f"{name}: {sum(b - a for a, b in spans)} steps" for name, spans in lanes)
    return (
        '<div><h3>Contact</h3><p class="quiet small">Told to go on, but standing still: on something, or at the end of '
        f"its way. {words[:1].upper()}{words[1:]}.</p>{drawn}</div>"
    )


def _age(story: Story) -> str:
    track = story.run.trajectory
    age = action_age_s(story.run)
    if not np.isfinite(age).any():
        return ""
    step = track.step.astype(np.float64)
    top = max(float(np.nanmax(age)) * 1.1, 0.1)
    drawn = charts.curves(
        [Line("measured", np.column_stack([step, age]))], y_range=(0.0, top), y_label="s", title="Age of the action"
    )
    return (
        '<div><h3>Age of the action in use</h3><p class="quiet small">From the look it was made from: the thinking, '
        f"then the time its chunk has run.</p>{drawn}</div>"
    )


def _spread(story: Story) -> str:
    """How sure the reading of the plan is: one standard deviation where each frame was reached."""
    lines, words = [], ""
    for index in story.paths:
        plan = story.run.plans.get(index)
        spread = np.asarray(plan.readout.position_std_m) if plan is not None and plan.readout is not None else None
        if spread is None and story.trial is not None and story.trial.get("plan") == index:
            spread = np.asarray(story.trial.get("spread_m") or [], dtype=np.float64)
        if spread is None or plan is None or len(spread) != len(plan):
            continue
        points = _by_frame(story.timeline, spread * 1000, index)
        if len(points):
            lines.append(Line("imagined", points, dots=True))
    trust = [c.confidence for c in story.run.chunks.values() if len(c.confidence)]
    if trust:
        least = min(float(c.min()) for c in trust)
        words = f" Least trusted target: {least:.2f} of 1."
    if not lines:
        return f'<div><h3>How sure the reading is</h3><p class="quiet">No reader gave a spread.{words}</p></div>'
    top = max(float(np.nanmax(line.points[:, 1])) for line in lines) * 1.2
    drawn = charts.curves(lines, y_range=(0.0, max(top, 2.0)), y_label="mm", title="Spread of the reading")
    return (
        '<div><h3>How sure the reading is</h3><p class="quiet small">One standard deviation of the imagined hand, '
        f"at the step where its frame was reached.{words}</p>{drawn}</div>"
    )


def _by_frame(timeline: Timeline, values: NDArray[np.float64], index: int) -> NDArray[np.float64]:
    """Return (P, 2) of control step and value: every frame at the middle of the moments it is shown at."""
    points = []
    for frame, value in enumerate(values):
        moments = np.flatnonzero((timeline.plan == index) & (timeline.frame == frame) & (timeline.step >= 0))
        if len(moments):
            points.append((float(timeline.step[moments].mean()), float(value)))
    return np.array(sorted(points)).reshape(-1, 2)


def _imagined_opening(timeline: Timeline, path: ImaginedPath, index: int) -> NDArray[np.float64]:
    """Return (P, 2) of control step and opening: every point at the middle of the moments it is shown at."""
    points = []
    for point, opening in enumerate(path.opening):
        moments = np.flatnonzero((timeline.plan == index) & (timeline.point == point))
        if len(moments):
            points.append((float(timeline.step[moments].mean()), float(opening)))
    return np.array(sorted(points)).reshape(-1, 2)


def strip(story: Story) -> str:
    """Return a few imagined frames above the executed ones, each a button that takes the scrubber there."""
    run, timeline = story.run, story.timeline
    bands = [band for band in _equal_moments(timeline) if timeline.frame[band[0]] >= 0]
    if not bands:
        return ""
    chosen = np.unique(np.linspace(0, len(bands) - 1, min(STRIP_COLUMNS, len(bands))).round().astype(int))
    cells = []
    for first, end in (bands[i] for i in chosen):
        at = (first + end - 1) // 2
        plan, frame = run.plans[int(timeline.plan[at])], int(timeline.frame[at])
        pictures = [fit(plan.frames[frame : frame + 1], largest=STRIP_PX)[0]]
        if timeline.executed[at] >= 0:
            seen = run.executed[timeline.executed[at]][None]
            pictures.append(fit(as_plan_sees(seen, plan.transform), largest=STRIP_PX)[0])
        images = "".join(f'<img alt="" src="{data_uri(picture, quality=STRIP_QUALITY)}">' for picture in pictures)
        cells.append(
            f'<button type="button" data-moment="{at}" aria-label="Go to imagined frame {frame}">{images}'
            f"<span>frame {frame}</span></button>"
        )
    return f'<div class="strip" role="group" aria-label="Imagined above, executed below">{"".join(cells)}</div>'


def bands(timeline: Timeline) -> str:
    """Return one strip per imagined frame, as wide as the moments beside which it is shown."""
    if len(timeline) < 2:
        return ""
    full = len(timeline) - 1
    parts = []
    for number, (a, b) in enumerate(_equal_moments(timeline)):
        if timeline.frame[a] < 0:
            continue
        replanned = a > 0 and timeline.plan[a] != timeline.plan[a - 1]
        kind = " ".join(name for name, on in (("odd", number % 2), ("first", replanned)) if on)
        left, wide = max(a - 0.5, 0) / full * 100, (min(b - 0.5, full) - max(a - 0.5, 0)) / full * 100
        parts.append(f'<i class="{kind}" style="left:{left:.2f}%;width:{wide:.2f}%"></i>')
    return "".join(parts)


def _equal_moments(timeline: Timeline) -> list[tuple[int, int]]:
    """Return [first, end) of every run of moments that show the same imagined frame."""
    if not len(timeline):
        return []
    change = (np.diff(timeline.frame) != 0) | (np.diff(timeline.plan) != 0)
    starts = [0, *(int(i) + 1 for i in np.flatnonzero(change)), len(timeline)]
    return list(pairwise(starts))


def viewing_angle(lines: Sequence[NDArray[np.float64]]) -> float:
    """Return the yaw [rad] from which the 3-D view looks a little askew at the broad side of the paths."""
    points = np.concatenate([path[np.isfinite(path).all(axis=1)][:, :2] for path in lines])
    if len(points) < 2:
        return FROM_THE_CORNER_RAD
    along = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
    yaw = float(np.arctan2(-along[0], along[1]))
    behind = np.cos(yaw - FROM_THE_CORNER_RAD) < 0
    return yaw + (np.pi if behind else 0.0) + ASKEW_RAD
