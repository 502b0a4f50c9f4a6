"""Listing commands and plug-ins loads no heavy library, so that `cascade --help` answers at once."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "cv2", "mujoco", "metaworld", "diffusers", "matplotlib", "gymnasium", "pyarrow", "av", "scipy")
REPORT = f"import sys; print('heavy:', *[name for name in {HEAVY!r} if name in sys.modules])"


def loaded_after(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{REPORT}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("heavy:")[2].split()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["plugins", "--help"], ["eval", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from cascade.cli.app import main
sys.argv = ["cascade", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded_after(code) == []


@pytest.mark.parametrize(
    "module", ["planner.plugins", "idm.plugins", "flowact.plugins", "robot_io.sim.plugins", "cascade.testing"]
)
def test_a_module_of_plugins_loads_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import {module}") == []


@pytest.mark.parametrize("package", ["planner", "idm", "flowact", "robot_io"])
def test_a_stage_loads_of_cascade_only_its_contracts(package: str) -> None:
    code = f"""
import sys, {package}
others = [name for name in sys.modules if name.startswith("cascade.") and not name.startswith("cascade.contracts")]
assert not others, others
"""
    assert loaded_after(code) == []
