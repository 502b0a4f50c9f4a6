import subprocess
import sys
from pathlib import Path

import pytest

from cascade.contracts import ConfigError, PluginError
from cascade.plugins import build_plugin, inspect_plugins, list_plugins, load_plugin, plugin_options


def install(folder: Path, name: str, entry_points: str, code: str = "") -> None:
    """Put a distribution of that name on a path, as pip would leave it."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)
    if code:
        (folder / f"{name.replace('-', '_')}.py").write_text(code)


def test_listing_imports_no_stage():
    code = (
        "import sys; from cascade.plugins import list_plugins; print([i.name for i in list_plugins('planner')]);"
        "print([m for m in ('torch', 'cv2', 'mujoco', 'planner', 'idm', 'robot_io') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, imported = done.stdout.splitlines()
    assert {"embedded", "file", "oracle"} <= set(eval(names))
    assert imported == "[]"


def test_importing_all_of_our_plugins_imports_no_heavy_library():
    code = (
        "import sys; from cascade.plugins import inspect_plugins; print([s.problem for s in inspect_plugins()]);"
        "print([m for m in ('torch', 'cv2', 'mujoco', 'metaworld', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    problems, imported = done.stdout.splitlines()
    assert not any(eval(problems))
    assert imported == "[]"


def test_an_unknown_name_suggests_the_nearest_one():
    with pytest.raises(PluginError, match=r"'embeded'.*Did you mean 'embedded'"):
        load_plugin("planner", "embeded")
    with pytest.raises(PluginError, match="Did you mean 'planner'"):
        list_plugins("planer")


def test_a_broken_plugin_is_reported_with_its_cause_and_harms_no_other(tmp_path, monkeypatch):
    points = "[cascade.planners]\nbroken = cascade_broken:PLANNER\nwrong = cascade_broken:missing\n"
    install(tmp_path, "cascade-broken", points, "import a_module_nobody_has")
    monkeypatch.syspath_prepend(str(tmp_path))
    states = {status.info.name: status for status in inspect_plugins("planner")}
    assert "a_module_nobody_has" in states["broken"].problem
    assert states["broken"].info.package == "cascade-broken"
    assert states["oracle"].problem == ""
    with pytest.raises(PluginError, match="cannot be imported"):
        build_plugin("planner", "broken")


def test_an_entry_point_that_is_no_plugin_spec_is_refused(tmp_path, monkeypatch):
    install(tmp_path, "cascade-odd", "[cascade.planners]\nodd = cascade_odd:NUMBER\n", "NUMBER = 3")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"PluginSpec, found int"):
        load_plugin("planner", "odd")


def test_a_name_that_two_packages_offer_is_refused(tmp_path, monkeypatch):
    install(tmp_path, "cascade-twin", "[cascade.planners]\nhold = cascade_twin:HOLD\n", "HOLD = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="cascade-twin"):
        load_plugin("planner", "hold")


def test_options_are_checked_against_the_plugin_s_own_model():
    with pytest.raises(ConfigError, match=r"planner\.options\.framez: unknown key.*Did you mean 'frames'"):
        plugin_options("planner", "oracle", {"framez": 3}, where="planner.options")
    with pytest.raises(ConfigError, match=r"frames: .*found 1\."):
        plugin_options("planner", "oracle", {"frames": 1})


def test_a_third_party_stage_that_fails_to_build_becomes_one_error(tmp_path, monkeypatch):
    code = (
        "from cascade.contracts import PluginConfig, PluginSpec\n"
        "def build(config):\n    raise RuntimeError('no camera driver')\n"
        "FAILS = PluginSpec('fails', PluginConfig, build)\n"
    )
    install(tmp_path, "cascade-fails", "[cascade.planners]\nfails = cascade_fails:FAILS\n", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"'fails': cannot be built \(RuntimeError: no camera driver\)"):
        build_plugin("planner", "fails")
