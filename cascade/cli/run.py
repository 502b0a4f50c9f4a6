"""`cascade run`: the whole cascade, once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.contracts.errors import ConfigError

if TYPE_CHECKING:
    from cascade.consent import Policy


def run(
    instruction: Annotated[str | None, typer.Argument(help='What to do, in words, such as "open the door".')] = None,
    task: Annotated[str | None, typer.Option(help="Simulated task; else found in the words.")] = None,
    rig: Annotated[str, typer.Option(help="Rig by name, or its YAML file.")] = "sim",
    recipe: Annotated[str, typer.Option(help="Recipe by name, or its YAML file.")] = "unipi",
    planner: Annotated[str | None, typer.Option(help="Planner instead of the recipe's, such as oracle.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Video or plan folder, for --planner file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Layout of the scene, and seed of the plan.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as planner.options.steps=4.")
    ] = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="Let a real arm move, after consent. Simulated rigs always move.")
    ] = False,
    confirm: Annotated[
        str | None, typer.Option(help="Consent before a real arm moves: each chunk, first (usual), never.")
    ] = None,
    speed: Annotated[float | None, typer.Option(help="Share of a real rig's speed cap, such as 0.1.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Most time from picture to targets, such as 500ms.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="config.yaml of a run folder, instead of the options above.")
    ] = None,
    runs: Annotated[Path, typer.Option(envvar="CASCADE_RUNS", help="Folder that run folders are made in.")] = Path(
        "runs"
    ),
    view: Annotated[
        bool, typer.Option("--view", help="Show plan, camera and gate in a page on this machine meanwhile.")
    ] = False,
    view_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of that page; 0: any free one.")] = 0,
    report: Annotated[bool, typer.Option(help="Write report.html into the run folder.")] = True,
    open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Imagine the task, read the motion, check it, move the arm; leaves a run folder with a report.

    A real arm moves only with --execute, and asks first; without it the run ends where the arm would begin to move.
    With --view a person approves, rejects and stops in the page instead; a simulated rig asks there when --confirm is
    given.

    Exit code: 0 done, 2 wrong input, 3 something is missing, 4 refused before moving, 5 aborted in motion, 6 finished
    but failed, 130 stopped by a person.

    Examples:
        cascade run "open the door"

        cascade run "press the button" --recipe avdc --seed 7 --open

        cascade run "open the door" --planner file --plan video.mp4 --task door-open

        cascade run "open the door" --rig ur5e-realsense --execute --speed 0.1
    """
    from cascade.cli.budget import fit_budget, keep_budget
    from cascade.cli.display import Narrator, finish, write_report
    from cascade.compose import compose
    from cascade.compose import execute as carry_out
    from cascade.config import load_run

    overrides = [*(settings or []), *_speed(speed)]
    policy = _policy(confirm or "first")
    if plan is not None:
        planner = planner or "file"
        overrides.insert(0, f"planner.options.path={str(plan.resolve())!r}")
    if config is not None:
        _refuse_both(instruction, task, planner)
        chosen = load_run(config, overrides)
    elif instruction is None:
        raise ConfigError(
            "cascade run: expected an instruction, found none.", 'For example: cascade run "open the door".'
        )
    else:
        chosen, _ = compose(
            instruction=instruction,
            task=task,
            seed=seed,
            rig=rig,
            recipe=recipe,
            planner=planner,
            overrides=overrides,
        )
    chosen, fit = fit_budget(chosen, budget)
    command = shlex.join(["cascade", *sys.argv[1:]])
    if view:
        from cascade.cli.watch import watched

        result = watched(
            chosen, runs=runs, command=command, move=execute, policy=policy, ask=confirm is not None, port=view_port
        )
    else:
        result = carry_out(chosen, runs=runs, command=command, listener=Narrator(), move=execute, policy=policy)
    keep_budget(fit, Path(result.run_dir))
    if report and result.outcome in ("failed", "rejected"):
        from cascade.cli.inspect import put_on_trial

        put_on_trial(Path(result.run_dir))  # which stage is at fault stands first in the report
    page = write_report(result) if report or open_ else None
    if open_ and page is not None:
        typer.launch(page.resolve().as_uri())
    if result.outcome == "planned" and not execute:
        typer.echo("  Nothing moved. To let the arm move, the same again with --execute.", err=True)
    finish(result, as_json=as_json, task=chosen.task, seed=chosen.seed)


def _speed(share: float | None) -> list[str]:
    if share is None:
        return []
    if not 0 < share <= 1:
        raise ConfigError(
            f"--speed {share:g}: expected a share of the rig's speed cap, above 0 and at most 1, found {share:g}.",
            "A faster arm needs a higher cap in the rig's limits.",
        )
    return [f"rig.options.speed={share!r}"]


def _policy(confirm: str) -> Policy:
    from cascade.consent import Policy
    from cascade.contracts.errors import did_you_mean

    try:
        return Policy(confirm)
    except ValueError:
        raise ConfigError(
            f"--confirm {confirm!r}: expected each, first or never.", did_you_mean(confirm, list(Policy))
        ) from None


def _refuse_both(*given: str | None) -> None:
    if any(value is not None for value in given):
        raise ConfigError(
            "cascade run: expected either --config or an instruction with its options, found both.",
            "Change single values of a configuration with --set.",
        )
