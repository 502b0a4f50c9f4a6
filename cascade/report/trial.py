"""What blame said, as parts of the page: the verdict first, the evidence as a table, what other readers see."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Trial = Mapping[str, Any]


def sentence(trial: Trial | None) -> str:
    """Return the line below the verdict that names the stage at fault, or nothing when none is or nobody asked."""
    if trial is None or trial.get("stage") in (None, "none"):
        return ""
    also = [str(stage) for stage in trial.get("suspects") or []]
    more = f" Also above a limit: {escape(', '.join(also))}." if also else ""
    stage = "not known" if trial["stage"] == "unknown" else str(trial["stage"])
    return (
        f'<p class="because" id="blame">At fault: <b>{escape(stage)}</b>. '
        f'{escape(str(trial.get("verdict") or ""))}{more} <a href="#h-trial">The evidence</a></p>'
    )


def evidence(trial: Trial | None, command: str) -> str:
    """Return the section with every check, or how to get it."""
    if trial is None:
        return f'<p class="quiet">Nobody asked. To put every stage on trial: <code>{escape(command)}</code></p>'
    rows = "".join(_row(check) for check in trial.get("checks") or [] if isinstance(check, Mapping))
    head = (
        "<tr><th>Stage</th><th>What was measured</th><th class='n'>Value</th><th class='n'>Clean runs</th>"
        "<th>Verdict</th></tr>"
    )
    told = {str(check.get("why")) for check in trial.get("checks") or [] if isinstance(check, Mapping)}
    lacking = "".join(
        f"<li>{escape(str(what))}: {escape(str(why))}</li>"
        for what, why in (trial.get("missing") or {}).items()
        if str(why) not in told
    )
    missing = f'<p class="quiet small">Not looked at:</p><ul class="quiet small">{lacking}</ul>' if lacking else ""
    said = escape(str(trial.get("verdict") or ""))
    return (
        f"<p>{said}</p>"
        f'<div class="scroll"><table class="wrap"><thead>{head}</thead><tbody>{rows}</tbody></table></div>{missing}'
    )


def _row(check: Mapping[str, Any]) -> str:
    from cascade.blame.verdict import quantity

    value, limit, unit = check.get("value"), check.get("limit"), str(check.get("unit") or "")
    why = str(check.get("why") or "")
    shown = quantity(float(value), unit) if value is not None else "–"
    most = quantity(float(limit), unit) if limit is not None and value is not None else ""
    if check.get("failed"):
        mark = '<span class="fail">✕ above</span>'
    elif value is not None and limit is not None:
        mark = '<span class="pass">✓ within</span>'
    else:
        mark = '<span class="quiet">· told only</span>' if value is not None else '<span class="quiet">· unknown</span>'
    note = f"<br><small>{escape(why)}</small>" if why else ""
    return (
        f"<tr><td>{escape(str(check.get('stage')))}</td><td>{escape(str(check.get('name')))}{note}</td>"
        f"<td class='n'>{escape(shown)}</td><td class='n'>{'≤ ' if most else ''}{escape(most)}</td><td>{mark}</td></tr>"
    )


def paths(trial: Trial | None) -> dict[str, Floats]:
    """Return what each reader saw in the plan on trial, name -> (P, 3) [m]."""
    found = {}
    for name, points in ((trial or {}).get("paths") or {}).items():
        try:
            path = np.asarray(points, dtype=np.float64)
        except (ValueError, TypeError):
            continue
        if path.ndim == 2 and path.shape[1] == 3 and len(path) > 1 and np.isfinite(path).all():
            found[str(name)] = path
    return found
