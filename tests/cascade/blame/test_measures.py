"""The measures that blame rests on, on data whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.blame.reading import frame_error_m, scale_error
from cascade.blame.reprojection import reproject
from cascade.blame.tracking import delay_s, gripper_share
from cascade.contracts import CameraImage
from cascade.report.run_folder import RunRecord, Trajectory

HZ = 80.0


def record(sent: np.ndarray, measured: np.ndarray) -> RunRecord:
    """A run of which only the motion is known."""
    count = len(sent)
    index, none = np.arange(count), np.zeros(count)
    track = Trajectory(index, index * 0, index * 0, index * 0, index / HZ, sent, measured, none, none)
    frames = np.zeros((0, 2, 2, 3), np.uint8)
    return RunRecord(None, {}, "", (), {}, {}, track, frames, np.zeros(0, np.int64), ())  # type: ignore[arg-type]


def chased(sent: np.ndarray, lag: int) -> np.ndarray:
    """A hand that goes a fifth of the way to the target of `lag` steps ago."""
    hand, path = sent[0].copy(), []
    for step in range(len(sent)):
        hand = hand + 0.2 * (sent[max(step - lag, 0)] - hand)
        path.append(hand)
    return np.array(path)


@pytest.mark.parametrize("lag", [0, 8, 24, 40])
def test_the_delay_of_a_late_arm_is_found(lag: int) -> None:
    corners = np.random.default_rng(3).uniform(-0.3, 0.3, (9, 3))
    sent = np.repeat(corners, 30, axis=0)
    found = delay_s(record(sent, chased(sent, lag)), HZ)
    assert found is not None
    assert abs(found * HZ - lag) <= 3


def test_a_hand_that_stands_still_has_no_delay() -> None:
    still = np.zeros((60, 3))
    assert delay_s(record(still, still), HZ) is None


def test_a_gripper_is_stuck_or_not() -> None:
    told = np.repeat([1.0, 0.0], 40)
    works = np.repeat([1.0, 0.3], 40)  # something is between its fingers
    assert gripper_share(works, told, works) == pytest.approx(0.0)
    assert gripper_share(np.ones(80), told, works) == pytest.approx(1.0)
    assert gripper_share(np.full(80, 0.3), told, works) == pytest.approx(1.0)  # stuck closed
    assert gripper_share(works, told, None) == pytest.approx(0.0)
    assert gripper_share(np.ones(80), told, None) == pytest.approx(1.0)
    assert gripper_share(np.ones(80), np.ones(80), None) is None  # never told to do anything


@settings(deadline=None, max_examples=25)
@given(scale=st.floats(0.5, 1.6), bias=st.floats(-0.1, 0.1))
def test_scale_and_bias_are_told_apart(scale: float, bias: float) -> None:
    path = np.cumsum(np.random.default_rng(1).normal(0, 0.03, (17, 3)), axis=0)
    read = scale * path + bias
    assert scale_error(read, path) == pytest.approx(abs(scale - 1), abs=1e-9)
    assert frame_error_m(path + bias, path) == pytest.approx(abs(bias) * np.sqrt(3), abs=1e-9)


def test_a_few_wrong_frames_are_no_wrong_scale() -> None:
    path = np.cumsum(np.random.default_rng(1).normal(0, 0.03, (17, 3)), axis=0)
    read = path.copy()
    read[-3:] += 0.3
    assert scale_error(read, path) < 0.05


def test_a_hand_that_does_not_move_has_no_scale() -> None:
    assert scale_error(np.zeros((17, 3)), np.zeros((17, 3))) is None


def seen_from(shift_m: float) -> CameraImage:
    """A textured board 1 m away, with a step in it, seen from a camera moved sideways."""
    import cv2

    f, size = 160.0, 128
    noise = np.random.default_rng(5).integers(0, 255, (60, 60), dtype=np.uint8)
    board = cv2.resize(noise, (600, 600), interpolation=cv2.INTER_CUBIC)
    v, u = np.mgrid[:size, :size].astype(np.float32) + 0.5
    near = u > size / 2
    depth = np.where(near, 1.0, 1.4).astype(np.float32)
    x = (u - size / 2) / f * depth + shift_m
    y = (v - size / 2) / f * depth
    picture = cv2.remap(board, (x * 300 + 300).astype(np.float32), (y * 300 + 300).astype(np.float32), cv2.INTER_LINEAR)
    K = np.array([[f, 0, size / 2], [0, f, size / 2], [0, 0, 1.0]])
    return CameraImage(rgb=np.repeat(picture[..., None], 3, 2), K=K, stamp_s=0.0, depth_m=depth, T_base_cam=np.eye(4))


def test_a_camera_that_stands_still_reprojects() -> None:
    found = reproject(seen_from(0.0), seen_from(0.0).rgb)
    assert found is not None
    assert found.shift_px < 0.05
    assert found.moved_m is not None
    assert found.moved_m < 0.005


def test_a_camera_that_moved_3_cm_is_found_and_measured() -> None:
    found = reproject(seen_from(0.0), seen_from(0.03).rgb)
    assert found is not None
    assert 3.0 < found.shift_px < 5.5  # f * 3 cm over 1.0 or 1.4 m
    assert found.moved_m == pytest.approx(0.03, abs=0.012)


def test_without_depth_the_shift_is_still_told() -> None:
    found = reproject(replace(seen_from(0.0), depth_m=None), seen_from(0.03).rgb)
    assert found is not None
    assert found.shift_px > 3.0
    assert found.moved_m is None


def test_an_empty_picture_says_nothing() -> None:
    assert reproject(seen_from(0.0), np.zeros((128, 128, 3), np.uint8)) is None
