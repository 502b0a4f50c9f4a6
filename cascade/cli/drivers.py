"""`cascade drivers`: which arms are known, whether a rig's arm answers, and what clears its fault."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from cascade.contracts.errors import ConfigError, DeviceError
from cascade.contracts.interfaces import ArmableArm, Rig
from cascade.contracts.records import ArmMode, ArmState

app = typer.Typer(no_args_is_help=True, help="List arm drivers, test a rig's arm, clear its fault.")

RigName = Annotated[str, typer.Argument(metavar="RIG", help="Rig by name, or its YAML file.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as options.arm.options.host=192.168.1.10.")
]


@app.command("list")
def list_drivers(as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """List the arm drivers that are installed, and whether their vendor's packages are there."""
    from cascade.plugins import inspect_plugins
    from cascade.vendor import install_line, vendor_packages

    rows: list[dict[str, Any]] = []
    for status in inspect_plugins("arm"):
        packages = vendor_packages(status.info.name)
        missing = [name for name, found in packages.items() if found is None]
        rows.append(
            {
                "name": status.info.name,
                "summary": status.summary,
                "package": status.info.package,
                "broken": status.problem or None,
                "vendor": packages,
                "fix": install_line(status.info.name) if missing else None,
            }
        )
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, "drivers": rows}, indent=2))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        state, colour = ("broken", typer.colors.RED) if row["broken"] else ("ok    ", typer.colors.GREEN)
        if row["fix"]:
            state, colour = "needs ", typer.colors.YELLOW
        typer.secho(state, fg=colour, nl=False)
        typer.echo(f"  {row['name']:<{width}}  {row['broken'] or row['summary']}")
        if row["fix"]:
            lacks = ", ".join(name for name, found in row["vendor"].items() if found is None)
            typer.echo(f"        {'':<{width}}  missing {lacks}: {row['fix']}")
    typer.echo("Next: cascade drivers test RIG", err=True)


@app.command("test")
def try_driver(
    rig: RigName,
    settings: Settings = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=60.0, help="How long to read the arm's state [s].")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Connect a rig's arm and read its state for a second; nothing is armed, nothing moves.

    Exit code 3 when it does not answer or is in fault.
    """
    with _connected(rig, settings) as (built, arm):
        states = _watch(built, seconds)
        late, state = arm.lateness(), states[-1]
        document = {
            "schema_version": 1,
            "rig": built.name,
            "arm": arm.spec.name,
            "mode": state.mode.value,
            "faults": [_fault(fault) for fault in state.faults],
            "joints_rad": state.q.round(4).tolist(),
            "position_m": state.position_m.round(4).tolist(),
            "gripper_opening": round(state.gripper_opening, 3),
            "force_n": None if state.wrench is None else round(float((state.wrench[:3] ** 2).sum() ** 0.5), 2),
            "states_per_s": round((len({s.stamp_s for s in states}) - 1) / seconds, 1),
            "drift_m": round(float(max(abs(s.position_m - state.position_m).max() for s in states)), 5),
            "lateness": {
                "rate_hz": late.rate_hz,
                "scheduling": late.scheduling,
                "p50_ms": round(late.p50_ms, 3),
                "p99_ms": round(late.p99_ms, 3),
                "worst_ms": round(late.worst_ms, 3),
            },
            "events": [f"{event.kind}: {event.code} {event.message}".strip() for event in arm.events()],
        }
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        _tell(document, state)
    if state.mode in (ArmMode.FAULT, ArmMode.ESTOP):
        typer.echo(f"Next: cascade drivers clear {rig}", err=True)
        raise typer.Exit(3)


@app.command("clear")
def clear_fault(
    rig: RigName,
    settings: Settings = None,
    token: Annotated[str | None, typer.Option(help="Token of the fault, as shown; asked for otherwise.")] = None,
) -> None:
    """Show an arm's latched fault and clear it once a person has read it; the arm stays unarmed and does not move.

    An emergency stop is never cleared from here: release it at the robot. Exit code 3 when the fault remains.
    """
    with _connected(rig, settings) as (built, arm):
        for _ in range(8):
            state = _watch(built, 0.3)[-1]
            if state.mode is ArmMode.ESTOP:
                raise DeviceError(
                    f"arm {arm.spec.name!r}: in emergency stop.", "Release it at the robot and power it up there."
                )
            if state.mode is not ArmMode.FAULT:
                typer.echo(f"{built.name}: no fault ({state.mode.value}).")
                return
            fault = state.faults[0]
            typer.echo(f"{built.name}: {fault}", err=True)
            arm.clear_fault(token or _asked(fault.token))
            token = None
        raise DeviceError(
            f"arm {arm.spec.name!r}: its fault comes back as often as it is cleared.", "Remove its cause."
        )


@contextmanager
def _connected(name: str, settings: list[str] | None) -> Iterator[tuple[Rig, ArmableArm]]:
    from cascade.config import load_rig
    from cascade.plugins import build_plugin

    config = load_rig(name, settings or [])
    rig: Rig = build_plugin("rig", config.plugin, config.options)
    if not isinstance(rig.arm, ArmableArm):
        raise ConfigError(
            f"rig {name!r}: expected an arm behind a driver, found a simulated one.",
            "Name a rig of plugin real, such as ur5e-loopback.",
        )
    with arm_alone(rig):
        yield rig, rig.arm


@contextmanager
def arm_alone(rig: Rig) -> Iterator[None]:
    """Connect a rig's arm without its cameras where the rig can do that."""
    only = getattr(rig, "arm_alone", None)
    with only() if callable(only) else rig:
        yield


def _watch(rig: Rig, seconds: float) -> list[ArmState]:
    states = [rig.arm.read()]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.005)
        states.append(rig.arm.read())
    return states


def _asked(token: str) -> str:
    import sys

    if not sys.stdin.isatty():
        raise ConfigError("cascade drivers clear: expected a terminal to ask at, found none.", f"Give --token {token}.")
    typer.echo(f"  Is its cause gone, and nobody within reach? Then type {token} and Enter.", err=True)
    return str(typer.prompt("  token", err=True)).strip()


def _fault(fault: Any) -> dict[str, str]:
    return {"code": fault.code, "message": fault.message, "token": fault.token}


def _tell(document: dict[str, Any], state: ArmState) -> None:
    late = document["lateness"]
    numbers = ", ".join(f"{value:.2f}" for value in document["joints_rad"])
    where = ", ".join(f"{value:.3f}" for value in document["position_m"])
    rows = [
        ("arm", f"{document['arm']} of {document['rig']}: {document['mode']}"),
        ("joints", f"{numbers} rad"),
        ("hand", f"{where} m, open {document['gripper_opening']:.0%}"),
        ("states", f"{document['states_per_s']:.0f} per second, drift {document['drift_m'] * 1e3:.1f} mm"),
        (
            "lateness",
            f"p50 {late['p50_ms']:.2f}, p99 {late['p99_ms']:.2f}, worst {late['worst_ms']:.2f} ms "
            f"at {late['rate_hz']:.0f} Hz ({late['scheduling']})",
        ),
    ]
    if document["force_n"] is not None:
        rows.insert(3, ("force", f"{document['force_n']:.1f} N"))
    rows += [("fault", str(fault)) for fault in state.faults]
    for name, value in rows:
        typer.echo(f"{name:<9} {value}")
    typer.echo("Nothing was armed, nothing moved.", err=True)
