"""Finding plug-ins by their entry points: what `cascade` does for stages, and a rig for its arm and its cameras.

Reading what is registered imports nothing; one broken plug-in never hides or harms another.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from cascade.contracts.errors import CascadeError, ConfigError, PluginError, did_you_mean
from cascade.contracts.plugin import PluginSpec


def registered(group: str) -> list[EntryPoint]:
    """Return the entry points of a group such as 'cascade.arms', sorted by name, without importing any."""
    # A package that is both installed and on the path (an editable checkout) registers the same target twice.
    unique = {(entry.name, entry.value): entry for entry in entry_points(group=group)}
    return [unique[key] for key in sorted(unique)]


def find(group: str, kind: str, name: str) -> EntryPoint:
    """Return the one entry point of that name, without importing it.

    Args:
        group: such as 'cascade.arms'.
        kind: what its members are called in messages, such as 'arm'.
        name: registered name.

    Raises:
        PluginError: unknown, or registered by two packages.
    """
    entries = registered(group)
    found = [entry for entry in entries if entry.name == name]
    if not found:
        raise PluginError(
            f"{kind} {name!r}: expected the name of an installed {kind}, found none of that name.",
            did_you_mean(name, {entry.name for entry in entries}),
        )
    if len(found) > 1:
        owners = " and ".join(owner_of(entry)[0] for entry in found)
        raise PluginError(
            f"{kind} {name!r}: expected one package to offer it, found {owners}.", "Uninstall all but one of them."
        )
    return found[0]


def owner_of(entry: EntryPoint) -> tuple[str, str]:
    """Return name and version of the distribution that registered an entry point."""
    return (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "")


def load(group: str, kind: str, name: str) -> PluginSpec[Any]:
    """Import a plug-in.

    Raises:
        PluginError: unknown, registered twice, not importable, or not a PluginSpec.
    """
    entry = find(group, kind, name)
    try:
        spec = entry.load()
    except Exception as error:
        raise PluginError(
            f"{kind} {name!r}: cannot be imported ({type(error).__name__}: {error}).",
            f"Repair or reinstall the package {owner_of(entry)[0]!r}.",
        ) from error
    if not isinstance(spec, PluginSpec):
        raise PluginError(
            f"{kind} {name!r}: expected {entry.value} to be a cascade.contracts.PluginSpec, "
            f"found {type(spec).__name__}.",
            "Point the entry point at a PluginSpec.",
        )
    return spec


def validate(spec: PluginSpec[Any], options: Mapping[str, Any], where: str) -> BaseModel:
    """Return options as the plug-in's own model, defaults filled in.

    Args:
        spec: of the plug-in.
        options: as read from YAML or the command line.
        where: prefix for error messages, such as 'planner.options'.

    Raises:
        ConfigError: an option is unknown or has a wrong value.
    """
    try:
        return spec.config.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(*explain(error, spec.config, where)) from error


def build(spec: PluginSpec[Any], config: BaseModel, kind: str, name: str) -> Any:
    """Build a plug-in from its validated options.

    Raises:
        PluginError: it fails in a way it did not mean to.
        CascadeError: whatever it raises on purpose.
    """
    try:
        return spec.build(config)
    except CascadeError:
        raise
    except Exception as error:
        raise PluginError(
            f"{kind} {name!r}: cannot be built ({type(error).__name__}: {error}).",
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
