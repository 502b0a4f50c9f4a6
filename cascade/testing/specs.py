"""Conformance of a plug-in's entry point."""

from __future__ import annotations

from pydantic import BaseModel

from cascade.contracts import PluginSpec
from cascade.testing.requirement import require


def check_plugin_spec(spec: object) -> None:
    """Check what an entry point resolves to: a PluginSpec whose options are closed, frozen and described.

    Raises:
        PluginError: it is not, and how.
    """
    if not isinstance(spec, PluginSpec):
        require(False, f"entry point: expected a PluginSpec, found {type(spec).__name__}.", "Export PluginSpec(...).")
        return
    summary = spec.summary
    require(bool(summary.strip()) and "\n" not in summary, f"summary: expected one line of text, found {summary!r}.")
    require(callable(spec.build), "build: expected a function of the options.")
    config = spec.config
    is_model = isinstance(config, type) and issubclass(config, BaseModel)
    require(is_model, f"config: expected a pydantic model class, found {config!r}.", "Subclass PluginConfig.")
    options = config.model_config
    require(
        options.get("extra") == "forbid" and options.get("frozen") is True,
        f"{config.__name__}: expected unknown keys to be errors and values to be frozen.",
        "Subclass cascade.contracts.PluginConfig.",
    )
    bare = [name for name, field in config.model_fields.items() if not field.description]
    require(
        not bare, f"{config.__name__}: options without a description: {', '.join(bare)}.", "Use Field(description=...)."
    )
    config.model_json_schema()
