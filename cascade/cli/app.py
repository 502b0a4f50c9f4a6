"""The command line: one app, every command imported only when it is called."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import Any

import typer
import typer.core
import typer.main

# name -> (module, attribute, what the overview says). The attribute is a plain function or a Typer app.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("cascade.cli.run", "run", "Imagine the task, read the motion, move the arm."),
    "plan": ("cascade.cli.stages", "plan", "Only imagine: write a plan."),
    "extract": ("cascade.cli.stages", "extract", "Only read: turn a plan into an action chunk."),
    "replay": ("cascade.cli.replay", "replay", "Run the plan of an earlier run again."),
    "inspect": ("cascade.cli.inspect", "inspect", "Make the report of a run."),
    "blame": ("cascade.cli.blame", "blame", "Name the stage of a run that is at fault, with the evidence."),
    "score": ("cascade.cli.score", "score", "Judge a plan or run on three axes, and plan against motion."),
    "eval": ("cascade.cli.evaluate", "evaluate", "Measure a recipe on a suite of tasks."),
    "study": ("cascade.cli.study", "study", "Compare several ways on the same scenes, with statistics."),
    "record": ("cascade.cli.record", "record", "Record demonstrations as a LeRobotDataset v3."),
    "serve": ("cascade.cli.serve", "serve", "Serve a planner to robots on other machines."),
    "train": ("cascade.cli.train", "app", "Train the weights of a stage from recorded data."),
    "cameras": ("cascade.cli.cameras", "app", "List cameras and show what they see."),
    "drivers": ("cascade.cli.drivers", "app", "List arm drivers, test a rig's arm, clear its fault."),
    "calibrate": ("cascade.cli.calibrate", "app", "Print the board, calibrate a lens, a camera's place, its delay."),
    "doctor": ("cascade.cli.doctor", "doctor", "Check whether this machine is fit to run."),
    "plugins": ("cascade.cli.plugins", "plugins", "List planners, extractors, rigs and their state."),
    "config": ("cascade.cli.config", "app", "Show, check and describe configurations."),
}


class LazyCommands(typer.core.TyperGroup):
    """Knows all commands by name and summary; imports the one that is called."""

    def resolve_command(self, ctx: Any, args: Any) -> Any:
        """Put the real command in place of its summary, then resolve as usual."""
        name = args[0] if args else ""
        if name in COMMANDS:
            module, attribute, _ = COMMANDS[name]
            self.commands[name] = _load(module, attribute, name)
        return super().resolve_command(ctx, args)


def _load(module: str, attribute: str, name: str) -> Any:
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        app = target
    else:
        app = typer.Typer(add_completion=False)
        app.command(name)(target)
    command = typer.main.get_command(app)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyCommands,
    name="cascade",
    help="Imagine a task as video, read the motion in it, move the arm, and see why.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere on the line, adds the traceback to an error.",
)


@app.callback(invoke_without_command=True)
def cascade(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Imagine a task as video, read the motion in it, move the arm, and see why."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("cascade-wam"))
        raise typer.Exit


def _summary_only(summary: str) -> Any:
    def command() -> None:
        """Stand in for the real command in the overview."""

    command.__doc__ = summary
    return command


for _name, (_, _, _text) in COMMANDS.items():
    app.command(_name, help=_text)(_summary_only(_text))


# Where torchao is installed diffusers loads it in any case, and they report what a person here can do nothing about.
CHATTY = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer")


def main() -> None:
    """Run the command line; errors raised on purpose become one message and their exit code."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    arguments = sys.argv[1:]
    debug = "--debug" in arguments or bool(os.environ.get("CASCADE_DEBUG"))
    sys.argv[1:] = [argument for argument in arguments if argument != "--debug"]
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        sys.exit(_tell(error))


def _tell(error: Exception) -> int:
    """Print an error as one message and return its exit code."""
    from cascade.contracts.errors import CascadeError

    if isinstance(error, CascadeError):
        typer.secho(f"Error: {error.problem}", err=True, fg=typer.colors.RED)
        if error.fix:
            typer.echo(f"  {error.fix}", err=True)
        return error.exit_code
    typer.secho(f"Internal error: {type(error).__name__}: {error}", err=True, fg=typer.colors.RED)
    typer.echo("  Run it again with --debug for the traceback, and please report it.", err=True)
    return 1
