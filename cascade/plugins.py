"""Finding and building stages through entry points: the only door to implementations, ours and third-party alike.

Listing reads package metadata and imports nothing; one broken plug-in never hides or harms another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from cascade.contracts.errors import CascadeError, ConfigError, PluginError, did_you_mean
from cascade.contracts.plugin import PluginSpec

GROUPS: Mapping[str, str] = {
    "planner": "cascade.planners",
    "extractor": "cascade.extractors",
    "rig": "cascade.rigs",
    "arm": "cascade.arms",
    "camera": "cascade.cameras",
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
    return [_info(kind, entry) for kind in kinds for entry in _entries(kind)]


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
    entries = _entries(kind)
    found = [entry for entry in entries if entry.name == name]
    if not found:
        raise PluginError(
            f"{kind} {name!r}: expected the name of an installed {kind}, found none of that name.",
            did_you_mean(name, {entry.name for entry in entries}),
        )
    if len(found) > 1:
        owners = " and ".join(_info(kind, entry).package for entry in found)
        raise PluginError(
            f"{kind} {name!r}: expected one package to offer it, found {owners}.", "Uninstall all but one of them."
        )
    try:
        spec = found[0].load()
    except Exception as error:
        raise PluginError(
            f"{kind} {name!r}: cannot be imported ({type(error).__name__}: {error}).",
            f"Repair or reinstall the package {_info(kind, found[0]).package!r}.",
        ) from error
    if not isinstance(spec, PluginSpec):
        raise PluginError(
            f"{kind} {name!r}: expected {found[0].value} to be a cascade.contracts.PluginSpec, "
            f"found {type(spec).__name__}.",
            "Point the entry point at a PluginSpec.",
        )
    return spec


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
    spec = load_plugin(group, name)
    try:
        return spec.config.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(*explain(error, spec.config, where or f"{group} {name!r} options")) from error


def build_plugin(group: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Build a stage from its registered name and its options.

    Raises:
        PluginError: the plug-in is unknown, broken, or fails to build.
        ConfigError: an option is unknown or has a wrong value.
        CascadeError: whatever the plug-in itself raises on purpose, such as WeightsError.
    """
    config = plugin_options(group, name, options or {})
    try:
        return load_plugin(group, name).build(config)
    except CascadeError:
        raise
    except Exception as error:
        raise PluginError(
            f"{_kind(group)} {name!r}: cannot be built ({type(error).__name__}: {error}).",
            "Run with --debug for the traceback.",
        ) from error


def explain(error: ValidationError, model: type[BaseModel], where: str) -> tuple[str, str]:
    """Turn a pydantic error into (problem, fix) for a CascadeError, with a suggestion for a misspelt key."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    path = ".".join([where, *location]) if where else ".".join(location)
    more = f" ({error.error_count() - 1} more.)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown key.{more}", did_you_mean(location[-1], _fields(model, location[:-1]))
    if first["type"] == "missing":
        return f"{path}: required, found nothing.{more}", "Set it in the file or with --set."
    found = first.get("input")
    return f"{path}: {first['msg'][:1].lower()}{first['msg'][1:]}, found {found!r}.{more}", "Correct the value."


def _fields(model: type[BaseModel], location: list[str]) -> list[str]:
    current: Any = model
    for part in location:
        field = current.model_fields.get(part) if _is_model(current) else None
        current = next((kind for kind in _kinds(field.annotation) if _is_model(kind)), None) if field else None
    return list(current.model_fields) if _is_model(current) else []


def _kinds(annotation: Any) -> list[Any]:
    return [annotation, *getattr(annotation, "__args__", ())]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kind(group: str) -> str:
    """Accept both 'planner' and 'cascade.planners'."""
    for kind, name in GROUPS.items():
        if group in (kind, name):
            return kind
    raise PluginError(f"plug-in group {group!r}: unknown.", did_you_mean(group, GROUPS))


def _entries(kind: str) -> list[EntryPoint]:
    # A package that is both installed and on the path (an editable checkout) registers the same target twice.
    unique = {(entry.name, entry.value): entry for entry in entry_points(group=GROUPS[kind])}
    return [unique[key] for key in sorted(unique)]


def _info(kind: str, entry: EntryPoint) -> PluginInfo:
    package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "")
    return PluginInfo(group=kind, name=entry.name, target=entry.value, package=package, version=version)
