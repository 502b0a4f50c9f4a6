"""Calibrations from end to end: a camera that draws the board as the arm carries it, and folders of pictures."""

import importlib.util
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cascade.contracts import ArmMode, ArmState, CameraImage, ConfigError, DataError, Limits
from robot_io.calibration.calibrators import BoardPrinter, HandEyeCalibrator, LensCalibrator
from robot_io.calibration.config import BoardConfig, HandEyeConfig, IntrinsicsConfig, LatencyConfig
from robot_io.calibration.delay import LatencyCalibrator
from robot_io.calibration.files import CalibrationError, ForeignCalibrationError, load_calibration
from robot_io.calibration.motion import places_around, turn_deg
from robot_io.calibration.views import View, ViewSet, load_views, save_views

spec = importlib.util.spec_from_file_location("drawn_boards", Path(__file__).parent / "conftest.py")
drawn = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drawn)

CAMERA = drawn.pose((0.45, 0.0, 0.75), (np.pi, 0, 0))  # above the table, looks down
ON_HAND = drawn.pose((-0.12, -0.09, 0.02), (0, 0, 0.05))  # the board, on the back of the hand
START = drawn.pose((0.45, 0.0, 0.30), (np.pi, 0, 0))
LIMITS = Limits(
    workspace_m=np.array([[0.1, -0.5, 0.0], [0.9, 0.5, 0.8]]),
    max_speed_m_s=100.0,
    max_acceleration_m_s2=1.0,
    max_jerk_m_s3=10.0,
    max_step_m=0.2,
    max_rotation_rad=0.5,
    max_angular_speed_rad_s=100.0,
)


class DrawnRig:
    """A hand that is where it was last sent, and a camera above it that draws the board on the hand."""

    name = "drawn"
    monitor = None
    hardware = None

    def __init__(self, delay_s=0.0):
        self.pose, self.delay_s, self.opened, self.sent = START.copy(), delay_s, 0, 0
        self.history = [(time.monotonic(), START.copy())]
        self.arm = self.clock = self
        self.cameras = {"top": DrawnCamera(self)}
        self.spec = type("Spec", (), {"name": "drawn-arm", "limits": LIMITS, "control_hz": 100.0})()

    def __enter__(self):
        self.opened += 1
        return self

    def __exit__(self, *_):
        self.opened -= 1

    def read(self):
        return ArmState(
            q=np.zeros(6), T_base_ee=self.pose, gripper_opening=0.5, stamp_s=time.monotonic(), mode=ArmMode.ARMED
        )

    def send(self, target, gripper):
        self.pose = drawn.pose(target[:3], Rotation.from_quat(target[[4, 5, 6, 3]]).as_rotvec())
        self.history.append((time.monotonic(), self.pose))
        self.sent += 1
        return target

    def tick(self):
        time.sleep(0.0005 if self.delay_s == 0 else 0.01)

    def stop(self):
        pass

    def seen_at(self, when):
        """The hand as it was then."""
        return next((pose for stamp, pose in reversed(self.history) if stamp <= when), START)


class DrawnCamera:
    name = "top"

    def __init__(self, rig):
        self.rig, self.info = rig, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, *, max_age_s=0.15):
        time.sleep(0.02)
        now = time.monotonic()
        T_cam_board = np.linalg.inv(CAMERA) @ self.rig.seen_at(now - self.rig.delay_s) @ ON_HAND
        return CameraImage(rgb=drawn.draw_board(T_cam_board), K=drawn.LENS, stamp_s=now)


def off(T, wanted):
    return np.linalg.norm(T[:3, 3] - wanted[:3, 3]), turn_deg(T, wanted)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of plain pictures, as from any camera."""
    folder = tmp_path_factory.mktemp("photos")
    for n, T in enumerate(drawn.board_poses(10, 3)):
        cv2.imwrite(str(folder / f"photo{n}.png"), drawn.draw_board(T))
    cv2.imwrite(str(folder / "photo99.png"), np.full((480, 640, 3), 90, np.uint8))  # one without the board
    return folder


def test_a_lens_is_calibrated_from_a_folder_of_photos(photos, tmp_path):
    output = tmp_path / "out" / "front.yaml"
    told = LensCalibrator(IntrinsicsConfig(serial="77")).solve(photos, output)
    assert told["views"] >= 8
    assert told["residual_px"] < 0.4
    known = load_calibration(output, serial="77")
    assert np.allclose(known.K[[0, 1], [0, 1]], drawn.LENS[[0, 1], [0, 1]], rtol=0.015)
    assert known.kind == "intrinsics"
    overlay = cv2.imread(told["overlay"])
    greens = (overlay[..., 1] > 150) & (overlay[..., 0] < 80) & (overlay[..., 2] < 80)
    assert greens.sum() > 500
    json.dumps(told)


def test_photos_need_a_serial_and_a_board(photos, tmp_path):
    with pytest.raises(DataError, match="expected the serial"):
        LensCalibrator(IntrinsicsConfig()).solve(photos, tmp_path / "a.yaml")
    other = IntrinsicsConfig(serial="77", board=BoardConfig(dictionary="4x4"))
    with pytest.raises(DataError, match="found it in 0 of 11"):
        LensCalibrator(other).solve(photos, tmp_path / "a.yaml")
    with pytest.raises(DataError, match=r"0\.01 px at most"):
        LensCalibrator(IntrinsicsConfig(serial="77", max_residual_px=0.01)).solve(photos, tmp_path / "a.yaml")
    assert not (tmp_path / "a.yaml").exists()
    with pytest.raises(DataError, match="found none"):
        LensCalibrator(IntrinsicsConfig()).solve(tmp_path / "nowhere", tmp_path / "a.yaml")


def test_given_intrinsics_are_checked(tmp_path):
    views = tuple(View(rgb=drawn.draw_board(T)) for T in drawn.board_poses(7, 4))
    folder = save_views(tmp_path / "views", ViewSet(views=views, serial="1", K=drawn.LENS))
    check = LensCalibrator(IntrinsicsConfig(check=True))
    check.solve(folder, tmp_path / "a.yaml")
    assert np.allclose(load_calibration(tmp_path / "a.yaml").K, drawn.LENS)
    wrong = drawn.LENS * np.array([[1.15], [1.0], [1.0]])
    save_views(folder, ViewSet(views=views, serial="1", K=wrong))
    with pytest.raises(DataError, match="residual"):
        check.solve(folder, tmp_path / "b.yaml")


def test_views_are_saved_and_loaded_without_loss(tmp_path):
    views = (View(rgb=drawn.draw_board(drawn.board_poses(1)[0]), T_base_ee=START),)
    before = ViewSet(views=views, serial="9", arm="a", K=drawn.LENS, distortion=(0.1, 0.0, 0.0, 0.0, 0.0))
    after = load_views(save_views(tmp_path, before))
    assert np.array_equal(after.views[0].rgb, views[0].rgb)
    assert np.allclose(after.views[0].T_base_ee, START)
    assert (after.serial, after.arm, after.distortion) == ("9", "a", before.distortion)
    (tmp_path / "view-000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="found none that can be read"):
        load_views(tmp_path)


def test_the_arm_visits_places_and_the_camera_is_found(tmp_path):
    rig, lines = DrawnRig(), []
    calibrator = HandEyeCalibrator(HandEyeConfig(visit=True, views=9, speed_m_s=0.25))
    assert calibrator.moves
    calibrator.collect(rig.cameras["top"], rig, tmp_path / "views", lines.append)
    told = calibrator.solve(tmp_path / "views", tmp_path / "top.yaml")
    found = load_calibration(tmp_path / "top.yaml", serial="top", arm="drawn-arm")
    distance_m, angle_deg = off(found.T_base_cam, CAMERA)
    assert distance_m < 0.004
    assert angle_deg < 0.3
    assert told["residual_mm"] < 3
    assert Path(told["overlay"]).stat().st_size > 10_000
    assert (rig.opened, off(rig.pose, START)[0] < 1e-6) == (0, True)
    assert any("view 9 of 9" in line for line in lines)


def test_a_person_moves_the_hand_and_each_new_still_place_is_one_view(tmp_path):
    rig, places = DrawnRig(), iter(places_around(START, 40, 20, 0.05))

    def person(line):
        """Move on when a view has been counted, as one who reads the lines does."""
        rig.pose = next(places)
        rig.history.append((time.monotonic(), rig.pose))

    calibrator = HandEyeCalibrator(HandEyeConfig(views=6))
    calibrator.collect(rig.cameras["top"], rig, tmp_path / "views", person)
    assert rig.sent == 0
    views = load_views(tmp_path / "views")
    assert len(views.views) == 6
    hands = [view.T_base_ee for view in views.views]
    assert all(
        turn_deg(a, b) > 8 or np.linalg.norm(a[:3, 3] - b[:3, 3]) > 0.03 for n, a in enumerate(hands) for b in hands[:n]
    )
    calibrator.solve(tmp_path / "views", tmp_path / "top.yaml")
    assert off(load_calibration(tmp_path / "top.yaml").T_base_cam, CAMERA)[0] < 0.006


@pytest.fixture(scope="module")
def hand_views(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hand")
    hands = places_around(START, 8, 20, 0.05)
    views = tuple(View(rgb=drawn.draw_board(np.linalg.inv(CAMERA) @ T @ ON_HAND), T_base_ee=T) for T in hands)
    return save_views(folder, ViewSet(views=views, serial="s", arm="a", K=drawn.LENS))


def test_a_hand_eye_that_does_not_fit_is_refused_but_shown(hand_views, tmp_path):
    wrong = HandEyeCalibrator(HandEyeConfig(board=BoardConfig(square_m=0.05, marker_m=0.037)))
    with pytest.raises(DataError, match="squares measured"):
        wrong.solve(hand_views, tmp_path / "a.yaml")
    assert (tmp_path / "a-overlay.png").is_file()
    assert not (tmp_path / "a.yaml").exists()


def test_a_guessed_lens_is_refused(hand_views, tmp_path):
    views = load_views(hand_views)
    folder = save_views(tmp_path / "v", ViewSet(views=views.views, serial="s", arm="a"))
    with pytest.raises(CalibrationError, match="cascade calibrate camera"):
        HandEyeCalibrator(HandEyeConfig()).solve(folder, tmp_path / "a.yaml")


def test_the_lens_of_another_camera_is_refused(hand_views, photos, tmp_path):
    LensCalibrator(IntrinsicsConfig(serial="77")).solve(photos, tmp_path / "other.yaml")
    with pytest.raises(ForeignCalibrationError):
        HandEyeCalibrator(HandEyeConfig(intrinsics=tmp_path / "other.yaml")).solve(hand_views, tmp_path / "a.yaml")


def test_views_without_the_hand_are_refused(photos, tmp_path):
    folder = save_views(tmp_path / "v", ViewSet(views=load_views(photos).views, serial="s", K=drawn.LENS))
    with pytest.raises(DataError, match="expected the hand's pose"):
        HandEyeCalibrator(HandEyeConfig()).solve(folder, tmp_path / "a.yaml")


def test_a_camera_alone_has_no_hand(tmp_path):
    device = DrawnRig().cameras["top"]
    with pytest.raises(ConfigError, match="Name a rig"):
        HandEyeCalibrator(HandEyeConfig()).collect(device, None, tmp_path, print)
    with pytest.raises(ConfigError, match="Name a rig"):
        LatencyCalibrator(LatencyConfig()).collect(device, None, tmp_path, print)


def test_the_delay_of_a_camera_is_found_and_noted(hand_views, tmp_path):
    views = load_views(hand_views)
    folder = save_views(tmp_path / "v", ViewSet(views=views.views, serial="top", arm="drawn-arm", K=drawn.LENS))
    HandEyeCalibrator(HandEyeConfig()).solve(folder, tmp_path / "top.yaml")
    rig = DrawnRig(delay_s=0.15)
    calibrator = LatencyCalibrator(LatencyConfig(visit=True, seconds=9, speed_m_s=0.25))
    calibrator.collect(rig.cameras["top"], rig, tmp_path / "delay", print)
    told = calibrator.solve(tmp_path / "delay", tmp_path / "top.yaml")
    after = load_calibration(tmp_path / "top.yaml")
    assert after.latency_s == pytest.approx(0.15, abs=0.04)
    assert after.kind == "eye-to-hand"  # the rest of the file is as before
    assert Path(told["overlay"]).is_file()
    with pytest.raises(DataError, match="with a rig first"):
        calibrator.solve(tmp_path / "v", tmp_path / "top.yaml")


def test_places_are_well_spread_and_near():
    places = places_around(START, 12, 20, 0.05)
    assert np.array_equal(places[0], START)
    for place in places[1:]:
        distance_m, angle_deg = off(place, START)
        assert distance_m < 0.08
        assert 5 < angle_deg < 21


def test_the_board_is_printed(tmp_path):
    told = BoardPrinter(BoardConfig()).solve(None, tmp_path / "board")
    assert Path(told["file"]).suffix == ".png"
    assert Path(told["file"]).is_file()
