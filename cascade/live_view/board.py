"""What the page shows, by topic: writers put the latest value, every reader gets what is newer than what it has.

A slow browser skips pictures instead of queueing them, so that memory stays flat and the run is never held up.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any


class Board:
    """Topics with their latest values (thread-safe)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._values: dict[str, tuple[int, str]] = {}
        self._version = 0
        self._closed = False

    def put(self, topic: str, value: Any) -> None:
        """Replace the value of a topic; `value` is JSON."""
        text = json.dumps(value, allow_nan=False, default=str)
        with self._changed:
            self._version += 1
            self._values[topic] = (self._version, text)
            self._changed.notify_all()

    def close(self) -> None:
        """Tell readers that nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def newer(self, version: int, timeout_s: float) -> tuple[int, Mapping[str, str], bool]:
        """Wait for topics newer than `version`.

        Returns:
            (version now, topic -> JSON text of what is newer, whether the board is closed).
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version > version or self._closed, timeout_s)
            news = {topic: text for topic, (when, text) in self._values.items() if when > version}
            return self._version, news, self._closed
