"""The person at the arm, through a terminal: reads what there is to do, presses Enter, watches the joints move."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress

import typer

from cascade.contracts.errors import OperatorStop

SHOWN_EVERY = 20  # samples between two lines of joint positions


class TerminalOperator:
    """Texts go to stderr, Enter comes from stdin; the end of stdin is a refusal."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._asked: str | None = None
        self._shown = 0
        threading.Thread(target=self._listen, daemon=True, name="stdin").start()

    def confirm(self, text: str) -> None:
        """Show a text and wait for Enter; raises OperatorStop when nobody is there."""
        typer.echo(f"{text} Then press Enter.", err=True)
        self._take(self._lines.get())

    def finished(self, text: str) -> bool:
        """Show a text once; say, without waiting, whether Enter was pressed since."""
        if self._asked != text:
            self._asked = text
            typer.echo(f"{text} Press Enter when done.", err=True)
        with suppress(queue.Empty):
            self._take(self._lines.get_nowait())
            return True
        return False

    def show(self, ranges: Mapping[str, tuple[int, int, int]]) -> None:
        """Show smallest, present and largest tick of each joint, now and then."""
        self._shown += 1
        if self._shown % SHOWN_EVERY == 1:
            found = "   ".join(f"{name} {low}<{now}<{high}" for name, (low, now, high) in ranges.items())
            end = "\r" if sys.stderr.isatty() else "\n"
            typer.echo(f"  {found}{end}", err=True, nl=False)

    def _listen(self) -> None:
        for line in sys.stdin:
            self._lines.put(line)
        self._lines.put("")

    @staticmethod
    def _take(line: str) -> None:
        if not line:
            raise OperatorStop("calibrate servos: nobody is at the terminal; no file is written.", "Run it by hand.")
