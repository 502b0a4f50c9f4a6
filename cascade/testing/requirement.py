"""The one way in which a conformance check fails, and the values every record must hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from cascade.contracts import CascadeError, PluginError


def require(holds: bool, problem: str, fix: str = "") -> None:
    """Raise PluginError unless `holds`."""
    if not holds:
        raise PluginError(problem, fix)


def require_members(stage: object, names: tuple[str, ...], protocol: str) -> None:
    """Raise PluginError unless `stage` has all members of a protocol."""
    missing = [name for name in names if not hasattr(stage, name)]
    require(not missing, f"{type(stage).__name__}: a {protocol} has {', '.join(names)}; missing: {', '.join(missing)}.")


def require_json(name: str, values: Mapping[str, Any]) -> None:
    """Raise PluginError unless `values` can be written to a run folder as strict JSON."""
    try:
        json.dumps(dict(values), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{name}: expected JSON values, found something else ({error}).", "Convert arrays and numpy numbers."
        ) from error


def require_cascade_error(name: str, call: Callable[[], object], *, may_succeed: bool = False) -> None:
    """Raise PluginError unless `call` raises CascadeError (or, when it `may_succeed`, returns)."""
    try:
        call()
    except CascadeError:
        return
    except Exception as error:
        raise PluginError(
            f"{name}: expected a CascadeError, found {type(error).__name__}: {error}.",
            "Check the input and raise DataError or another CascadeError that says what to do.",
        ) from error
    require(
        may_succeed, f"{name}: expected a CascadeError, but the call returned.", "Refuse input that cannot be used."
    )
