"""Where a carried thing ends in depth: a little before what the first image saw behind it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import CameraImage, ImageTransform
from flowact.lifting import carried_path
from flowact.resting import BEFORE_M, LEAST_PIXELS, Background

SIZE = 32
K = np.array([[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]])
TRANSFORM = ImageTransform.centre_square(SIZE, SIZE, SIZE)
THING = np.zeros((SIZE, SIZE), dtype=bool)
THING[4:8, 4:8] = True
NONE = np.zeros_like(THING)


def seen(depth_m, covered, robot=NONE):
    """Return the background where `covered` pixels of the last frame show something new."""
    image = CameraImage(
        rgb=np.zeros((SIZE, SIZE, 3), np.uint8),
        depth_m=np.asarray(depth_m, np.float32),
        K=K,
        T_base_cam=np.eye(4),
        stamp_s=0.0,
    )
    frames = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    frames[-1][covered] = 200
    return Background(image, frames, TRANSFORM, THING, robot)


def everywhere(value=1.0):
    return np.full((SIZE, SIZE), value)


@given(st.floats(0.4, 3.0), st.integers(-4, 20), st.integers(-4, 20))
@settings(max_examples=25, deadline=None)
def test_it_ends_a_little_before_what_is_behind_it(depth_m, across, down):
    background = seen(everywhere(depth_m), ~NONE)
    if abs(across) < 4 and abs(down) < 4:
        return  # over its own place, of which nothing else was seen
    assert background.at(np.array([across, down])) == pytest.approx(depth_m - BEFORE_M, abs=1e-5)


def test_what_the_picture_still_shows_stands_in_front_and_does_not_count():
    depth, covered = everywhere(2.0), ~NONE
    depth[12:16, 12:14] = 0.5  # a post that hides half of the thing
    covered[12:16, 12:14] = False
    assert seen(depth, covered).at(np.array([8, 8])) == pytest.approx(2.0 - BEFORE_M, abs=1e-5)


def test_the_robot_the_thing_itself_and_missing_depth_do_not_count():
    depth = everywhere(2.0)
    depth[THING] = 0.7
    depth[14:, 12:16] = np.nan
    robot = NONE.copy()
    robot[12:14, 12:14] = True
    depth[robot] = 0.3
    assert seen(depth, ~NONE, robot).at(np.array([8, 8])) == pytest.approx(2.0 - BEFORE_M, abs=1e-5)


def test_too_little_behind_it_says_nothing():
    covered = NONE.copy()
    covered[12, 12 : 12 + LEAST_PIXELS - 1] = True
    assert seen(everywhere(), covered).at(np.array([8, 8])) is None
    assert seen(everywhere(), ~NONE).at(np.array([100, 0])) is None


def test_a_known_end_pulls_the_way_there_and_no_more():
    camera, start = np.array([-1.1, -0.4, 0.6]), np.array([0.05, 0.6, 0.02])
    axis = (start - camera) / np.linalg.norm(start - camera)
    up = [start + np.array([0, 0, h]) for h in np.linspace(0, 0.15, 6)]
    path = np.stack(up + [up[-1] + np.array([-0.02, 0.2, 0.03]) * s for s in np.linspace(0, 1, 7)[1:]])
    rays, end = path - camera, float((path[-1] - camera) @ axis)
    alone = carried_path(rays, camera, start, -0.1)
    told = carried_path(rays, camera, start, -0.1, camera_z=axis, end_depth_m=end)
    assert np.linalg.norm(told[-1] - path[-1]) < 0.015
    assert np.linalg.norm(told[-1] - path[-1]) <= np.linalg.norm(alone[-1] - path[-1])
    far = carried_path(rays, camera, start, -0.1, camera_z=axis, end_depth_m=end + 3.0)
    np.testing.assert_allclose(far, alone, atol=1e-9)  # out of the question, so that it counts for nothing
