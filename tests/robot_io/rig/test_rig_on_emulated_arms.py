"""Rigs on emulated controllers: the vendor's client, the arm process, permission, homing, the simulated table."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from cascade.checks import Status
from cascade.contracts import ArmMode, DeviceError
from cascade.contracts.hardware import HardwareRig
from cascade.plugins import build_plugin
from cascade.rig_checks import check_rig
from robot_io.loopback.ur import URLoopback
from robot_io.process.models import arm_model

RIGS = Path(__file__).parents[3] / "configs" / "rigs"
CASCADE = [sys.executable, "-c", "from cascade.cli.app import main; main()"]
BUSY = {"silence_s": 0.5}  # test machines are no real-time machines


def described(name):
    return yaml.safe_load((RIGS / f"{name}.yaml").read_text())


@pytest.fixture(scope="module")
def controller():
    with URLoopback("ur5e", watchdog_slack_s=2.0) as running:
        running.place(arm_model("ur5e").rest_q.tolist())
        yield running


@pytest.fixture
def real(controller):
    """The rig of a UR5e that looks real to everything above: nothing says that its address is emulated."""
    given = described("ur5e-loopback")
    options = {key: value for key, value in given["options"].items() if key not in ("loopback", "scene", "cameras")}
    options["arm"]["options"]["gripper"] = "none"
    options["arm"]["options"] |= {"host": controller.address, **BUSY}
    limits = {**given["limits"], "max_tracking_error_m": 0.1, "max_tracking_error_rad": 0.5}
    return build_plugin(
        "rig",
        "real",
        {
            "name": "table",
            "limits": limits,
            **options,
            "target_ttl_s": 0.5,
            "cameras": {"front": {"plugin": "synthetic"}},
            "home": {"xyz_m": [0.05, 0.6, 0.25], "rpy_deg": [0, 90, 0]},
        },
    )


def test_without_permission_a_real_arm_is_read_and_neither_armed_nor_moved(real, controller):
    assert isinstance(real, HardwareRig)
    assert real.hardware.address == controller.address
    assert "0.05, 0.60, 0.25" in real.hardware.home
    before = controller.state()["q"]
    with real:
        seen = real.observe()
        assert set(seen.images) == {"front"}
        np.testing.assert_allclose(seen.arm.position_m, [0.0, 0.61, 0.32], atol=0.01)
        real.reset(task=None, seed=0)
        with pytest.raises(DeviceError, match="not permitted"):
            real.ready()
        assert real.arm.read().mode is ArmMode.IDLE
    assert controller.state()["q"] == before
    assert controller.setpoints() == []


def test_with_permission_it_goes_home_inside_its_speed_cap_and_holds(real, controller):
    real.permit_motion()
    with real:
        real.reset(task=None, seed=0)
        np.testing.assert_allclose(real.arm.read().position_m, [0.05, 0.6, 0.25], atol=0.006)
    path = np.array([row[1:4] for row in controller.trace()])[::25]  # the emulated world has one row every 2 ms
    way = np.linalg.norm(np.diff(path, axis=0), axis=1)
    speed = way[np.abs(way - 0.17) > 1e-3] / 0.05  # without the moment in which the driver sets the tool's centre point
    assert speed.max() < 1.3 * real.arm.spec.limits.max_speed_m_s


def test_a_dead_address_is_told_with_the_missing_step():
    given = described("ur5e-realsense")
    given["options"]["arm"]["options"]["host"] = "127.9.9.9"
    given["options"]["cameras"] = {"front": {"plugin": "synthetic"}}
    rig = build_plugin("rig", "real", {"limits": given["limits"], **given["options"]})
    with pytest.raises(DeviceError, match=r"127\.9\.9\.9"), rig:
        pass


def test_the_doctor_reads_an_emulated_rig():
    checks = {check.name: check for check in check_rig("so101-loopback")}
    assert checks["arm"].status is Status.OK
    assert "states per second" in checks["arm"].found
    assert checks["calibration front"].status is Status.WARN
    assert "hand-eye" in checks["calibration front"].fix


def test_the_doctor_names_the_key_of_a_rig_without_limits(tmp_path):
    broken = described("ur5e-loopback")
    del broken["limits"]["max_step_m"]
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(broken))
    (check,) = check_rig(str(path))
    assert check.status is Status.FAIL
    assert "max_step_m" in check.found


@contextmanager
def started(folder, *more):
    """A run as from a terminal of its own; nothing of it is left behind."""
    command = [*CASCADE, "run", "open the door", "--rig", "ur5e-loopback", "--no-report", "--json", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--runs", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as run:
        try:
            yield run
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


def events(folder):
    lines = next(folder.glob("*/events.jsonl")).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.timeout(600)
def test_the_whole_cascade_runs_on_the_emulated_ur5e_and_is_judged(tmp_path):
    with started(tmp_path) as run:
        out, err = run.communicate(timeout=500)
    assert run.returncode in (0, 6), err  # a busy machine may make a plan fail; an error it may not
    document = json.loads(out)
    assert document["success"] is not None
    assert document["steps"] > 10
    modes = {event["message"] for event in events(tmp_path) if event["kind"] == "arm"}
    assert {"idle -> armed", "armed -> moving"} <= modes


@pytest.mark.timeout(600)
def test_ctrl_c_in_motion_holds_the_arm_and_finishes_the_record(tmp_path):
    with started(tmp_path) as run:
        until = time.monotonic() + 400
        while not list(tmp_path.glob("*/trajectory.jsonl")) and time.monotonic() < until and run.poll() is None:
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to everything in the foreground
        _, err = run.communicate(timeout=150)
    assert run.returncode == 130, err
    facts = json.loads(next(tmp_path.glob("*/run.json")).read_text())
    assert (facts["status"], facts["outcome"]) == ("done", "interrupted")
    assert "the arm holds" in facts["verdict"]
