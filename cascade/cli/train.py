"""`cascade train planner|idm|value`: reproduce the weights of a stage from recorded data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cascade.cli.train_gate import gate

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train the weights of a stage from recorded data.")
app.command()(gate)

Datasets = Annotated[list[Path], typer.Argument(help="Recorded sets, see `cascade record`.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of weights and checkpoints.")]
Minutes = Annotated[float | None, typer.Option(min=0.01, help="Wall-clock minutes in all, over all of its parts.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Trainer option: batch=64.")]
Backend = Annotated[
    str, typer.Option("--backend", metavar="NAME", help="embedded, or diffusers to fine-tune a large video model.")
]
Reads = Annotated[
    Literal["frames", "latents"], typer.Option("--reads", help="What is read: a plan's frames, or a planner's latents.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --output.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def planner(
    datasets: Datasets,
    output: Output,
    minutes: Minutes = None,
    settings: Settings = None,
    resume: Resume = False,
    as_json: AsJson = False,
    backend: Backend = "embedded",
) -> None:
    """Train the embedded planner on recorded demonstrations, or fine-tune a large video model on them.

    Example:
        cascade train planner data/expert -o train/planner --minutes 60
        cascade train planner data/expert -o train/wan --backend diffusers --set model=Wan-AI/Wan2.2-TI2V-5B-Diffusers
        torchrun --nproc-per-node 4 "$(which cascade)" train planner data/expert -o train/wan --backend diffusers ...
    """
    # The embedded planner's trainer is the one called `planner`; other packages bring trainers under their own names.
    _train("planner" if backend == "embedded" else backend, datasets, output, minutes, settings or [], resume, as_json)


@app.command()
def idm(
    datasets: Datasets,
    output: Output,
    minutes: Minutes = None,
    settings: Settings = None,
    resume: Resume = False,
    as_json: AsJson = False,
    reads: Reads = "frames",
) -> None:
    """Train the inverse-dynamics model: on recorded play, or on what a planner makes of recorded demonstrations.

    Example:
        cascade train idm data/play -o train/idm --minutes 15
        cascade train idm data/expert -o train/latents --reads latents --set planner.options.stop_at=0.5
    """
    _train("idm" if reads == "frames" else "idm-latents", datasets, output, minutes, settings or [], resume, as_json)


@app.command()
def value(
    datasets: Datasets,
    output: Output,
    settings: Settings = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train the progress value on recorded demonstrations; the scorer `value` ranks plans by it.

    Example:
        cascade train value data/expert -o train/value --set camera=corner
    """
    _train("value", datasets, output, None, settings or [], resume, as_json)


def _train(
    name: str,
    datasets: list[Path],
    output: Path,
    minutes: float | None,
    settings: list[str],
    resume: bool,
    as_json: bool,
) -> None:
    from cascade.config import Loaded, override
    from cascade.dataset.reader import open_datasets
    from cascade.plugins import build_plugin, load_plugin

    options = override(Loaded({}), settings).values
    if minutes is not None:
        options = _with_minutes(load_plugin("trainer", name).config, options, minutes)
    trainer = build_plugin("trainer", name, options)
    episodes = open_datasets(datasets)
    scores = dict(trainer.train(episodes, output, resume=resume))
    document = {
        "schema_version": 1,
        "stage": name,
        "output": str(output),
        "data": {"digest": episodes.digest, "episodes": len(episodes)},
        "scores": scores,
    }
    if int(os.environ.get("RANK", "0")) > 0:  # torchrun and accelerate number their processes; one of them reports
        return
    if as_json:
        typer.echo(json.dumps(document, indent=2, default=str))
    else:
        for key, value in scores.items():
            typer.echo(f"  {key}: {value}", err=True)
        typer.echo(str(output))
    typer.echo(_next(name, output), err=True)


def _next(name: str, output: Path) -> str:
    stages = {"planner": "planner.options.weights", "idm": "extractor.options.weights"}
    stages["idm-latents"] = stages["idm"]
    if name == "value":
        return f"Next: put `name: value, options: {{weights: {output / 'weights'}}}` under a recipe's sampling.scorers."
    if name == "policy":
        return f'Next: cascade run "open the door" --recipe policy --set planner.options.weights={output}/joint'
    if name in stages:
        return f"Next: cascade eval metaworld-11 --set {stages[name]}={output}"
    return f"Next: {output / 'weights' / 'README.md'} says how to load the weights."


def _with_minutes(config: type[Any], options: dict[str, Any], minutes: float) -> dict[str, Any]:
    """Return options with a total of minutes, divided as the trainer divides its default."""
    from pydantic import BaseModel

    from cascade.contracts.errors import ConfigError

    field = config.model_fields.get("minutes")
    if field is None:
        raise ConfigError("--minutes: this trainer has no option `minutes`.", "Leave it out.")
    default = field.get_default(call_default_factory=True)
    if not isinstance(default, BaseModel):
        return {**options, "minutes": minutes}
    parts = {**default.model_dump(), **options.get("minutes", {})}
    total = sum(parts.values())
    return {**options, "minutes": {key: value * minutes / total for key, value in parts.items()}}
