"""Bars on stderr where it is a terminal, and a line now and then where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

Row = Mapping[str, Any]
LINES = 10  # of a whole run, where there is no terminal


def bar_with_note() -> Progress:
    """Return a progress display of title, bar, count, time left and a field `note`; silent without a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def episodes_bar(title: str, total: int, tell: Callable[[Row], tuple[str, str]]) -> Iterator[Callable[[Row], None]]:
    """Show how many of `total` episodes are done; what it gives is called with the row of every one.

    Args:
        title: of the bar.
        total: episodes.
        tell: (summary so far or "", name of this episode) of a row.
    """
    done = 0
    with bar_with_note() as progress:
        bar = progress.add_task(title, total=total, note="")

        def show(row: Row) -> None:
            nonlocal done
            done += 1
            summary, last = tell(row)
            progress.update(bar, advance=1, note="; ".join(filter(None, (summary, f"last {last}"))))
            if progress.disable and (done % max(1, total // LINES) == 0 or done == total):
                typer.echo(", ".join(filter(None, (f"{done} of {total} episodes", summary))), err=True)

        yield show
