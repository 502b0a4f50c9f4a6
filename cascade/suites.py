"""Named lists of tasks to evaluate and to record on, with the conditions that belong to their protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.contracts.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Tasks and the conditions they are measured under.

    Attributes:
        tasks: their names.
        rig: values of a rig's configuration that belong to the protocol.
        cameras: views that are planned through, one after the other; empty: as the recipe has them.
        episodes: layouts per task and camera.
        seed: first layout.
        execution: settings of a recipe's `execution` that belong to the protocol.
    """

    tasks: tuple[str, ...]
    rig: Mapping[str, Any] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()
    episodes: int = 5
    seed: int = 200
    execution: Mapping[str, Any] = field(default_factory=dict)


# The eleven tasks of AVDC's Meta-World table (Ko et al., 2023, arXiv 2310.08576), in its order.
_METAWORLD_11 = (
    "door-open",
    "door-close",
    "basketball",
    "shelf-place",
    "button-press",
    "button-press-topdown",
    "faucet-close",
    "faucet-open",
    "handle-press",
    "hammer",
    "assembly",
)

# Ten others, which no shipped weights have seen: what the same hand can do to other things.
_METAWORLD_10_UNSEEN = (
    "button-press-wall",
    "button-press-topdown-wall",
    "coffee-button",
    "door-lock",
    "drawer-close",
    "drawer-open",
    "handle-press-side",
    "plate-slide",
    "window-close",
    "window-open",
)

SUITES: Mapping[str, Suite] = {
    "metaworld-11": Suite(tasks=_METAWORLD_11),
    "metaworld-10-unseen": Suite(tasks=_METAWORLD_10_UNSEEN),
    # The protocol of that table; docs/benchmark.md lists where ours still differs.
    "metaworld-11-avdc": Suite(
        tasks=_METAWORLD_11,
        rig={
            "options": {"starts": "avdc", "width": 320, "height": 240},
            # The hand may begin outside the box that Meta-World lets it move in.
            "limits": {"workspace_m": [[-0.85, 0.05, -0.02], [0.55, 1.05, 0.50]]},
        },
        cameras=("corner", "corner2", "corner3"),
        episodes=25,
        seed=0,
        execution={"replans": 5},
    ),
}


def find_suite(name: str) -> Suite:
    """Return a suite; raises ConfigError when there is none of that name."""
    if name not in SUITES:
        raise ConfigError(f"suite {name!r}: unknown.", did_you_mean(name, SUITES))
    return SUITES[name]


def suite_settings(suite: Suite) -> list[str]:
    """Return a suite's conditions as `key=value` texts, as `--set` takes them; what a person sets comes after."""
    values = {"rig": suite.rig, "execution": suite.execution}
    return [f"{key}={json.dumps(value)}" for key, value in _flat(values)]


def expand_tasks(text: str) -> tuple[str, ...]:
    """Return the tasks of a suite's name, or those of a list separated by commas, each once.

    Raises:
        ConfigError: nothing is named. Unknown tasks are found by the rig, which alone knows its scenes.
    """
    if text in SUITES:
        return SUITES[text].tasks
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ConfigError(f"tasks {text!r}: expected a suite or task names, found none.", did_you_mean(text, SUITES))
    return names


def suite_tasks(name: str, only: str | None) -> tuple[str, ...]:
    """Return the tasks of a suite, or those of them that `only` lists, separated by commas.

    Raises:
        ConfigError: there is no such suite, it has no such task, or nothing is listed.
    """
    known = find_suite(name).tasks
    if only is None:
        return known
    chosen = expand_tasks(only)
    unknown = [task for task in chosen if task not in known]
    if unknown:
        raise ConfigError(f"task {unknown[0]!r}: not in suite {name!r}.", did_you_mean(unknown[0], known))
    return chosen


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested values as dotted keys and leaves."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found
