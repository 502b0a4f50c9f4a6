"""Named lists of tasks to evaluate and to record on."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.contracts.errors import ConfigError, did_you_mean

# The eleven tasks of AVDC's Meta-World table (Ko et al., 2023, arXiv 2310.08576), in its order.
SUITES: Mapping[str, tuple[str, ...]] = {
    "metaworld-11": (
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
    ),
}


def suite_tasks(name: str) -> tuple[str, ...]:
    """Return the tasks of a suite; raises ConfigError when there is none of that name."""
    if name not in SUITES:
        raise ConfigError(f"suite {name!r}: unknown.", did_you_mean(name, SUITES))
    return SUITES[name]


def expand_tasks(text: str) -> tuple[str, ...]:
    """Return the tasks of a suite's name, or those of a list separated by commas, each once.

    Raises:
        ConfigError: nothing is named. Unknown tasks are found by the rig, which alone knows its scenes.
    """
    if text in SUITES:
        return SUITES[text]
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ConfigError(f"tasks {text!r}: expected a suite or task names, found none.", did_you_mean(text, SUITES))
    return names
