import pytest
import yaml

from cascade.compose import compose
from cascade.config import (
    Loaded,
    RecipeConfig,
    load_recipe,
    load_rig,
    load_run,
    load_yaml,
    override,
    packaged,
    resolved,
    to_yaml,
)
from cascade.contracts import ConfigError, PluginError
from cascade.plugins import build_plugin, plugin_options

NAMES = {"instruction": "open the door", "task": "door-open", "seed": 3, "rig": "sim", "recipe": "unipi"}


def test_all_recipes_of_the_package_are_valid():
    recipes = packaged("recipes")
    assert {"unipi", "avdc", "avdc-geometry", "hybrid"} <= set(recipes)
    for name in recipes:
        recipe = load_recipe(name)
        assert recipe.name == name
        stages = [("planner", recipe.planner), ("extractor", recipe.extractor)]
        for group, stage in [*stages, *([("extractor", recipe.reader)] if recipe.reader else [])]:
            plugin_options(group, stage.name, stage.options)


def test_the_geometric_recipe_asks_no_network_to_read_the_plan():
    assert load_recipe("avdc-geometry").reader is None
    assert load_recipe("avdc").reader is not None


def test_the_maskless_geometric_recipe_asks_for_no_segmentation_and_no_network():
    recipe = load_recipe("avdc-geometry-maskless")
    extractor = build_plugin("extractor", recipe.extractor.name, recipe.extractor.options)
    assert recipe.reader is None
    assert recipe.extractor.options["hand_hint"] == "none"
    assert not extractor.needs.segmentation


def test_a_resolved_run_is_itself_a_valid_input(tmp_path):
    run, _ = compose(**NAMES, overrides=["execution.replans=3", "rig.options.width=96"])
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(resolved(run)))
    again = load_run(path)
    assert resolved(again) == resolved(run)
    assert again.recipe.execution.replans == 3
    assert again.rig.options["width"] == 96
    assert again.rig.options["limits"]["max_speed_m_s"] > 0


def test_overrides_win_over_the_file_and_are_named_as_the_origin():
    run, origin = compose(**NAMES, planner="oracle", overrides=["planner.options.frames=8", "gate.motion=false"])
    assert run.recipe.planner.name == "oracle"
    assert run.recipe.planner.options == {"frames": 8}
    assert run.recipe.gate.motion is False
    assert origin["recipe.planner.options.frames"] == "--set"
    assert origin["recipe.planner.name"] == "--planner"
    assert origin["recipe.extractor.name"].endswith("unipi.yaml")


def test_naming_the_recipe_s_own_planner_keeps_its_options(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nplanner: {name: oracle, options: {frames: 12}}\nextractor: {name: idm}\n")
    run, _ = compose(**{**NAMES, "recipe": str(path)}, planner="oracle")
    assert run.recipe.planner.options == {"frames": 12}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("execution.replanz=3", r"execution\.replanz: unknown key.*Did you mean 'replans'"),
        ("execution.replans=-1", r"replans: .*found -1"),
        ("execution.mode=sideways", "mode: .*open_loop"),
        ("planner.name.deep=1", "holds a value"),
        ("nonsense", "expected key=value"),
        ("gate.motion=[", "expected a YAML value"),
    ],
)
def test_a_wrong_override_is_one_clear_error(override, message):
    with pytest.raises(ConfigError, match=message):
        compose(**NAMES, overrides=[override])


def test_unknown_names_suggest_known_ones():
    with pytest.raises(ConfigError, match="Did you mean 'unipi'"):
        load_recipe("unipy")
    with pytest.raises(ConfigError, match="rig 'simm': unknown"):
        load_rig("simm")
    with pytest.raises(PluginError, match="Did you mean 'oracle'"):
        resolved(compose(**NAMES, planner="oracel")[0])


def test_a_plugin_option_is_named_by_its_place_in_the_file():
    run, _ = compose(**NAMES, planner="oracle", overrides=["planner.options.frame=3"])
    with pytest.raises(ConfigError, match=r"planner\.options\.frame: unknown key"):
        resolved(run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "given twice"),
        ("- 1\n", "expected keys and values, found list"),
        ("a: [1\n", "expected YAML"),
        ("!!python/object/apply:os.system ['true']\n", "expected YAML"),
    ],
)
def test_files_that_are_not_plain_mappings_are_refused(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_yaml(path)


@pytest.mark.parametrize(
    ("text", "meant"), [("no", "no"), ("on", "on"), ("true", True), ("False", False), ("yesno", "yesno")]
)
def test_no_is_a_word_and_false_is_a_truth_value_as_in_yaml_1_2(tmp_path, text, meant):
    path = tmp_path / "x.yaml"
    path.write_text(f"a: {text}\n")
    assert load_yaml(path).values == {"a": meant}
    assert override(load_yaml(path), [f"b={text}"]).values == {"a": meant, "b": meant}


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ConfigError, match="expected a YAML file, found none"):
        load_recipe(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)


def test_a_rig_s_name_and_limits_reach_its_plugin(tmp_path):
    rig = load_rig("sim")
    assert rig.options["name"] == "sim"
    assert set(rig.options["limits"]) >= {"workspace_m", "max_speed_m_s"}
    path = tmp_path / "bench.yaml"
    path.write_text(yaml.safe_dump({"name": "bench", "plugin": "sim", "options": {"width": 64}}))
    bench = load_rig(str(path))
    with pytest.raises(ConfigError, match="limits: required"):
        plugin_options("rig", bench.plugin, bench.options, where="options")


def test_every_field_is_described():
    schema = RecipeConfig.model_json_schema()
    for name in ("ExecutionConfig", "GateConfig"):
        for key, field in schema["$defs"][name]["properties"].items():
            assert field.get("description"), f"{name}.{key}"


def test_another_name_drops_the_options_of_the_stage_before_but_not_new_ones():
    before = Loaded({"extractor": {"name": "idm", "options": {"fuse": "pixels"}}}, {"extractor.options.fuse": "file"})
    after = override(before, ["extractor.options.gain=2", "extractor.name=centroid"])
    assert after.values == {"extractor": {"name": "centroid", "options": {"gain": 2}}}
    assert "extractor.options.fuse" not in after.origin
    same = override(before, ["extractor.name=idm"])
    assert same.values["extractor"]["options"] == {"fuse": "pixels"}
