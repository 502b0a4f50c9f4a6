"""The tree keeps the traps of five generic package names shut, and modules short."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("planner", "idm", "flowact", "robot_io", "cascade")
MOST_LINES = 500  # most are under 300; past this one, split


def tracked(pattern: str) -> list[Path]:
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
        )
        files = [ROOT / name for name in listed.stdout.splitlines()]
        return [path for path in files if path.match(pattern) and path.is_file()]
    return [path for folder in (*PACKAGES, "tests", "benchmarks") for path in (ROOT / folder).rglob(pattern)]


def test_no_test_folder_is_a_package() -> None:
    # tests/planner/__init__.py would hide the real planner.
    assert [path for path in tracked("__init__.py") if "tests" in path.relative_to(ROOT).parts] == []


def test_no_module_lies_in_the_root() -> None:
    # A planner.py here would win over the package under `python -m`.
    assert list(ROOT.glob("*.py")) == []


def test_modules_stay_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in tracked("*.py")}

    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed_and_says_what_it_is(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert (ROOT / package / "__init__.py").read_text().startswith('"""')


def test_module_names_say_what_is_inside() -> None:
    vague = {"utils", "helpers", "misc", "base", "common", "util"}
    ours = [path for path in tracked("*.py") if path.relative_to(ROOT).parts[0] in PACKAGES]

    assert [path for path in ours if path.stem in vague or path.parent.name in vague] == []
