"""The dependency rule of pyproject.toml catches every breach it names, tried on a toy copy of the tree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TREE = {
    "cascade/__init__.py": "",
    "cascade/contracts/__init__.py": "from cascade.contracts import records\n",
    "cascade/contracts/records.py": "X = 1\n",
    "cascade/runtime.py": "from cascade.contracts import records\n",
    "cascade/cli/__init__.py": "",
    "cascade/cli/app.py": "from cascade import runtime\n",
    "planner/__init__.py": "",
    "planner/plugins.py": "from cascade.contracts import records\nimport cascade.contracts.records\n",
    "idm/__init__.py": "import cascade.contracts\n",
    "idm/deep/__init__.py": "",
    "idm/deep/network.py": "from cascade.contracts.records import X\n",
    "flowact/__init__.py": "",
    "robot_io/__init__.py": "",
    "robot_io/sim/__init__.py": "",
    "robot_io/sim/plugins.py": "from cascade import contracts\n",
}

STAGES_APART = "The four stages do not know each other"
ONLY_CONTRACTS = "Stages import of cascade only its contracts"
LEAF = "Contracts import nothing of ours"
ENTRY_POINTS = "cascade reaches implementations only through entry points"


def lint(folder: Path, changes: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Run lint-imports over the toy tree with `changes` appended; returns its exit code and verdict per contract."""
    for name, text in TREE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + changes.get(name, ""))
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    command += ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)
    verdicts = {name: verdict for name, verdict in re.findall(r"^(.+) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE)}
    assert verdicts, done.stdout + done.stderr
    return done.returncode, verdicts


def test_a_tree_that_follows_the_rule_is_accepted(tmp_path: Path) -> None:
    code, verdicts = lint(tmp_path, {})

    assert verdicts == dict.fromkeys((STAGES_APART, ONLY_CONTRACTS, LEAF, ENTRY_POINTS), "KEPT")
    assert code == 0


@pytest.mark.parametrize(
    ("module", "breach", "contract"),
    [
        ("planner/plugins.py", "import idm\n", STAGES_APART),
        ("idm/deep/network.py", "from robot_io.sim import plugins\n", STAGES_APART),
        ("robot_io/sim/plugins.py", "def build():\n    from flowact import x\n", STAGES_APART),
        ("planner/__init__.py", "from cascade import runtime\n", ONLY_CONTRACTS),
        ("idm/deep/network.py", "import cascade.runtime\n", ONLY_CONTRACTS),
        ("flowact/__init__.py", "def f():\n    from cascade.cli.app import x\n", ONLY_CONTRACTS),
        ("robot_io/__init__.py", "import cascade\n", ONLY_CONTRACTS),
        ("cascade/contracts/records.py", "import cascade.runtime\n", LEAF),
        ("cascade/contracts/records.py", "from cascade.cli import app\n", LEAF),
        ("cascade/contracts/__init__.py", "import planner\n", LEAF),
        ("cascade/runtime.py", "import planner.plugins\n", ENTRY_POINTS),
        ("cascade/cli/app.py", "def run():\n    from robot_io.sim import plugins\n", ENTRY_POINTS),
    ],
)
def test_a_breach_is_reported_under_its_rule(tmp_path: Path, module: str, breach: str, contract: str) -> None:
    code, verdicts = lint(tmp_path, {module: breach})

    assert verdicts[contract] == "BROKEN"
    assert code == 1
