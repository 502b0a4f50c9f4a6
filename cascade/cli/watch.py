"""`cascade run --view`: a run with its live view."""

from __future__ import annotations

from pathlib import Path

import typer

from cascade.cli.display import Narrator
from cascade.compose import execute
from cascade.config import RunConfig
from cascade.consent import Confirm, Consent, Policy
from cascade.contracts.interfaces import Rig
from cascade.events import Both
from cascade.live_view import LiveView
from cascade.outcome import EpisodeResult


def watched(
    run: RunConfig, *, runs: Path, command: str, move: bool, policy: Policy, ask: bool, port: int
) -> EpisodeResult:
    """Carry out a run with its page open on loopback.

    Args:
        run: what to do.
        runs: folder that the run folder is made in.
        command: for the record.
        move: whether a real arm may move after consent, which is asked in the page.
        policy: how often consent is asked.
        ask: whether a simulated rig asks too.
        port: of the page; 0 takes a free one.

    Raises:
        DeviceError: the port is taken.
        CascadeError: as `execute`.
    """
    with LiveView(port) as view:
        typer.echo(f"  Watch: {view.url}", err=True)

        def asker(rig: Rig, consent: Consent | None) -> Confirm | None:
            if consent is not None:
                return view.confirm(policy, rows=consent.rows, typed=True)
            return (
                view.confirm(policy, rows=lambda _: [("rig", f"{rig.name}, simulated")], typed=False) if ask else None
            )

        return execute(
            run,
            runs=runs,
            command=command,
            listener=Both(Narrator(), view),
            move=move,
            policy=policy,
            ask=asker,
        )
