"""The doctor tells a fit machine from an unfit one, and says what to repair."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cascade import doctor
from cascade.doctor import Check, Status


def weights(package: Path, *, digest: bool = True) -> Path:
    folder = package / "weights" / "one"
    folder.mkdir(parents=True)
    save_file({"w": np.ones(3, np.float32)}, folder / "net.safetensors")
    if digest:
        sums = hashlib.sha256((folder / "net.safetensors").read_bytes()).hexdigest()
        (folder / "SHA256SUMS").write_text(f"{sums}  net.safetensors\n")
    return folder / "net.safetensors"


def status_of(package: Path) -> Check:
    (check,) = doctor.check_weights([package])
    return check


def test_weights_that_match_their_digests_are_fine(tmp_path: Path) -> None:
    weights(tmp_path)

    assert status_of(tmp_path).status is Status.OK


def test_altered_weights_fail(tmp_path: Path) -> None:
    file = weights(tmp_path)
    save_file({"w": np.zeros(3, np.float32)}, file)

    assert status_of(tmp_path).status is Status.FAIL
    assert "SHA256SUMS" in status_of(tmp_path).found


def test_a_file_that_went_missing_fails(tmp_path: Path) -> None:
    weights(tmp_path).rename(tmp_path / "elsewhere.safetensors")

    assert status_of(tmp_path).status is Status.FAIL


def test_a_stub_instead_of_weights_fails(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")

    assert status_of(tmp_path).status is Status.FAIL
    assert "unreadable" in status_of(tmp_path).found


def test_weights_without_a_digest_are_a_warning(tmp_path: Path) -> None:
    weights(tmp_path, digest=False)

    assert status_of(tmp_path).status is Status.WARN


def test_a_package_without_weights_fails(tmp_path: Path) -> None:
    assert status_of(tmp_path).status is Status.FAIL


def test_a_missing_or_too_old_package_is_named() -> None:
    assert doctor.check_requirements(["numpy>=2"]).status is Status.OK

    check = doctor.check_requirements(["numpy<1", "no-such-package-here", "torch; extra == 'x'"])

    assert check.status is Status.FAIL
    assert "numpy" in check.found
    assert "no-such-package-here is missing" in check.found


def test_a_stray_module_that_hides_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "planner.py").write_text("")
    command = "from cascade.doctor import check_sources; c = check_sources(); print(c.status.value, c.found)"

    done = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, env={"PYTHONPATH": "."}, capture_output=True, text=True
    )

    assert done.stdout.startswith("fail"), done.stderr
    assert "planner.py" in done.stdout


def test_our_packages_come_from_one_place() -> None:
    assert doctor.check_sources().status is Status.OK


def test_the_codec_works() -> None:
    assert doctor.check_codec().status is Status.OK


def test_a_runs_folder_that_cannot_be_written_fails() -> None:
    assert doctor.check_runs_folder(Path("/proc/1/runs")).status is Status.FAIL


def test_a_check_that_breaks_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Check:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(doctor, "check_codec", broken)
    monkeypatch.setattr(doctor, "check_renderer", lambda: Check("renderer", Status.OK, ""))

    codec = next(check for check in doctor.examine() if check.name == "codec")

    assert codec.status is Status.FAIL
    assert "out of luck" in codec.found


def test_the_worst_status_decides() -> None:
    def checks(*statuses: Status) -> list[Check]:
        return [Check("x", status, "") for status in statuses]

    assert doctor.worst(checks(Status.OK, Status.WARN)) is Status.WARN
    assert doctor.worst(checks(Status.FAIL, Status.WARN, Status.OK)) is Status.FAIL
    assert doctor.worst(checks(Status.OK)) is Status.OK


def test_the_command_answers_in_json_and_by_its_exit_code(tmp_path: Path) -> None:
    command = "import sys, typer; from cascade.cli.doctor import doctor; typer.run(doctor)"

    done = subprocess.run(
        [sys.executable, "-c", command, "--json", "--runs", "/proc/1/runs"], capture_output=True, text=True
    )

    document = json.loads(done.stdout)
    assert done.returncode == 3
    assert document["status"] == "fail"
    assert {"python", "codec", "renderer", "disk"} <= {check["name"] for check in document["checks"]}
    failed = [check for check in document["checks"] if check["status"] == "fail"]
    assert all(check["fix"] for check in failed)
