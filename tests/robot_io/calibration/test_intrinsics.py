import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import ConfigError, DataError
from robot_io.calibration.board import board_image, find_board, print_board
from robot_io.calibration.config import BoardConfig
from robot_io.calibration.intrinsics import estimate, judge, locate

spec = importlib.util.spec_from_file_location("drawn_boards", Path(__file__).parent / "conftest.py")
drawn = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drawn)
BENT = (-0.12, 0.05, 0.001, -0.0005, 0.0)


@pytest.fixture(scope="module")
def poses():
    return drawn.board_poses(14)


@pytest.fixture(scope="module")
def detections(poses):
    found = [find_board(drawn.draw_board(T, distortion=BENT), drawn.BOARD) for T in poses]
    assert sum(each is not None for each in found) >= 12
    return [each for each in found if each is not None]


def test_the_board_is_found_where_it_was_drawn():
    T = drawn.board_poses(1)[0]
    found = find_board(drawn.draw_board(T), drawn.BOARD)
    T_found = locate(found, drawn.LENS, ())
    assert np.linalg.norm(T_found[:3, 3] - T[:3, 3]) < 0.001
    assert np.degrees(np.arccos(np.clip((np.trace(T_found[:3, :3].T @ T[:3, :3]) - 1) / 2, -1, 1))) < 0.3


def test_the_lens_is_found_again(detections):
    lens = estimate(detections, drawn.SIZE)
    assert lens.residual_px < 0.3
    assert np.allclose(lens.K[[0, 1], [0, 1]], drawn.LENS[[0, 1], [0, 1]], rtol=0.01)
    assert np.allclose(lens.K[:2, 2], drawn.LENS[:2, 2], atol=3)
    assert lens.distortion[0] == pytest.approx(BENT[0], abs=0.03)


def test_true_intrinsics_are_judged_good_and_wrong_ones_bad(detections):
    wrong = drawn.LENS.copy()
    wrong[0, 0] *= 1.1
    assert judge(detections, drawn.LENS, BENT).residual_px < 0.4
    assert judge(detections, wrong, BENT).residual_px > 1


def test_too_little_to_tell_is_refused(detections):
    with pytest.raises(DataError, match="6 views or more"):
        estimate(detections[:5], drawn.SIZE)
    middle = [
        find_board(drawn.draw_board(drawn.pose([-0.12, -0.09, 0.9 + n / 100], [0, 0, 0])), drawn.BOARD)
        for n in range(7)
    ]
    with pytest.raises(DataError, match="near every edge"):
        estimate(middle, drawn.SIZE)
    flat = [
        find_board(drawn.draw_board(drawn.pose([x - 0.12, y - 0.09, 0.42], [0, 0, 0])), drawn.BOARD)
        for x in (-0.06, 0, 0.06)
        for y in (-0.04, 0.04)
    ]
    with pytest.raises(DataError, match="Tilt the board"):
        estimate(flat, drawn.SIZE)


def test_an_empty_picture_has_no_board():
    assert find_board(np.full((480, 640, 3), 99, np.uint8), drawn.BOARD) is None


def test_the_printed_board_has_its_true_size_and_can_be_read(tmp_path):
    import cv2

    path = print_board(tmp_path / "new" / "board.png", drawn.BOARD)
    data = path.read_bytes()
    at = data.index(b"pHYs")
    assert int.from_bytes(data[at + 4 : at + 8], "big") == round(300 / 0.0254)
    page = cv2.imread(str(path))
    assert page.shape[:2] == (2480, 3508)
    found = find_board(page, drawn.BOARD)
    assert len(found.pixels) == (drawn.BOARD.columns - 1) * (drawn.BOARD.rows - 1)
    step_m = np.diff(found.pixels[:2, 0])[0] * 0.0254 / 300
    assert step_m == pytest.approx(drawn.BOARD.square_m, rel=0.002)


def test_a_board_larger_than_the_paper_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="do not fit on a4"):
        print_board(tmp_path / "b.png", BoardConfig(square_m=0.08, marker_m=0.05))
    with pytest.raises(ValueError, match="marker_m"):
        BoardConfig(square_m=0.02, marker_m=0.03)


def test_every_dictionary_can_be_found():
    for name in ("4x4", "6x6"):
        board = BoardConfig(dictionary=name)
        image = np.pad(board_image(board, 60), 40, constant_values=255)
        assert find_board(np.repeat(image[..., None], 3, axis=2), board) is not None
        assert find_board(np.repeat(image[..., None], 3, axis=2), drawn.BOARD) is None
