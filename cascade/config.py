"""Rigs, recipes and runs as flat YAML, validated by pydantic: no inheritance, interpolation or code in files.

A *rig* is what stands on the table; a *recipe* is a way of thinking (planner, extractor, execution, gate); a *run* is
both of them with an instruction. Values come from defaults, then the file, then `--set`; where each came from is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cascade.contracts.errors import ConfigError, did_you_mean
from cascade.plugins import explain, plugin_options

Model = TypeVar("Model", bound=BaseModel)
_ONE = {"rigs": "rig", "recipes": "recipe", "studies": "study"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageConfig(_Strict):
    """A plug-in by name, with its options."""

    name: str = Field(description="Registered name, see `cascade plugins`.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the plug-in.")


class ScorerConfig(StageConfig):
    """A scorer by name, with its options and its say."""

    weight: float = Field(1.0, gt=0, description="Its say among the scorers.")


class SearchConfig(_Strict):
    """Tree search over sub-goals: keep the first frames of the best plans, imagine on from there."""

    levels: int = Field(default=2, ge=2, le=8, description="How often it is imagined; each but the last is cut short.")
    keep_frames: int = Field(default=8, ge=1, description="Frames of a plan after which it is imagined anew.")
    beam: int = Field(default=2, ge=1, description="Plans that are carried on at each level.")


class SamplingConfig(_Strict):
    """How many plans are imagined at once, and how one is chosen."""

    samples: int = Field(default=1, ge=1, le=64, description="Plans imagined at once, in one batch.")
    scorers: tuple[ScorerConfig, ...] = Field(default=(), description="What they are ranked by.")
    avoid_m: float = Field(
        default=0.02, ge=0.0, description="Plans this near to one that failed come last; 0: failures are forgotten [m]."
    )
    search: SearchConfig | None = Field(default=None, description="Tree search instead of plain samples.")

    @model_validator(mode="after")
    def _can_choose(self) -> SamplingConfig:
        if self.samples > 1 and not self.scorers:
            raise ValueError("samples above 1 need at least one scorer to choose by")
        if self.search is not None and self.samples < 2:
            raise ValueError("a search needs samples of 2 or more")
        return self


class Mode(StrEnum):
    """How a plan is executed."""

    OPEN_LOOP = "open_loop"  # the whole plan, then look again
    RECEDING = "receding"  # the first targets of the plan, then plan again
    ASYNC = "async"  # plan k + 1 while k runs, blend at the seam


class ExecutionConfig(_Strict):
    """How plans become motion."""

    mode: Mode = Field(
        default=Mode.OPEN_LOOP,
        description="open_loop: the whole plan; receding: its first targets only; async: the next plan meanwhile.",
    )
    replans: int = Field(
        default=1, ge=0, le=50, description="New plans after one that ended without success, the arm back at its start."
    )
    receding_targets: int = Field(
        default=4, ge=1, description="Targets executed before the next plan takes over (modes receding and async)."
    )
    receding_plans: int = Field(default=8, ge=1, description="Most plans of an episode (modes receding and async).")
    blend_targets: int = Field(
        default=3, ge=0, description="Targets of a new plan that are drawn towards the old one (mode async)."
    )
    latency_s: float | None = Field(
        default=None,
        ge=0.0,
        description="Time a plan takes in a simulated world that waits for compute (mode async); None: no time [s].",
    )
    lift_m: float = Field(
        default=0.1, ge=0.0, le=0.5, description="Way up, gripper open, before going back to the start [m]."
    )
    video_every: int = Field(default=2, ge=1, description="Control steps per frame of executed.mp4.")


class GateConfig(_Strict):
    """Thresholds of the gate; the arm's own limits come from the rig and cannot be widened here."""

    first_frame: bool = Field(default=True, description="Compare frame 0 of the plan with the camera.")
    # In simulation half of all pairs of different tasks lie below 20 dB, all layouts of one task above 25 dB.
    min_first_frame_psnr_db: float = Field(
        default=20.0, description="Least likeness of frame 0 and the camera image [dB]."
    )
    motion: bool = Field(default=True, description="Refuse plans in which nothing moves.")
    min_motion_levels: float = Field(
        default=8.0, ge=0.0, description="Least mean change of the most changed 5 % of pixels [grey levels of 255]."
    )
    workspace_margin_m: float = Field(
        default=0.08,
        ge=0.0,
        description="Targets this far outside the workspace are clipped to it; beyond, refused [m].",
    )
    max_reach_m: float | None = Field(
        default=None, gt=0.0, description="Farthest target from the arm's base [m]; None: any."
    )
    calibration: str | None = Field(
        default=None,
        description="Folder written by `cascade train gate`, or name of a shipped one: p_exec, limits and tube; None: "
        "the thresholds above only.",
    )
    slowest: float = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description="Share of speed and chunk length for a plan that a calibrated gate only just lets through.",
    )


class RecipeConfig(_Strict):
    """A way of thinking: who imagines, who reads the motion, how it is executed."""

    name: str = Field(description="Name of the recipe.")
    summary: str = Field("", description="One line for people.")
    planner: StageConfig
    extractor: StageConfig
    reader: StageConfig | None = Field(None, description="Extractor plug-in that reads poses and gripper in the plan.")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)
    gate: GateConfig = Field(default_factory=GateConfig)


class RigConfig(_Strict):
    """What stands on the table."""

    name: str = Field(description="Name of the rig.")
    plugin: str = Field(description="Rig plug-in, see `cascade plugins rig`.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the plug-in; `name` and `limits` are passed on among them."
    )
    limits: dict[str, Any] | None = Field(default=None, exclude=True, description="What the arm may do.")

    @model_validator(mode="before")
    @classmethod
    def _pass_on(cls, values: Any) -> Any:
        """Put name and limits among the options, where the plug-in looks for them."""
        if not isinstance(values, dict) or not isinstance(values.get("options", {}), dict):
            return values
        rest = {key: value for key, value in values.items() if key != "limits"}
        given = {key: values[key] for key in ("name", "limits") if values.get(key) is not None}
        return rest | {"options": {**given, **values.get("options", {})}}


class RunConfig(_Strict):
    """Everything one run depends on; written into every run folder and itself a valid input."""

    instruction: str = Field(description="What to do, in words.")
    task: str | None = Field(None, description="Simulated task; None on real rigs.")
    seed: int = Field(0, ge=0, description="Layout and planner seed.")
    rig: RigConfig
    recipe: RecipeConfig


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration as plain values, with the origin of every leaf that does not come from a default."""

    values: dict[str, Any]
    origin: dict[str, str] = field(default_factory=dict)


def find_config(kind: str, name: str) -> Path:
    """Return the file of a rig or recipe.

    Args:
        kind: 'rigs', 'recipes' or 'studies'.
        name: name of a packaged configuration, or a path ending in .yaml.

    Raises:
        ConfigError: there is none of that name.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"{name}: expected a YAML file, found none.", "Check the path.")
        return path
    known = packaged(kind)
    if name not in known:
        raise ConfigError(f"{_ONE[kind]} {name!r}: unknown.", did_you_mean(name, known))
    return known[name]


def packaged(kind: str) -> dict[str, Path]:
    """Return name -> file of the configurations that travel with the package (`kind`: as for `find_config`)."""
    inside = Path(str(files("cascade"))) / "configs"
    # In a checkout the folder lies beside the package; the wheel carries it inside.
    root = inside if inside.is_dir() else inside.parent.parent / "configs"
    return {path.stem: path for path in sorted((root / kind).glob("*.yaml"))}


def load_yaml(path: Path) -> Loaded:
    """Read a YAML file of mappings; safe loader, duplicate keys are errors.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).", "Check the path and its permissions.") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path}: expected YAML, found {' '.join(str(error).split())}.", "Correct the file."
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}.", "Correct the file.")
    return Loaded(values, {key: str(path) for key in _leaves(values)})


def load_recipe(name: str, overrides: Iterable[str] = ()) -> RecipeConfig:
    """Return a recipe by name or path, with `planner.options.steps=4` style overrides applied."""
    return validated(RecipeConfig, override(load_yaml(find_config("recipes", name)), overrides), f"recipe {name}")


def load_rig(name: str, overrides: Iterable[str] = ()) -> RigConfig:
    """Return a rig by name or path, with `options.horizon=300` style overrides applied."""
    return validated(RigConfig, override(load_yaml(find_config("rigs", name)), overrides), f"rig {name}")


def load_run(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the run that a `config.yaml` of a run folder describes, with overrides applied."""
    return validated(RunConfig, override(load_yaml(path), [run_key(text) for text in overrides]), str(path))


def override_run(run: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """Return a run with `planner.options.steps=4` style overrides applied."""
    values = Loaded(run.model_dump(mode="json"))
    return validated(RunConfig, override(values, [run_key(text) for text in overrides]), "")


def override(loaded: Loaded, overrides: Iterable[str]) -> Loaded:
    """Apply `a.b.c=value` texts (values are YAML) on top of a configuration.

    Another `name` for a stage drops the options that were meant for the one before, whatever the order of the texts.
    """
    values, origin = _copy(loaded.values), dict(loaded.origin)
    for text in sorted(overrides, key=lambda text: not text.partition("=")[0].strip().endswith(".name")):
        key, sign, value = text.partition("=")
        parts = key.strip().split(".")
        if not sign or not all(parts):
            raise ConfigError(f"--set {text!r}: expected key=value.", "For example --set planner.options.steps=4.")
        try:
            parsed = yaml.load(value, Loader=_StrictLoader)  # noqa: S506  (a SafeLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text!r}: expected a YAML value.", "Quote texts with colons.") from error
        node = values
        for part in parts[:-1]:
            child = node.get(part)
            if child is None:
                child = node[part] = {}
            if not isinstance(child, dict):
                raise ConfigError(f"--set {text!r}: {part!r} holds a value, not keys.", "Shorten the key.")
            node = child
        if parts[-1] == "name" and "options" in node and node.get("name") != parsed:
            del node["options"]
            stage = key.strip().removesuffix("name")
            origin = {name: where for name, where in origin.items() if not name.startswith(f"{stage}options")}
        node[parts[-1]] = parsed
        origin = {name: where for name, where in origin.items() if not name.startswith(f"{key}.")}
        origin[key.strip()] = "--set"
    return Loaded(values, origin)


def check_options(run: RunConfig) -> None:
    """Validate the options of every plug-in that a run names.

    Raises:
        PluginError: a plug-in is unknown or broken.
        ConfigError: an option is unknown or has a wrong value.
    """
    resolved(run)


def resolved(run: RunConfig) -> dict[str, Any]:
    """Return a run as plain values with the defaults of all plug-ins filled in, ready for YAML."""
    values = run.model_dump(mode="json")
    stages = [("rig", "rig", run.rig.plugin), ("planner", "planner", run.recipe.planner.name)]
    stages += [("extractor", "extractor", run.recipe.extractor.name)]
    if run.recipe.reader is not None:
        stages.append(("reader", "extractor", run.recipe.reader.name))
    for key, group, name in stages:
        node = values["rig"] if key == "rig" else values["recipe"][key]
        model = plugin_options(group, name, node["options"], where=f"{key}.options")
        node["options"] = model.model_dump(mode="json")
    for scorer in values["recipe"]["sampling"]["scorers"]:
        model = plugin_options("scorer", scorer["name"], scorer["options"], where=f"scorer {scorer['name']!r}")
        scorer["options"] = model.model_dump(mode="json")
    return values


def to_yaml(values: Mapping[str, Any]) -> str:
    """Return plain values as YAML in their own order."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=120)


def validated(model: type[Model], loaded: Loaded, where: str) -> Model:
    """Return values as a model; raises ConfigError naming the first key that is wrong."""
    try:
        return model.model_validate(loaded.values)
    except ValidationError as error:
        raise ConfigError(*explain(error, model, where)) from error


def run_key(text: str) -> str:
    """Recipe keys may be written without `recipe.`, since only they and `rig.` are ever changed."""
    head = text.split("=", 1)[0].split(".", 1)[0].strip()
    return f"recipe.{text}" if head in RecipeConfig.model_fields else text


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in values.items():
        keys += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return keys


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in values.items()}


class _StrictLoader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice, and for which `no` and `on` are words, as in YAML 1.2."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
    if twice is not None:
        raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} given twice", node.start_mark)
    return dict(loader.construct_pairs(node, deep=True))


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_BOOL = "tag:yaml.org,2002:bool"
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
