"""A study's result as SVG: rates with intervals, successes by task, and success against the time a plan takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade.contracts.errors import ConfigError

Result = Mapping[str, Any]
# Okabe and Ito's palette, told apart by people who see few colours.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKS = ("o", "s")


def write_plots(result: Result, folder: Path) -> list[Path]:
    """Write the plots into `folder` and return their files.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("plots: expected matplotlib, found none.", "pip install 'cascade-wam[study]'") from error
    import matplotlib

    drawn = {"success": _success, "tasks": _tasks, "time": _time}
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with matplotlib.rc_context({"svg.hashsalt": "cascade", "svg.fonttype": "none", "font.size": 9}):
        for name, draw in drawn.items():
            figure = Figure(figsize=(7.2, 3.6), layout="constrained")
            draw(figure, result)
            files.append(folder / f"{name}.svg")
            figure.savefig(files[-1], metadata={"Date": None})
    return files


def _names(result: Result) -> list[str]:
    return list(dict.fromkeys(name for arms in result["arms"].values() for name in arms))


def _success(figure: Any, result: Result) -> None:
    axes = figure.subplots()
    names = _names(result)
    clocks = [clock for clock, arms in result["arms"].items() if arms]
    for offset, clock in enumerate(clocks):
        arms = result["arms"][clock]
        here = [name for name in names if name in arms]
        places = [names.index(name) + 0.24 * (offset - (len(clocks) - 1) / 2) for name in here]
        rates = [100 * arms[name]["success"]["rate"] for name in here]
        spans = [arms[name]["success"]["ci95"] for name in here]
        errors = _errors(rates, spans)
        label = "world waits" if clock == "frozen" else "real time"
        axes.errorbar(
            rates, places, xerr=errors, fmt=MARKS[offset], color=COLOURS[offset], capsize=3, label=label, markersize=5
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel("success [%], 95 % Wilson intervals")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")


def _tasks(figure: Any, result: Result) -> None:
    clock, arms = next((item for item in result["arms"].items() if item[1]), ("frozen", {}))
    axes = figure.subplots()
    tasks = result["tasks"]
    shares = [[100 * arm["tasks"][task]["rate"] for task in tasks] for arm in arms.values()] or [[0.0] * len(tasks)]
    image = axes.imshow(shares, vmin=0, vmax=100, cmap="cividis", aspect="auto")
    axes.set_xticks(range(len(tasks)), tasks, rotation=35, ha="right")
    axes.set_yticks(range(len(arms)), list(arms))
    axes.set_title("success by task, " + ("the world waits" if clock == "frozen" else "real time"))
    figure.colorbar(image, ax=axes, label="success [%]")


def _time(figure: Any, result: Result) -> None:
    axes = figure.subplots()
    names = _names(result)
    for offset, arms in enumerate(result["arms"].values()):
        for name, arm in arms.items():
            time_ms, rate = max(arm["decision_ms"]["p50"], 0.1), 100 * arm["success"]["rate"]
            colour = COLOURS[names.index(name) % len(COLOURS)]
            label = name if offset == 0 else None
            axes.plot([time_ms], [rate], MARKS[offset], color=colour, label=label, markersize=7)
    axes.set_xscale("log")
    axes.set_ylim(-4, 104)
    axes.set_xlabel("from look to permitted motion [ms, median]; circles: world waits, squares: real time")
    axes.set_ylabel("success [%]")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _errors(rates: Sequence[float], spans: Sequence[Sequence[float]]) -> list[list[float]]:
    low = [max(0.0, rate - 100 * span[0]) for rate, span in zip(rates, spans, strict=True)]
    high = [max(0.0, 100 * span[1] - rate) for rate, span in zip(rates, spans, strict=True)]
    return [low, high]
