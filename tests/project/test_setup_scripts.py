"""The set-up scripts install what is missing when they may, and otherwise say the one line to run."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / ".ci"
LINE = "sudo apt-get update && sudo apt-get install -y --no-install-recommends libgl1"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH on which Debian's commands are stand-ins that only tell what they were asked."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("bash", "env", "cat", "dirname"):
        real = next(path for folder in os.environ["PATH"].split(":") if (path := Path(folder, name)).exists())
        (commands / name).symlink_to(real)
    return commands


def command(machine: Path, name: str, text: str) -> None:
    (machine / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (machine / name).chmod(0o755)


def debian(machine: Path, *, installed: str = "", user: int = 0, sudo: bool = False, apt_works: bool = True) -> None:
    known = (
        f'for word in "$@"; do case " {installed} " in *" $word "*) echo "install ok installed";; esac; done; exit 1'
    )
    command(machine, "dpkg-query", known)
    log = machine.parent / "apt.log"
    command(machine, "apt-get", f'echo "$*" >> {log}; exit {0 if apt_works else 100}')
    command(machine, "id", f"echo {user}")
    if sudo:
        command(machine, "sudo", '[ "$1" = -n ] || exit 1; shift; exec "$@"')
        command(machine, "true", "exit 0")


def packages(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(SCRIPTS / "system-packages")
    return subprocess.run(
        [script, *arguments], env={"PATH": str(machine)}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def asked_of_apt(machine: Path) -> str:
    log = machine.parent / "apt.log"
    return log.read_text() if log.exists() else ""


@pytest.mark.parametrize("name", ["libgl1", "libgl1t64"])
def test_nothing_is_done_when_all_is_there(machine: Path, name: str) -> None:
    debian(machine, installed=name)

    assert packages(machine, "libgl1").returncode == 0
    assert asked_of_apt(machine) == ""


@pytest.mark.parametrize("rights", [{"user": 0}, {"user": 1000, "sudo": True}])
def test_only_what_is_missing_is_installed(machine: Path, rights: dict[str, int]) -> None:
    debian(machine, installed="libglib2.0-0", **rights)  # type: ignore[arg-type]

    done = packages(machine, "libgl1", "libglib2.0-0")

    assert done.returncode == 0, done.stderr
    assert "update" in asked_of_apt(machine)
    assert asked_of_apt(machine).rstrip().endswith("--no-install-recommends libgl1")


def test_without_rights_the_one_line_is_said(machine: Path) -> None:
    debian(machine, user=1000)

    done = packages(machine, "libgl1")

    assert done.returncode == 1
    assert LINE in done.stderr
    assert asked_of_apt(machine) == ""


def test_offline_the_one_line_is_said(machine: Path) -> None:
    debian(machine, apt_works=False)

    done = packages(machine, "libgl1")

    assert done.returncode == 1
    assert LINE in done.stderr


def test_what_is_optional_never_stops_the_set_up(machine: Path) -> None:
    debian(machine, user=1000)

    done = packages(machine, "--optional", "libgl1")

    assert done.returncode == 0
    assert LINE in done.stderr


def test_other_systems_are_left_alone(machine: Path) -> None:
    assert packages(machine, "libgl1").returncode == 0


def test_a_python_that_does_not_start_is_passed_over(machine: Path) -> None:
    command(machine, "python3.11", "exit 127")
    command(machine, "python3.12", "exit 0")

    done = subprocess.run([str(SCRIPTS / "find-python")], env={"PATH": str(machine)}, capture_output=True, text=True)

    assert done.stdout.strip() == "python3.12"


def test_without_any_python_the_remedy_is_said(machine: Path) -> None:
    done = subprocess.run([str(SCRIPTS / "find-python")], env={"PATH": str(machine)}, capture_output=True, text=True)

    assert done.returncode == 1
    assert "python3-venv" in done.stderr


def test_a_python_without_ensurepip_gets_its_package(machine: Path) -> None:
    debian(machine)
    fixed = machine.parent / "apt.log"
    command(machine, "python3.11", f'case "$2" in *ensurepip*) [ -e {fixed} ];; *) exit 0;; esac')

    done = subprocess.run([str(SCRIPTS / "find-python")], env={"PATH": str(machine)}, capture_output=True, text=True)

    assert done.stdout.strip() == "python3.11", done.stderr
    assert "python3-venv" in asked_of_apt(machine)
