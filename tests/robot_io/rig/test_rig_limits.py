"""Limits of a rig's file are complete, inside the built-in caps, and free of contradiction; else the key is named."""

from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from cascade.compose import compose, with_task
from cascade.contracts import ConfigError
from cascade.plugins import build_plugin, plugin_options
from robot_io.calibration.files import CameraCalibration, save_calibration

FILE = Path(__file__).parents[3] / "configs" / "rigs" / "ur5e-loopback.yaml"
REQUIRED = (
    "workspace_m",
    "keep_outs_m",
    "tool_radius_m",
    "max_speed_m_s",
    "max_acceleration_m_s2",
    "max_jerk_m_s3",
    "max_angular_speed_rad_s",
    "max_angular_acceleration_rad_s2",
    "max_angular_jerk_rad_s3",
    "max_step_m",
    "max_rotation_rad",
    "max_force_n",
    "max_torque_nm",
    "max_tracking_error_m",
    "max_tracking_error_rad",
)


def options(**limits):
    described = yaml.safe_load(FILE.read_text())
    return {"name": "x", "limits": {**described["limits"], **limits}, **deepcopy(described["options"])}


def check(given):
    return plugin_options("rig", "real", given, where="rig.options")


def test_the_file_is_complete():
    limits = check(options()).limits.record()
    assert limits.max_speed_m_s == 0.25
    assert limits.workspace_m.shape == (2, 3)


def test_a_rig_without_limits_is_refused():
    given = options()
    del given["limits"]
    with pytest.raises(ConfigError, match=r"rig\.options\.limits: required"):
        check(given)


@pytest.mark.parametrize("key", REQUIRED)
def test_every_limit_has_to_be_stated(key):
    given = options()
    del given["limits"][key]
    with pytest.raises(ConfigError, match=rf"rig\.options\.limits\.{key}: required"):
        check(given)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_speed_m_s", 1.01),
        ("max_angular_speed_rad_s", 1.6),
        ("max_acceleration_m_s2", 5.1),
        ("max_jerk_m_s3", 101.0),
        ("max_step_m", 0.3),
        ("max_tracking_error_m", 0.2),
        ("max_speed_m_s", 0.0),
        ("max_speed_m_s", float("nan")),
        ("max_step_m", -0.1),
        ("max_force_n", 0.0),
    ],
)
def test_a_limit_beyond_its_cap_or_no_limit_at_all_is_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=rf"rig\.options\.limits\.{key}: "):
        check(options(**{key: value}))


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"workspace_m": [[0.4, 0.4, 0.0], [-0.4, 0.9, 0.4]]}, "workspace_m"),
        ({"workspace_m": [[0.0, 0.0, 0.0], [0.05, 0.5, 0.5]]}, "workspace_m"),
        ({"tool_radius_m": 0.25}, "workspace_m"),
        ({"keep_outs_m": [[[-1, -1, -1], [1, 2, 1]]]}, "keep_outs_m.0"),
        ({"keep_outs_m": [[[1, 1, 1], [0, 0, 0]]]}, "keep_outs_m"),
        ({"workspace_m": [[0, 0, 0], [0.1, 0.1, 0.1]], "max_step_m": 0.2}, "max_step_m"),
        ({"max_speed_m_s": 1.0, "max_acceleration_m_s2": 0.5}, "max_acceleration_m_s2"),
    ],
)
def test_limits_against_each_other_are_refused_by_name(limits, named):
    with pytest.raises(ConfigError, match=named):
        check(options(**limits))


def test_a_misspelt_limit_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'max_speed_m_s'"):
        check(options(max_sped_m_s=0.1))


def test_the_speed_share_scales_the_caps_and_never_raises_them():
    given = options()
    rig = build_plugin("rig", "real", {**given, "speed": 0.1})
    assert rig.arm.spec.limits.max_speed_m_s == pytest.approx(0.025)
    assert rig.arm.spec.limits.max_angular_speed_rad_s == pytest.approx(0.05)
    with pytest.raises(ConfigError, match="speed"):
        check({**given, "speed": 1.5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loopback": None, "arm": {"plugin": "ur", "options": {"host": "192.168.1.10"}}}, "scene"),
        ({"scene": None}, "scene"),
        ({"mount": {"rpy_deg": [0, 0, 30]}}, "multiples of 90"),
        ({"home": {"xyz_m": [0, 0.6, 0.2]}}, "home"),
        ({"cameras": {}}, "cameras"),
    ],
)
def test_a_rig_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        check({**options(), **change})


def test_unknown_arms_cameras_and_emulations_are_named_with_a_suggestion():
    given = options()
    given["arm"]["plugin"] = "urr"
    with pytest.raises(Exception, match="Did you mean 'ur'"):
        build_plugin("rig", "real", given)
    with pytest.raises(ConfigError, match="Did you mean 'ur5e'"):
        build_plugin("rig", "real", {**options(), "loopback": "ur5"})
    given = options()
    given["cameras"]["side"] = {"plugin": "realsens"}
    with pytest.raises(Exception, match="Did you mean 'realsense'"):
        build_plugin("rig", "real", given)


def test_an_address_beside_an_emulated_controller_is_refused():
    given = options()
    given["arm"]["options"]["host"] = "192.168.1.10"
    with pytest.raises(ConfigError, match="host"):
        build_plugin("rig", "real", given)


def test_only_a_rig_without_emulation_is_hardware():
    assert build_plugin("rig", "real", options()).hardware is None
    given = {**options(), "loopback": None, "scene": None, "cameras": {"front": {"plugin": "synthetic"}}}
    given["arm"]["options"]["host"] = "192.168.1.10"
    hardware = build_plugin("rig", "real", given).hardware
    assert (hardware.arm, hardware.address) == ("ur ur5e", "192.168.1.10")


@pytest.mark.parametrize(("owner", "known"), [("ur5e", True), ("xarm7", False)])
def test_where_a_camera_stands_counts_only_when_it_was_measured_with_this_arm(tmp_path, owner, known):
    path = save_calibration(
        tmp_path / "front.yaml",
        CameraCalibration(
            serial="SYNTHETIC-0",
            date=datetime.now(UTC),
            image_size_px=(320, 240),
            K=np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]),
            T_base_cam=np.eye(4),
            residual_m=0.001,
            residual_rad=0.002,
            arm=owner,
        ),
    )
    given = options()
    del given["scene"]
    given["cameras"] = {"front": {"plugin": "synthetic", "options": {"calibration": str(path)}}}

    rig = build_plugin("rig", "real", given)

    assert rig.provides.extrinsics is known
    problem = rig.cameras["front"].calibration_problem
    assert known or "expected arm 'ur5e', found one of arm 'xarm7'" in str(problem)


def test_a_table_that_nothing_judges_needs_no_task():
    given = options()
    del given["scene"]
    given["cameras"] = {"corner": {"plugin": "synthetic"}}
    run, _ = compose(instruction="tidy up", task=None, seed=0, rig="ur5e-loopback", recipe="unipi")

    assert with_task(run, build_plugin("rig", "real", given)).task is None
    with pytest.raises(ConfigError, match="cannot tell which of its scenes is meant"):
        with_task(run, build_plugin("rig", "real", options()))
