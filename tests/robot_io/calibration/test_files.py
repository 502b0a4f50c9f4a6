from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cascade.contracts import CameraImage, DataError
from robot_io.calibration.files import (
    CalibrationError,
    CameraCalibration,
    ForeignCalibrationError,
    from_opencv,
    load_calibration,
    placed,
    save_calibration,
    to_opencv,
)
from robot_io.cameras.config import SyntheticConfig
from robot_io.cameras.plugins import SYNTHETIC

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
K = np.array([[300.0, 0, 160], [0, 301, 120], [0, 0, 1]])


def rigid(xyz=(0.4, -0.1, 0.6), turn=(0.3, 0.2, -1.0)):
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec(turn).as_matrix(), xyz
    return T


def calibration(**changes):
    values = {"serial": "SYNTHETIC-0", "date": NOW, "image_size_px": (320, 240), "K": K, "arm": "ur5e"}
    return CameraCalibration(**values | changes)


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-3, 3)] * 3), st.booleans())
def test_what_is_saved_is_loaded_again(tmp_path_factory, xyz, turn, on_hand):
    pose = {"T_ee_cam" if on_hand else "T_base_cam": rigid(xyz, turn)}
    before = calibration(
        **pose, distortion=(0.1, -0.2, 0.0, 0.0, 0.0), residual_m=0.001, residual_rad=0.002, latency_s=0.03
    )
    path = save_calibration(tmp_path_factory.mktemp("files") / "new" / "front.yaml", before)
    after = load_calibration(path, serial="SYNTHETIC-0", arm="ur5e", max_age=timedelta(days=1), now=NOW)
    assert after.kind == ("eye-in-hand" if on_hand else "eye-to-hand")
    assert np.allclose(after.K, K)
    for name, value in pose.items():
        assert np.allclose(getattr(after, name), value)
    assert (after.distortion, after.latency_s, after.date) == (before.distortion, 0.03, NOW)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(CalibrationError, match=r"found none.*cascade calibrate hand-eye"):
        load_calibration(tmp_path / "none.yaml")


def test_a_stale_file_is_refused_and_a_fresh_one_is_not(tmp_path):
    path = save_calibration(tmp_path / "a.yaml", calibration())
    load_calibration(path, max_age=timedelta(days=30), now=NOW + timedelta(days=29))
    with pytest.raises(CalibrationError, match="of the last 30 days, found one of 31 days ago"):
        load_calibration(path, max_age=timedelta(days=30), now=NOW + timedelta(days=31))
    load_calibration(path, now=NOW + timedelta(days=10_000))
    with pytest.raises(CalibrationError, match="in the future"):
        load_calibration(path, now=NOW - timedelta(hours=1))


def test_a_file_of_another_camera_or_arm_is_refused(tmp_path):
    path = save_calibration(tmp_path / "a.yaml", calibration(T_base_cam=rigid()))
    with pytest.raises(ForeignCalibrationError, match="expected camera '77', found one of camera 'SYNTHETIC-0'"):
        load_calibration(path, serial="77", now=NOW)
    with pytest.raises(ForeignCalibrationError, match="expected arm 'xarm7', found one of arm 'ur5e'"):
        load_calibration(path, arm="xarm7", now=NOW)
    lens = save_calibration(tmp_path / "b.yaml", calibration())
    load_calibration(lens, arm="xarm7", now=NOW)  # a lens is the same on every arm


@pytest.mark.parametrize(
    "change",
    [
        {"K": [[1, 0], [0, 1]]},
        {"camera_serial": None},
        {"schema_version": 9},
        {"T_base_cam": [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
        {"colour": "blue"},
        {"latency_s": 7.0},
        {"date": "soon"},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    path = save_calibration(tmp_path / "a.yaml", calibration())
    values = yaml.safe_load(path.read_text()) | change
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(CalibrationError, match="cascade calibrate"):
        load_calibration(path, now=NOW)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "{a: [", "\x00\x01"])
def test_what_is_no_calibration_is_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(CalibrationError):
        load_calibration(path)


def test_both_poses_at_once_make_no_sense():
    with pytest.raises(DataError, match="found both poses"):
        calibration(T_base_cam=rigid(), T_ee_cam=rigid())


def test_a_camera_on_the_hand_is_placed_by_the_hand():
    image = CameraImage(rgb=np.zeros((2, 2, 3), np.uint8), K=K, stamp_s=0.0)
    hand, mounted = rigid((0.5, 0, 0.3)), rigid((0, 0.05, 0.02), (0, 0.1, 0))
    assert np.allclose(placed(image, calibration(T_ee_cam=mounted), hand).T_base_cam, hand @ mounted)
    assert np.allclose(placed(image, calibration(T_base_cam=mounted), hand).T_base_cam, mounted)
    assert placed(image, calibration(T_ee_cam=mounted), None).T_base_cam is None
    assert placed(image, calibration(), hand).T_base_cam is None
    assert placed(image, None, hand).T_base_cam is None


def camera(path, **more):
    return SYNTHETIC.build(SyntheticConfig(calibration=path, **more))


def test_a_calibrated_camera_carries_its_place_lens_and_delay(tmp_path):
    today = datetime.now(UTC)
    path = save_calibration(tmp_path / "a.yaml", calibration(T_base_cam=rigid(), date=today, latency_s=0.2))
    device = camera(path)
    assert device.provides_extrinsics
    with device:
        image = device.read(max_age_s=2.0)
        assert np.allclose(image.T_base_cam, rigid())
        assert np.allclose(image.K, K)
        assert device.health().calibration == "eye-to-hand"
        assert device.health().age_s > 0.19  # the delay is taken off the stamps
        assert device.calibration_problem is None


@pytest.mark.parametrize(
    ("changes", "more", "words"),
    [
        ({"date": NOW - timedelta(days=900)}, {}, "days ago"),
        ({"serial": "77"}, {}, "found one of camera '77'"),
        ({"image_size_px": (640, 480)}, {}, "640 x 480"),
        ({"K": np.diag([1.5, 1.5, 1]) @ K}, {}, "focal length"),
    ],
)
def test_a_camera_goes_without_a_calibration_that_must_not_be_used(tmp_path, changes, more, words):
    values = {"T_base_cam": rigid(), "date": datetime.now(UTC)} | changes
    device = camera(save_calibration(tmp_path / "a.yaml", calibration(**values)), **more)
    with device:
        assert device.read(max_age_s=2.0).T_base_cam is None
        assert not device.provides_extrinsics
        assert words in device.calibration_problem.problem
        assert device.calibration_problem.fix
        assert "refused" in device.health().calibration


def test_a_missing_file_shows_before_the_camera_is_open(tmp_path):
    device = camera(tmp_path / "none.yaml")
    assert not device.provides_extrinsics
    assert "found none" in device.calibration_problem.problem


def test_a_pose_measured_with_another_arm_is_refused_and_the_lens_kept_out_too(tmp_path):
    path = save_calibration(tmp_path / "a.yaml", calibration(T_base_cam=rigid(), date=datetime.now(UTC)))
    device = camera(path)
    device.bind_arm("ur5e")
    assert device.provides_extrinsics
    device.bind_arm("xarm7")
    assert not device.provides_extrinsics
    assert "xarm7" in device.calibration_problem.problem


def test_pixel_centres_are_half_a_pixel_apart_from_opencvs():
    assert np.allclose(to_opencv(K)[:2, 2], [159.5, 119.5])
    assert np.allclose(from_opencv(to_opencv(K)), K)
