"""Every rig and recipe that travels with the package is valid, down to the options of its plug-ins."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade.config import RecipeConfig, RigConfig, load_yaml, packaged
from cascade.plugins import plugin_options

ROOT = Path(__file__).parents[2]
RECIPES, RIGS = packaged("recipes"), packaged("rigs")


def test_the_files_in_configs_are_the_packaged_ones() -> None:
    assert {path.stem for path in (ROOT / "configs" / "recipes").glob("*.yaml")} == set(RECIPES)
    assert {path.stem for path in (ROOT / "configs" / "rigs").glob("*.yaml")} == set(RIGS)
    assert {"unipi", "avdc"} <= set(RECIPES)
    assert "sim" in RIGS


def valid(group: str, stage: Mapping[str, Any] | None, path: Path) -> None:
    if stage is not None:
        plugin_options(group, stage["name"], stage.get("options", {}), where=f"{path.name}: {group}")


@pytest.mark.parametrize("path", RECIPES.values(), ids=list(RECIPES))
def test_a_recipe_loads_and_its_options_are_known(path: Path) -> None:
    values = load_yaml(path).values

    recipe = RecipeConfig.model_validate(values)

    assert recipe.name == path.stem
    assert recipe.summary
    valid("planner", values["planner"], path)
    valid("extractor", values["extractor"], path)
    valid("extractor", values.get("reader"), path)


@pytest.mark.parametrize("path", RIGS.values(), ids=list(RIGS))
def test_a_rig_loads_and_its_options_are_known(path: Path) -> None:
    rig = RigConfig.model_validate(load_yaml(path).values)

    assert rig.name == path.stem
    plugin_options("rig", rig.plugin, rig.options, where=path.name)


@pytest.mark.parametrize("path", [*RECIPES.values(), *RIGS.values()], ids=lambda path: path.stem)
def test_a_misspelt_key_is_an_error(path: Path) -> None:
    model = RecipeConfig if path in RECIPES.values() else RigConfig

    with pytest.raises(ValueError, match="extra"):
        model.model_validate({**yaml.safe_load(path.read_text()), "exectuion": {}})
