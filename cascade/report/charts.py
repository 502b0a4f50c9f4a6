"""Inline SVG charts: three projections of the end-effector path, and curves over control steps.

Every chart carries the numbers that turn data into its pixels (`data-map`), so that the page's script can move a
cursor in it and turn a click back into a control step. Colours come from the page's style sheet by class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AXES = "xyz"
VIEWS = (("From above", 0, 1), ("From the front", 0, 2), ("From the side", 1, 2))
PANEL = (372.0, 314.0)
CURVE = (560.0, 242.0)
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 12.0, 34.0
TITLE = 14.0  # room above the plot for the title of the upright axis, clear of its topmost number
MARK = 12.0  # room below that title for the words of marks, which would cross the curves inside
LANE = 36.0  # a line for the name and a bar below it
NEAR_M = 0.08  # a wall of the workspace this near to the picture's edge is brought into it


@dataclass(frozen=True, slots=True)
class Line:
    """One polyline: `kind` is imagined, commanded or measured; `plan` is None where it belongs to the whole run."""

    kind: str
    points: Floats
    plan: int | None = None
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """pixel = origin + factor * value."""

    origin: float
    factor: float

    def __call__(self, value: Floats | float) -> Floats | float:
        """Return the pixel of a value."""
        return self.origin + self.factor * value


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between `low` and `high`, at most `most` of them and at least one."""
    span = max(high - low, 1e-9)
    unit = 10.0 ** np.floor(np.log10(span / most))
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if span / (unit * factor) <= most)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [round(n * step, 10) for n in range(first, last + 1)] or [round(low, 3)]


def projections(lines: Sequence[Line], workspace_m: Floats | None) -> list[tuple[str, str]]:
    """Return (title, svg) of the path seen from above, the front and the side, all at one scale.

    Args:
        lines: (N, 3) paths [m].
        workspace_m: (2, 3) corners of the box the end effector must stay in, or None.
    """
    low, high = bounds([line.points for line in lines], workspace_m)
    spans = high - low
    width, height = PANEL[0] - LEFT - RIGHT, PANEL[1] - TOP - TITLE - BOTTOM
    per_m = min(min(width / spans[a], height / spans[b]) for _, a, b in VIEWS)
    return [(title, _projection(lines, workspace_m, (low + high) / 2, per_m, a, b)) for title, a, b in VIEWS]


def bounds(paths: Iterable[Floats], workspace_m: Floats | None) -> tuple[Floats, Floats]:
    """Return (3,) lower and upper corner of what is worth showing: the paths, and walls of the box that are near."""
    points = np.concatenate([np.zeros((0, 3)), *(path[np.isfinite(path).all(axis=1)] for path in paths)])
    if not len(points):
        points = np.zeros((1, 3)) if workspace_m is None else workspace_m
    low, high = points.min(axis=0), points.max(axis=0)
    pad = max(0.05, 0.15 * float((high - low).max()))
    grow = np.maximum(0.3 - 2 * pad - (high - low), 0) / 2
    low, high = low - pad - grow, high + pad + grow
    if workspace_m is not None:
        low = np.where(np.abs(workspace_m[0] - low) < NEAR_M, np.minimum(low, workspace_m[0] - 0.02), low)
        high = np.where(np.abs(workspace_m[1] - high) < NEAR_M, np.maximum(high, workspace_m[1] + 0.02), high)
    return low, high


def _projection(lines: Sequence[Line], box: Floats | None, centre: Floats, per_m: float, a: int, b: int) -> str:
    width, height = PANEL
    x0, x1, y0, y1 = LEFT, width - RIGHT, TOP + TITLE, height - BOTTOM
    h = Scale((x0 + x1) / 2 - per_m * centre[a], per_m)
    v = Scale((y0 + y1) / 2 + per_m * centre[b], -per_m)
    parts = [f'<rect class="plot" x="{x0}" y="{y0}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/>']
    parts += _grid_x(h, ticks((x0 - h.origin) / per_m, (x1 - h.origin) / per_m, 6), y0, y1)
    parts += _grid_y(v, ticks((v.origin - y1) / per_m, (v.origin - y0) / per_m, 5), x0, x1)
    parts.append(f'<text class="axis" x="{x1:.0f}" y="{height - 4:.0f}" text-anchor="end">{AXES[a]} [m]</text>')
    parts.append(f'<text class="axis" x="4" y="{TOP:.0f}">{AXES[b]} [m]</text>')
    clip = f"clip-{a}{b}"
    parts.append(
        f'<clipPath id="{clip}"><rect x="{x0}" y="{y0}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/></clipPath>'
        f'<g clip-path="url(#{clip})">'
    )
    if box is not None:
        u, w = (h(box[:, a]), v(box[:, b]))
        parts.append(
            f'<rect class="box" x="{u[0]:.1f}" y="{w[1]:.1f}" width="{u[1] - u[0]:.1f}" height="{w[0] - w[1]:.1f}"/>'  # type: ignore[index]
        )
    parts += [_path(line, h(line.points[:, a]), v(line.points[:, b])) for line in lines]
    parts.append('<circle class="cursor imagined" r="5.5"/><circle class="cursor measured" r="5.5"/></g>')
    data = f'data-axes="{a}{b}" data-map="{h.origin:.4f} {h.factor:.4f} {v.origin:.4f} {v.factor:.4f}"'
    return _svg(width, height, "".join(parts), f"End-effector path, {AXES[a]} against {AXES[b]}", f"projection {data}")


def curves(
    lines: Sequence[Line],
    *,
    y_range: tuple[float, float],
    y_label: str,
    title: str,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Return one chart over control steps.

    Args:
        lines: (N, 2) of control step and value; NaN breaks a line.
        y_range: lowest and highest value shown.
        y_label: quantity and unit.
        title: what the chart says, for screen readers.
        marks: control steps to mark with a thin line and a word.
    """
    width, height = CURVE
    x0, x1, y0, y1 = LEFT, width - RIGHT, TOP + TITLE + (MARK if marks else 0), height - BOTTOM
    steps = np.concatenate([np.zeros(1), *(line.points[:, 0] for line in lines)])
    last = max(float(np.nanmax(steps)), 1.0)
    h = Scale(x0, (x1 - x0) / last)
    v = Scale(y1 + (y1 - y0) * y_range[0] / (y_range[1] - y_range[0]), -(y1 - y0) / (y_range[1] - y_range[0]))
    parts = [f'<rect class="plot" x="{x0}" y="{y0}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/>']
    parts += _grid_x(h, ticks(0, last, 6), y0, y1)
    parts += _grid_y(v, ticks(*y_range, 4), x0, x1)
    for step, word in marks:
        at = h(step)
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{y0}" y2="{y1}"/>')
        parts.append(f'<text class="mark" x="{at:.1f}" y="{y0 - 4:.0f}">{escape(word)}</text>')
    parts += [_path(line, h(line.points[:, 0]), v(line.points[:, 1])) for line in lines]
    parts.append(f'<line class="cursor-line" x1="{x0}" x2="{x0}" y1="{y0}" y2="{y1}"/>')
    parts.append(f'<text class="axis" x="{x1:.0f}" y="{height - 4:.0f}" text-anchor="end">control step</text>')
    parts.append(f'<text class="axis" x="4" y="{TOP:.0f}">{escape(y_label)}</text>')
    data = f'data-map="{h.origin:.4f} {h.factor:.6f}"'
    return _svg(width, height, "".join(parts), title, f"curve {data}")


def lanes(rows: Sequence[tuple[str, Sequence[tuple[int, int]]]], *, last: float, title: str) -> str:
    """Return one lane per name with its stretches [first, end) of control steps as bars."""
    width, height = CURVE[0], LANE * len(rows) + BOTTOM + 6
    x0, x1 = LEFT, width - RIGHT
    h = Scale(x0, (x1 - x0) / max(last, 1.0))
    y1 = height - BOTTOM
    parts = [f'<rect class="plot" x="{x0}" y="2" width="{x1 - x0:.1f}" height="{y1 - 2:.1f}"/>']
    parts += _grid_x(h, ticks(0, max(last, 1.0), 6), 2, y1)
    for number, (name, stretches) in enumerate(rows):
        top = 4 + LANE * number
        for a, b in stretches:
            wide = max(float(h(b)) - float(h(a)), 1.5)
            parts.append(
                f'<rect class="lane lane-{number}" x="{h(a):.1f}" y="{top + 17}" width="{wide:.1f}" height="15"/>'
            )
        parts.append(f'<text class="lane" x="{x0 + 6:.0f}" y="{top + 12}">{escape(name)}</text>')
    parts.append(f'<line class="cursor-line" x1="{x0}" x2="{x0}" y1="2" y2="{y1}"/>')
    parts.append(f'<text class="axis" x="{x1:.0f}" y="{height - 4:.0f}" text-anchor="end">control step</text>')
    return _svg(width, height, "".join(parts), title, f'curve data-map="{h.origin:.4f} {h.factor:.6f}"')


def _svg(width: float, height: float, body: str, title: str, kind: str) -> str:
    name, _, data = kind.partition(" ")
    return (
        f'<svg class="chart {name}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}" {data}>{body}</svg>'
    )


def _grid_x(h: Scale, values: Sequence[float], y0: float, y1: float) -> list[str]:
    parts = []
    for value in values:
        at = h(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{y0}" y2="{y1}"/>')
        parts.append(f'<text x="{at:.1f}" y="{y1 + 15:.0f}" text-anchor="middle">{value:g}</text>')
    return parts


def _grid_y(v: Scale, values: Sequence[float], x0: float, x1: float) -> list[str]:
    parts = []
    for value in values:
        at = float(v(value))
        parts.append(f'<line class="grid" x1="{x0}" x2="{x1:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{x0 - 6:.0f}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    return parts


def _path(line: Line, x: Floats | float, y: Floats | float) -> str:
    x, y = np.atleast_1d(x), np.atleast_1d(y)
    steps: list[str] = []
    pen_up = True
    for u, w in zip(x, y, strict=True):
        if not (np.isfinite(u) and np.isfinite(w)):
            pen_up = True
            continue
        steps.append(f"{'M' if pen_up else 'L'}{u:.1f} {w:.1f}")
        pen_up = False
    plan = "" if line.plan is None else f' data-plan="{line.plan}"'
    dots = "".join(
        f'<circle cx="{u:.1f}" cy="{w:.1f}" r="2.6"/>'
        for u, w in zip(x, y, strict=True)
        if line.dots and np.isfinite(u) and np.isfinite(w)
    )
    return f'<g class="line {line.kind}"{plan}><path d="{"".join(steps)}"/>{dots}</g>'
