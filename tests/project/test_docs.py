"""What README and docs show is true: commands exist, links lead somewhere, snippets run or are quoted verbatim."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cascade.cli.app import COMMANDS, _load
from cascade.config import RecipeConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
QUOTES = {
    "add-a-planner.md": ROOT / "examples" / "cascade-pan-planner",
    "add-an-extractor.md": ROOT / "examples" / "cascade-centroid-extractor",
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
        inline = re.findall(r"`(cascade [a-z][^`\n]*)`", page.read_text())
        for line in [*lines, *inline]:
            if line.startswith("cascade ") and line != "--control wrong":
                yield page.name, line


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_every_command_shown_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    assert words[0] in COMMANDS, line
    module, attribute, _ = COMMANDS[words[0]]
    command = _load(module, attribute, words[0])
    rest = words[1:]
    while hasattr(command, "commands") and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}

    assert {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)} - known == set()


def make_targets() -> list[str]:
    return sorted({name for page in PAGES for name in re.findall(r"\bmake ([a-z-]+)\b(?=`|  |$)", page.read_text())})


@pytest.mark.parametrize("name", [*make_targets(), "demo", "test"])
def test_every_make_target_shown_exists(name: str) -> None:
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_tree_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())

    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize(("name", "example"), QUOTES.items())
def test_snippets_of_a_guide_are_quoted_from_its_example(name: str, example: Path) -> None:
    page = ROOT / "docs" / name
    (module,) = example.glob("*.py")
    sources = {"python": module.read_text(), "toml": (example / "pyproject.toml").read_text()}

    for language, source in sources.items():
        assert blocks(page, language)
        for block in blocks(page, language):
            assert block.rstrip("\n") in source


def test_the_recipe_in_the_readme_is_valid() -> None:
    (recipe,) = blocks(ROOT / "README.md", "yaml")

    assert RecipeConfig.model_validate(yaml.safe_load(recipe)).planner.name == "pan"


def test_the_readme_names_every_packaged_recipe() -> None:
    names = {path.stem for path in (ROOT / "configs" / "recipes").glob("*.yaml")}

    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)) >= names


@pytest.mark.slow
def test_the_python_in_the_readme_runs(tmp_path: Path) -> None:
    (code,) = blocks(ROOT / "README.md", "python")

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).name == "report.html"
    assert (tmp_path / done.stdout.splitlines()[-1]).stat().st_size > 10_000
    assert len(code.strip().splitlines()) <= 10
