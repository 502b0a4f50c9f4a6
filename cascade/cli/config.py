"""`cascade config show|check|schema`: what a rig and a recipe come to, and where each value came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Show, check and describe configurations.")

Rig = Annotated[str, typer.Option(help="Rig by name, or its YAML file.")]
Recipe = Annotated[str, typer.Option(help="Recipe by name, or its YAML file.")]
Planner = Annotated[str | None, typer.Option(help="Planner instead of the recipe's.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as gate.motion=false.")]


@app.command()
def show(
    rig: Rig = "sim",
    recipe: Recipe = "unipi",
    planner: Planner = None,
    settings: Settings = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Print the resolved configuration of a run, all defaults filled in.

    Example:
        cascade config show --recipe avdc --set execution.replans=0 --origin
    """
    from cascade.compose import compose
    from cascade.config import resolved, to_yaml

    run, origins = compose(
        instruction="", task=None, seed=0, rig=rig, recipe=recipe, planner=planner, overrides=settings or []
    )
    values = {key: value for key, value in resolved(run).items() if key in ("rig", "recipe")}
    if as_json:
        document: dict[str, Any] = {"schema_version": 1, **values}
        if origin:
            document["origin"] = {key: _origin(key, origins) for key, _ in _leaves(values)}
        typer.echo(json.dumps(document, indent=2))
    elif origin:
        for key, value in _leaves(values):
            typer.echo(f"{key} = {json.dumps(value)}  ({_origin(key, origins)})")
    else:
        typer.echo(to_yaml(values), nl=False)


@app.command()
def check(
    files: Annotated[list[str] | None, typer.Argument(help="Names or files; none: all packaged.")] = None,
) -> None:
    """Check configurations: keys, values, plug-ins and their options.

    Example:
        cascade config check my-recipe.yaml
    """
    from cascade.config import load_yaml, packaged

    names = files or [str(path) for kind in ("rigs", "recipes") for path in packaged(kind).values()]
    for name in names:
        path = _find(name)
        _check(path, load_yaml(path).values)
        typer.echo(f"ok  {path}")


@app.command()
def schema(
    kind: Annotated[
        str, typer.Argument(help="run, recipe, rig, or a plug-in as KIND:NAME such as planner:embedded.")
    ] = "run",
) -> None:
    """Print the JSON schema of a configuration or of a plug-in's options.

    Example:
        cascade config schema planner:embedded
    """
    from cascade.config import RecipeConfig, RigConfig, RunConfig
    from cascade.contracts.errors import ConfigError, did_you_mean
    from cascade.plugins import load_plugin

    models = {"run": RunConfig, "recipe": RecipeConfig, "rig": RigConfig}
    group, _, name = kind.partition(":")
    if name:
        model: Any = load_plugin(group, name).config
    elif kind in models:
        model = models[kind]
    else:
        raise ConfigError(f"schema {kind!r}: unknown.", did_you_mean(kind, models))
    typer.echo(json.dumps(model.model_json_schema(), indent=2))


def _find(name: str) -> Path:
    from cascade.config import find_config, packaged

    kind = "rigs" if name in packaged("rigs") else "recipes"
    return find_config(kind, name)


def _check(path: Path, values: dict[str, Any]) -> None:
    """Raise ConfigError or PluginError on the first thing that is wrong."""
    from cascade.config import load_recipe, load_rig, load_run
    from cascade.config import resolved as resolved_run
    from cascade.plugins import plugin_options

    if "instruction" in values:
        resolved_run(load_run(path))
        return
    if "plugin" in values:
        rig = load_rig(str(path))
        plugin_options("rig", rig.plugin, rig.options, where=f"{path}: options")
        return
    recipe = load_recipe(str(path))
    stages = [("planner", recipe.planner), ("extractor", recipe.extractor)]
    stages += [("extractor", recipe.reader)] if recipe.reader else []
    for group, stage in stages:
        plugin_options(group, stage.name, stage.options, where=f"{path}: {group}.options")


def _leaves(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        rows += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(f"{prefix}{key}", value)]
    return rows


def _origin(key: str, origins: dict[str, str]) -> str:
    """Where a leaf came from: the most specific entry on its path, else a default."""
    for name in ("limits", "name"):  # of a rig, passed on among its options
        key = key.replace(f"rig.options.{name}", f"rig.{name}")
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        found = origins.get(".".join(parts[:length]))
        if found is not None:
            return found
    return "default"
