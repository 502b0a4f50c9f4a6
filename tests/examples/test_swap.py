"""Third-party stages are installed with pip, listed, checked and run, and nothing of ours changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = {"planner": ("pan", "cascade-pan-planner"), "extractor": ("centroid", "cascade-centroid-extractor")}
MOST_LINES = 60


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    packages = [str(ROOT / "examples" / package) for _, package in EXAMPLES.values()]
    done = subprocess.run([*command, "--target", str(target), *packages], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def cascade(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [str(Path(sys.executable).parent / "cascade"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def in_python(site: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("name", "package"), EXAMPLES.values())
def test_an_example_is_one_short_module(name: str, package: str) -> None:
    (module,) = (ROOT / "examples" / package).glob("*.py")

    assert len(module.read_text().splitlines()) <= MOST_LINES


def test_installed_examples_are_listed_beside_ours(site: Path, tmp_path: Path) -> None:
    done = cascade(site, tmp_path, "plugins", "--json")

    assert done.returncode == 0, done.stderr
    listed = json.dumps(json.loads(done.stdout))
    for name, package in EXAMPLES.values():
        assert f'"{name}"' in listed
        assert f'"{package}"' in listed
    assert '"embedded"' in listed


def test_installed_examples_keep_the_contract(site: Path) -> None:
    done = in_python(
        site,
        """
from cascade.plugins import build_plugin, load_plugin
from cascade.testing import check_extractor, check_planner, check_plugin_spec, tabletop_observation
for group, name in (("planner", "pan"), ("extractor", "centroid")):
    check_plugin_spec(load_plugin(group, name))
observation = tabletop_observation()
plan = check_planner(build_plugin("planner", "pan"), observation, "go left")
chunk = check_extractor(build_plugin("extractor", "centroid"), plan, observation)
print(chunk.values[-1, 0] - observation.arm.position_m[0])
""",
    )

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < -0.05  # "left" moved the target to the left, by centimetres


def test_installed_examples_run_in_place_of_ours(site: Path, tmp_path: Path) -> None:
    swap = ["--set", "planner.name=pan", "--set", "extractor.name=centroid", "--set", "execution.replans=0"]

    done = cascade(site, tmp_path, "run", "go left", "--task", "door-open", "--seed", "7", *swap, "--json")

    document = json.loads(done.stdout)
    assert done.returncode in (0, 6), done.stderr  # it need not open the door, but it must get as far as moving
    assert document["steps"] > 0
    resolved = (Path(tmp_path) / document["run"] / "config.yaml").read_text()
    assert "name: pan" in resolved
    assert "name: centroid" in resolved
