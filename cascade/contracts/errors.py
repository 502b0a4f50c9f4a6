"""One error tree. Every message says what was expected, what was found and what to do.

CascadeError
├── ConfigError        a file, key or flag is wrong (exit code 2)
├── PluginError        a plug-in is unknown, broken or breaks its contract (2)
├── WeightsError       weights are missing, corrupt or of another version (3)
├── DataError          a video, plan, dataset or record has the wrong form (2)
├── IncompatibleError  two stages do not fit together; nothing has moved (2)
├── RemoteError        a remote planner is unreachable, late, or answers nonsense (3)
├── DeviceError        an arm or camera is missing, dead or in fault (3)
│   └── StaleImageError  a camera image is older than allowed (3)
└── OperatorStop       a person stopped the run; the arm holds (130)

A refused motion is no error but a value: `GateReport` with verdict REJECT.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CascadeError(Exception):
    """Root of all errors that cascade raises on purpose.

    Args:
        problem: what was expected and what was found, one sentence.
        fix: what the reader can do about it, one sentence, or empty.
    """

    exit_code = 1

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem = problem
        self.fix = fix
        super().__init__(f"{problem} {fix}".strip())


class ConfigError(CascadeError):
    """A file, key or flag is wrong."""

    exit_code = 2


class PluginError(CascadeError):
    """A plug-in is unknown, cannot be imported, or breaks its contract."""

    exit_code = 2


class WeightsError(CascadeError):
    """Weights are missing, corrupt or of another version."""

    exit_code = 3


class DataError(CascadeError):
    """A video, plan, dataset or record has the wrong form."""

    exit_code = 2


class IncompatibleError(CascadeError):
    """Two stages do not fit together; found before anything moved."""

    exit_code = 2


class DeviceError(CascadeError):
    """An arm or camera is missing, dead or in fault."""

    exit_code = 3


class RemoteError(CascadeError):
    """A remote planner is unreachable, late, or answers nonsense."""

    exit_code = 3


class StaleImageError(DeviceError):
    """A camera image is older than allowed."""


class OperatorStop(CascadeError):  # noqa: N818  (a stop is an outcome, not a mistake)
    """A person stopped the run; the arm holds."""

    exit_code = 130


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """Return ' Did you mean ...? Known: ...' for an unknown name, to end an error message with."""
    names = sorted(known)
    close = get_close_matches(found, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names) if names else 'none'}."
