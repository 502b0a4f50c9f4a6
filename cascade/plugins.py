"""Finding and building stages through entry points: the only door to implementations, ours and third-party alike.

Listing reads package metadata and imports nothing; one broken plug-in never hides or harms another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from pydantic import BaseModel

from cascade.contracts import entry_points as found
from cascade.contracts.entry_points import explain
from cascade.contracts.errors import PluginError, did_you_mean
from cascade.contracts.plugin import PluginSpec

__all__ = [
    "GROUPS",
    "PluginInfo",
    "PluginStatus",
    "build_plugin",
    "explain",
    "inspect_plugins",
    "list_plugins",
    "load_plugin",
    "plugin_options",
]

GROUPS: Mapping[str, str] = {
    "planner": "cascade.planners",
    "extractor": "cascade.extractors",
    "rig": "cascade.rigs",
    "arm": "cascade.arms",
    "camera": "cascade.cameras",
    "calibrator": "cascade.calibrators",
    "demonstrator": "cascade.demonstrators",
    "trainer": "cascade.trainers",
    "scorer": "cascade.scorers",
}


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What package metadata says about one plug-in.

    Attributes:
        group: kind of stage, a key of `GROUPS`.
        name: name in recipes and on the command line.
        target: `module:attribute` of the PluginSpec.
        package, version: the distribution that registered it.
    """

    group: str
    name: str
    target: str
    package: str
    version: str


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """A plug-in after an attempt to import it: a summary when it works, a cause when it does not."""

    info: PluginInfo
    summary: str = ""
    problem: str = ""


def list_plugins(group: str | None = None) -> list[PluginInfo]:
    """Return the registered plug-ins of one kind (or all), sorted by name, without importing any."""
    kinds = [_kind(group)] if group else list(GROUPS)
    return [_info(kind, entry) for kind in kinds for entry in found.registered(GROUPS[kind])]


def inspect_plugins(group: str | None = None) -> list[PluginStatus]:
    """Import every plug-in of one kind (or all) and say which work; a failure is reported, not raised."""
    statuses = []
    for info in list_plugins(group):
        try:
            statuses.append(PluginStatus(info, summary=load_plugin(info.group, info.name).summary))
        except PluginError as error:
            statuses.append(PluginStatus(info, problem=error.problem))
    return statuses


def load_plugin(group: str, name: str) -> PluginSpec[Any]:
    """Import one plug-in.

    Args:
        group: kind of stage, a key of `GROUPS`.
        name: its registered name.

    Raises:
        PluginError: unknown, registered twice, not importable, or not a PluginSpec.
    """
    kind = _kind(group)
    return found.load(GROUPS[kind], kind, name)


def plugin_options(group: str, name: str, options: Mapping[str, Any], *, where: str = "") -> BaseModel:
    """Validate the options of a plug-in against its own model and return the model, defaults filled in.

    Args:
        group: kind of stage, a key of `GROUPS`.
        name: its registered name.
        options: as read from YAML or the command line.
        where: prefix for error messages, such as `planner.options`.

    Raises:
        PluginError: the plug-in is unknown or broken.
        ConfigError: an option is unknown or has a wrong value.
    """
    return found.validate(load_plugin(group, name), options, where or f"{group} {name!r} options")


def build_plugin(group: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Build a stage from its registered name and its options.

    Raises:
        PluginError: the plug-in is unknown, broken, or fails to build.
        ConfigError: an option is unknown or has a wrong value.
        CascadeError: whatever the plug-in itself raises on purpose, such as WeightsError.
    """
    config = plugin_options(group, name, options or {})
    return found.build(load_plugin(group, name), config, _kind(group), name)


def _kind(group: str) -> str:
    """Accept both 'planner' and 'cascade.planners'."""
    for kind, name in GROUPS.items():
        if group in (kind, name):
            return kind
    raise PluginError(f"plug-in group {group!r}: unknown.", did_you_mean(group, GROUPS))


def _info(kind: str, entry: EntryPoint) -> PluginInfo:
    package, version = found.owner_of(entry)
    return PluginInfo(group=kind, name=entry.name, target=entry.value, package=package, version=version)
