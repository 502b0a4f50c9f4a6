import numpy as np
import pytest

from cascade.contracts import CameraImage, DataError, ImageTransform
from flowact.motion_mask import motion_mask
from flowact.tracking import TrackSettings, choose_points, dense_flow, follow_colour, follow_flow

SETTINGS = TrackSettings()


def textured(height, width, seed, low=60, high=190, grain=4):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(low, high, (height // grain + 2, width // grain + 2, 3)).astype(np.float64)
    fine = np.kron(coarse, np.ones((grain, grain, 1)))[:height, :width]
    blurred = fine.copy()
    for axis in (0, 1):
        blurred = (np.roll(blurred, 1, axis) + 2 * blurred + np.roll(blurred, -1, axis)) / 4
    return blurred


def video(steps, size=128, patch=(24, 20), start=(40, 50), seed=0):
    """A textured patch moves over a textured ground; returns frames, mask in frame 0 and the (T, 2) true shift."""
    ground, thing = textured(size, size, seed), textured(*patch, seed + 1, low=20, high=250)
    frames = []
    for du, dv in steps:
        frame = ground.copy()
        v, u = start[0] + dv, start[1] + du
        frame[v : v + patch[0], u : u + patch[1]] = thing
        frames.append(frame.round().astype(np.uint8))
    mask = np.zeros((size, size), dtype=bool)
    mask[start[0] : start[0] + patch[0], start[1] : start[1] + patch[1]] = True
    return np.stack(frames), mask, np.array(steps, dtype=float)


def test_points_of_a_moving_patch_are_followed_within_a_pixel():
    steps = [(int(3 * t), round(1.5 * t)) for t in range(12)]
    frames, mask, shift = video(steps)
    start = choose_points(mask, 80)
    uv, weight = follow_flow(dense_flow(frames), start, SETTINGS)
    error = np.linalg.norm(uv - (start[None] + shift[:, None]), axis=-1)
    assert (weight[-1] > 0).mean() > 0.6
    assert np.median(error[-1][weight[-1] > 0]) < 1.0


def test_points_come_back_after_something_has_passed_in_front():
    frames, mask, _ = video([(0, 0)] * 9)
    bar = textured(128, 14, 9, low=0, high=255)
    for t, left in enumerate(range(20, 20 + 9 * 8, 8)):
        frames[t, :, left : left + 14] = bar
    start = choose_points(mask, 60)
    uv, weight = follow_flow(dense_flow(frames), start, SETTINGS)
    assert (weight[-1] > 0).mean() > 0.3
    assert np.median(np.linalg.norm(uv[-1] - start, axis=1)[weight[-1] > 0]) < 2.0


def test_chosen_points_lie_in_the_mask_and_off_its_edge():
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:30, 12:28] = True
    points = choose_points(mask, 50)
    assert len(points) == 50
    assert points.min(axis=0).tolist() >= [13.0, 11.0]
    thin = np.zeros((40, 40), dtype=bool)
    thin[20:22, 12:28] = True
    assert len(choose_points(thin, 500)) == 32  # nothing is left when its edge is taken off


def test_a_small_object_is_followed_by_its_colour():
    rng = np.random.default_rng(0)
    frames, truth = [], []
    for t in range(16):
        frame = np.full((128, 128, 3), (150, 120, 90), dtype=np.uint8)
        u, v = 30 + 5 * t, 80 - 3 * t
        frame[v : v + 5, u : u + 5] = (200, 40, 30)
        frame = np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255).astype(np.uint8)
        frames.append(frame)
        truth.append((u + 2.5, v + 2.5))
    mask = np.zeros((128, 128), dtype=bool)
    mask[80:85, 30:35] = True
    uv, weight = follow_colour(np.stack(frames), mask)
    assert (weight > 0).all()
    assert np.linalg.norm(uv[:, 0] - truth, axis=1).max() < 1.0


def test_a_small_object_that_vanishes_is_lost_not_invented():
    frame = np.full((64, 64, 3), 120, dtype=np.uint8)
    shown = frame.copy()
    shown[30:34, 30:34] = (220, 30, 30)
    mask = np.zeros((64, 64), dtype=bool)
    mask[30:34, 30:34] = True
    _, weight = follow_colour(np.stack([shown, frame, frame]), mask)
    assert weight[:, 0].tolist() == [1.0, 0.0, 0.0]


def table(frame, mask, robot):
    """An RGB-D image of a frame from straight above: the thing is 4 cm high, the robot 30 cm over the table."""
    T = np.eye(4)
    T[:3, :3] = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])
    T[:3, 3] = [0, 0, 1.0]
    size = frame.shape[0]
    return CameraImage(
        rgb=frame,
        K=np.array([[150.0, 0, size / 2], [0, 150.0, size / 2], [0, 0, 1]]),
        stamp_s=0.0,
        depth_m=np.where(robot, 0.7, np.where(mask, 0.96, 1.0)).astype(np.float32),
        T_base_cam=T,
    )


def plain(place, size=128):
    """A plain red thing on a brown table."""
    frame = np.full((size, size, 3), (120, 90, 60), dtype=np.uint8)
    frame[place[0] : place[0] + 16, place[1] : place[1] + 20] = (200, 40, 40)
    return frame


def test_what_leaves_its_place_besides_the_robot_is_found_without_a_segmentation():
    frames = np.stack([plain((50, 40 + 4 * t)) for t in range(9)])
    frames[:, 90:110, 90:110] = (20, 20, 20)
    frames[-3:, 90:110, 60:80] = (20, 20, 20)  # the robot moves as well
    mask, robot = np.zeros((128, 128), dtype=bool), np.zeros((128, 128), dtype=bool)
    mask[50:66, 40:60], robot[90:110, 90:110] = True, True
    square = ImageTransform.centre_square(128, 128, 128)
    found = motion_mask(frames, table(frames[0], mask, robot), square, robot, 0.0, np.zeros(3), None)
    assert (found & mask).sum() > 0.8 * mask.sum()
    assert not (found & ~mask).any()


def test_a_plan_in_which_nothing_moves_has_no_motion_mask():
    frames = np.repeat(plain((50, 40))[None], 5, axis=0)
    nothing = np.zeros((128, 128), dtype=bool)
    mask = nothing.copy()
    mask[50:66, 40:60] = True
    square = ImageTransform.centre_square(128, 128, 128)
    with pytest.raises(DataError, match="flow lost"):
        motion_mask(frames, table(frames[0], mask, nothing), square, nothing, 0.0, np.zeros(3), None)
