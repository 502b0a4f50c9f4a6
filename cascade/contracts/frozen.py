"""Setting validated fields of frozen records."""

from __future__ import annotations

from typing import Any


def assign(record: object, **values: Any) -> None:
    """Set fields of a frozen record while it is being made."""
    for name, value in values.items():
        object.__setattr__(record, name, value)
