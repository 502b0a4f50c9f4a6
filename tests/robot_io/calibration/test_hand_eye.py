import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cascade.contracts import DataError
from robot_io.calibration.board import Detection, find_board
from robot_io.calibration.hand_eye import closed_form, solve_hand_eye
from robot_io.calibration.intrinsics import project

spec = importlib.util.spec_from_file_location("drawn_boards", Path(__file__).parent / "conftest.py")
drawn = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drawn)
MOUNTS = ("eye-to-hand", "eye-in-hand")
GRID = np.array([[x, y, 0] for y in range(1, 5) for x in range(1, 7)], dtype=np.float64) * 0.035
METRES, ANGLES = st.floats(-1.0, 1.0), st.floats(-1.5, 1.5)


def arm_poses(X, Z, mount, T_cam_board):
    """T_base_ee for which the camera at X sees the board, fixed at Z, where it shall."""
    if mount == "eye-to-hand":
        return [X @ B @ np.linalg.inv(Z) for B in T_cam_board]
    return [Z @ np.linalg.inv(B) @ np.linalg.inv(X) for B in T_cam_board]


def off(T, wanted):
    """Distance [m] and angle [deg] between two poses."""
    R = T[:3, :3].T @ wanted[:3, :3]
    return np.linalg.norm(T[:3, 3] - wanted[:3, 3]), np.degrees(np.linalg.norm(Rotation.from_matrix(R).as_rotvec()))


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(MOUNTS),
    st.tuples(METRES, METRES, METRES),
    st.tuples(ANGLES, ANGLES, ANGLES),
    st.tuples(ANGLES, ANGLES, ANGLES),
    st.integers(0, 1000),
)
def test_any_pose_of_the_camera_is_found_to_a_millimetre_in_spite_of_noise(mount, xyz, turn, board_turn, seed):
    X, Z = drawn.pose(xyz, turn), drawn.pose((0.05, -0.02, 0.1), board_turn)
    cameras = drawn.board_poses(12, seed)
    rng = np.random.default_rng(seed)
    detections = [
        Detection(points_m=GRID, pixels=project(GRID, B, drawn.LENS, ()) + rng.normal(0, 0.1, (len(GRID), 2)))
        for B in cameras
    ]
    found = solve_hand_eye(detections, arm_poses(X, Z, mount, cameras), drawn.LENS, (), mount)
    distance_m, angle_deg = off(found.X, X)
    assert distance_m < 0.002
    assert angle_deg < 0.2
    assert found.residual_px < 0.3
    assert found.residual_m < 0.003


@settings(deadline=None, max_examples=40)
@given(st.tuples(METRES, METRES, METRES), st.tuples(ANGLES, ANGLES, ANGLES), st.integers(0, 1000))
def test_the_closed_form_is_exact_without_noise(xyz, turn, seed):
    X, Z = drawn.pose(xyz, turn), drawn.pose((0.05, -0.02, 0.1), (0.3, 0.2, 3.0))
    B = drawn.board_poses(8, seed)
    A = [Z @ np.linalg.inv(b) @ np.linalg.inv(X) for b in B]
    distance_m, angle_deg = off(closed_form(A, B), X)
    assert distance_m < 1e-6
    assert angle_deg < 1e-4


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_camera_is_found_in_drawn_pictures(mount):
    X, Z = drawn.pose((0.4, -0.3, 0.6), (2.0, 0.4, -0.3)), drawn.pose((0.03, 0.0, 0.08), (0.1, -0.2, 0.3))
    bent = (-0.1, 0.03, 0.0, 0.0, 0.0)
    cameras = drawn.board_poses(8, 5)
    detections = [find_board(drawn.draw_board(B, distortion=bent), drawn.BOARD) for B in cameras]
    found = solve_hand_eye(detections, arm_poses(X, Z, mount, cameras), drawn.LENS, bent, mount)
    distance_m, angle_deg = off(found.X, X)
    assert distance_m < 0.003
    assert angle_deg < 0.3
    assert len(found.per_view_px) == 8


def test_one_view_of_a_moving_hand_does_not_spoil_the_rest():
    X, Z = drawn.pose((0.4, -0.3, 0.6), (2.0, 0.4, -0.3)), drawn.pose((0.03, 0.0, 0.08), (0.1, -0.2, 0.3))
    cameras = drawn.board_poses(15, 6)
    detections = [Detection(points_m=GRID, pixels=project(GRID, B, drawn.LENS, ())) for B in cameras]
    hands = arm_poses(X, Z, "eye-to-hand", cameras)
    hands[4] = hands[4] @ drawn.pose((0.02, 0, 0), (0, 0.02, 0))
    found = solve_hand_eye(detections, hands, drawn.LENS, (), "eye-to-hand")
    assert off(found.X, X)[0] < 0.003
    assert int(np.argmax(found.per_view_px)) == 4


def test_a_hand_that_does_not_turn_enough_is_refused():
    X, Z = drawn.pose((0.4, -0.3, 0.6), (2.0, 0.4, -0.3)), drawn.pose((0.03, 0.0, 0.08), (0.1, -0.2, 0.3))
    shifts = [
        drawn.pose((x, y, 0.45), (0, 0, turn))
        for x, y, turn in [
            (-0.15, -0.1, 0),
            (-0.1, 0, 0.4),
            (-0.2, -0.1, -0.4),
            (-0.1, -0.1, 0.2),
            (-0.2, 0, 0.6),
            (-0.1, 0, -0.5),
        ]
    ]
    detections = [Detection(points_m=GRID, pixels=project(GRID, B, drawn.LENS, ())) for B in shifts]
    with pytest.raises(DataError, match="turn about two axes"):
        solve_hand_eye(detections, arm_poses(X, Z, "eye-in-hand", shifts), drawn.LENS, (), "eye-in-hand")
    with pytest.raises(DataError, match="5 views or more"):
        solve_hand_eye(detections[:4], [np.eye(4)] * 4, drawn.LENS, (), "eye-in-hand")
