"""Consent: before a real arm moves a person sees what is about to happen, and says so or not.

Nothing here touches the arm. The runtime asks before the first motion of every chunk; who agrees, and how often, is
decided here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cascade.contracts.errors import ConfigError
from cascade.contracts.hardware import Hardware
from cascade.contracts.records import ActionChunk, Limits

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 80
WORD = "move"


class Policy(StrEnum):
    """How often a person is asked."""

    EACH = "each"  # before every chunk
    FIRST = "first"  # before the first one of the run
    NEVER = "never"  # what would be asked is shown, nobody is waited for


class Kind(StrEnum):
    """What is about to happen."""

    HOME = "home"  # the arm goes to where a run begins
    CHUNK = "chunk"  # the arm follows targets
    RETURN = "return"  # the arm goes back to where the run began


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A motion that waits for consent.

    Attributes:
        kind: what is about to happen.
        instruction: what the run is to do, in words.
        plan, number: indices of plan and chunk.
        chunk: what the gate let through; None on the way home.
        margins: how close the gate's checks came: name -> (value, limit, unit).
        clip: the imagined video, when it was written to a file.
    """

    kind: Kind
    instruction: str
    plan: int = 0
    number: int = 0
    chunk: ActionChunk | None = None
    margins: Mapping[str, tuple[float, float, str]] | None = None
    clip: Path | None = None


class Confirm(Protocol):
    """Whether a motion may begin."""

    def __call__(self, proposal: Proposal) -> bool:
        """Return whether the arm may move; may take as long as a person needs."""
        ...


class Consent:
    """Shows what a real arm is about to do on a terminal and waits for the typed word (a Confirm).

    Args:
        hardware: the machine.
        limits: what it may do, speed cap already scaled.
        policy: how often to ask.
        speed: share of the rig's speed cap, for the display.
        console: where to show; standard error when None.
        read: reads one line, raising EOFError at the end; the terminal's when None.
    """

    def __init__(
        self,
        hardware: Hardware,
        limits: Limits,
        policy: Policy,
        *,
        speed: float = 1.0,
        console: Console | None = None,
        read: Callable[[str], str] | None = None,
    ) -> None:
        self._hardware, self._limits, self._policy, self._speed = hardware, limits, policy, speed
        self._console = console
        self._read = read or input
        self._agreed: set[Kind] = set()

    def __call__(self, proposal: Proposal) -> bool:
        """Show the motion; ask when the policy wants it. Anything but the word, or the end of input, is a no."""
        console = self._console or _stderr()
        known = Kind.HOME if proposal.kind is Kind.HOME else Kind.CHUNK
        if self._policy is not Policy.EACH and known in self._agreed:
            return True
        console.print(self.panel(proposal), highlight=False)
        if self._policy is Policy.NEVER:
            console.print("  --confirm never: nobody is asked.", highlight=False)
            self._agreed.add(known)
            return True
        again = "every chunk is asked" if self._policy is Policy.EACH else "asked once"
        console.print(f'  Type "{WORD}" and Enter to let the arm move ({again}); anything else stops.', highlight=False)
        try:
            agreed = self._read("  > ").strip().lower() == WORD
        except EOFError:
            agreed = False
        if agreed:
            self._agreed.add(known)
        return agreed

    def panel(self, proposal: Proposal) -> RenderableType:
        """Return what a person has to see before the arm moves, 80 columns wide at most."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in self.rows(proposal):
            table.add_row(name, Text(value))
        warning = Text("Everybody out of its reach? Emergency stop in hand? This program is neither.", style="bold")
        return Panel(
            Group(table, Text(""), warning),
            title="A real arm is about to move",
            title_align="left",
            border_style="yellow",
            padding=(0, 1),
            width=min(WIDTH, (self._console or _stderr()).width),
        )

    def rows(self, proposal: Proposal) -> list[tuple[str, str]]:
        """Return what a person has to know before the arm moves, as names and words."""
        limits, share = self._limits, f" ({self._speed:.0%} of the rig's cap)" if self._speed < 1 else ""
        rows = [
            ("robot", self._hardware.arm),
            ("address", self._hardware.address),
            ("asked", f"“{proposal.instruction}”"),
            ("speed cap", f"{limits.max_speed_m_s:.3g} m/s, {limits.max_angular_speed_rad_s:.3g} rad/s{share}"),
            ("workspace", _box(limits)),
        ]
        if limits.keep_outs_m:
            rows.append(("keep-outs", f"{len(limits.keep_outs_m)}"))
        force = "not measured" if limits.max_force_n is None else f"stops at {limits.max_force_n:.3g} N"
        rows.append(("force", force))
        if proposal.kind is Kind.HOME:
            rows.append(("motion", self._hardware.home))
        elif proposal.chunk is not None:
            rows.append(("motion", _way(proposal)))
        for name, (value, limit, unit) in list((proposal.margins or {}).items())[:4]:
            rows.append((name, f"{value:.3g} of at most {limit:.3g} {unit}"))
        if proposal.clip is not None:
            rows.append(("imagined", str(proposal.clip)))
        return rows


def require_terminal(policy: Policy) -> None:
    """Raise ConfigError when a person is to be asked and no terminal is there to ask at."""
    if policy is not Policy.NEVER and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(
            "cascade run --execute: expected a terminal to ask for consent at, found none.",
            "Run it in a terminal; or, with the arm supervised otherwise, add --confirm never.",
        )


def describe(proposal: Proposal) -> dict[str, Any]:
    """Return what was asked as JSON values, for the events of a run."""
    return {"subject": proposal.kind.value, "plan": proposal.plan, "chunk": proposal.number}


def _way(proposal: Proposal) -> str:
    import numpy as np

    chunk = proposal.chunk
    if chunk is None or not len(chunk):
        return "none"
    way = float(np.linalg.norm(np.diff(chunk.values[:, :3], axis=0), axis=1).sum())
    back = "back to the start, " if proposal.kind is Kind.RETURN else ""
    return f"{back}plan {proposal.plan}, chunk {proposal.number}: {len(chunk)} targets over {way:.2f} m"


def _box(limits: Limits) -> str:
    low, high = limits.workspace_m
    axes = (f"{axis} {a:.2f} .. {b:.2f}" for axis, a, b in zip("xyz", low, high, strict=True))
    return ", ".join(axes) + " m"


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)
