"""The wheel holds the five packages with their weights, rigs and recipes, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"planner", "idm", "flowact", "robot_io", "cascade"}
MOST_BYTES = 60e6


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < MOST_BYTES
    return zipfile.ZipFile(wheel).namelist()


def test_it_holds_the_five_packages_and_nothing_else(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_every_module_travels(names: list[str]) -> None:
    ours = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}

    assert ours - set(names) == set()


def test_rigs_and_recipes_travel(names: list[str]) -> None:
    wanted = {f"cascade/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}

    assert wanted
    assert wanted - set(names) == set()


@pytest.mark.parametrize("package", ["planner", "idm"])
def test_weights_travel_with_their_card_and_digests(names: list[str], package: str) -> None:
    inside = [name for name in names if name.startswith(f"{package}/weights/")]

    assert any(name.endswith(".safetensors") for name in inside)
    assert any(name.endswith("MODEL_CARD.md") for name in inside)
    assert any(name.endswith("SHA256SUMS") for name in inside)


def test_type_marks_and_licence_travel(names: list[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert any(name.endswith("/LICENSE") for name in names)
