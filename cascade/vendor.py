"""Which vendor packages the arms and cameras need, as the extras of this distribution say, and which are there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata, requires, version

DISTRIBUTION = "cascade-wam"


def vendor_packages(plugin: str) -> dict[str, str | None]:
    """Return package -> installed version (None: missing or too old) of the extra that has a plug-in's name.

    Args:
        plugin: name of an arm or camera, such as 'ur'; one without an extra of its own needs nothing.
    """
    from packaging.requirements import Requirement

    if plugin not in (metadata(DISTRIBUTION).get_all("Provides-Extra") or []):
        return {}
    found: dict[str, str | None] = {}
    for line in requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        if requirement.marker is None or not requirement.marker.evaluate({"extra": plugin}):
            continue
        if requirement.marker.evaluate({"extra": ""}):
            continue
        found[requirement.name] = _installed(requirement.name, str(requirement.specifier))
    return found


def _installed(name: str, specifier: str) -> str | None:
    from packaging.specifiers import SpecifierSet

    try:
        there = version(name)
    except PackageNotFoundError:
        return None
    return there if SpecifierSet(specifier).contains(there, prereleases=True) else None


def install_line(plugin: str) -> str:
    """Return what installs the packages of a plug-in."""
    return f'pip install "{DISTRIBUTION}[{plugin}]"'
