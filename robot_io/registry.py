"""Arms and cameras by name: the entry points that a rig's file refers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from cascade.contracts import PluginSpec, entry_points

ARMS, CAMERAS = "cascade.arms", "cascade.cameras"
_KINDS = {ARMS: "arm", CAMERAS: "camera"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plug-in with its validated options.

    Attributes:
        name: registered name.
        target: 'module:attribute' of its PluginSpec, which another process can import.
        spec: the imported PluginSpec.
        options: validated, defaults filled in.
    """

    name: str
    target: str
    spec: PluginSpec[Any]
    options: BaseModel

    def build(self) -> Any:
        """Build it from its options."""
        return entry_points.build(self.spec, self.options, "plug-in", self.name)


def choose(group: str, name: str, options: Mapping[str, Any], where: str) -> Chosen:
    """Return a plug-in with its options, checked before anything is opened.

    Args:
        group: `ARMS` or `CAMERAS`.
        name: registered name.
        options: as read from YAML.
        where: prefix of error messages, such as 'rig.options.arm.options'.

    Raises:
        PluginError: it is unknown or cannot be imported.
        ConfigError: an option is unknown or has a wrong value.
    """
    kind = _KINDS[group]
    entry = entry_points.find(group, kind, name)
    spec = entry_points.load(group, kind, name)
    return Chosen(name, entry.value, spec, entry_points.validate(spec, options, where))
