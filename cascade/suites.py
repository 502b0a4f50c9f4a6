"""Named lists of tasks."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.contracts.errors import ConfigError, did_you_mean

SUITES: Mapping[str, tuple[str, ...]] = {
    # The eleven tasks of AVDC's Meta-World table (Ko et al., "Learning to Act from Actionless Videos").
    "metaworld-11": (
        "assembly",
        "basketball",
        "button-press",
        "button-press-topdown",
        "door-close",
        "door-open",
        "faucet-close",
        "faucet-open",
        "hammer",
        "handle-press",
        "shelf-place",
    ),
}


def expand_tasks(text: str) -> list[str]:
    """Return the tasks of a suite name or of a comma-separated list of task and suite names, without repetition.

    Raises:
        ConfigError: nothing is named. Unknown tasks are the rig's to refuse, since rigs know more than the suites.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"tasks {text!r}: expected task names, found none.", did_you_mean(text, SUITES))
    tasks = [task for name in names for task in SUITES.get(name, (name,))]
    return list(dict.fromkeys(tasks))
