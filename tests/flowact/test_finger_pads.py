"""The hand by its pads: colours in several calibrated views, triangulated."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import DataError
from flowact.finger_pads import SAWYER, read_pads, triangulate
from flowact.rigid import project

K = np.array([[260.0, 0, 160], [0, 260.0, 120], [0, 0, 1]])
CYAN, WHITE = (0, 230, 230), (250, 250, 250)


def looking(eye, at=(0.0, 0.6, 0.2)):
    """Return T_base_cam of a camera at `eye` that looks at a point, its image upright."""
    z = np.subtract(at, eye) / np.linalg.norm(np.subtract(at, eye))
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.stack([x, np.cross(z, x), z], axis=1), eye
    return T


VIEWS = {
    "left": (K, looking((-1.1, -0.4, 0.6))),
    "right": (K, looking((1.3, -0.2, 1.1))),
    "top": (K, looking((0.9, 0.1, 1.5))),
}
points = st.tuples(st.floats(-0.3, 0.3), st.floats(0.4, 0.8), st.floats(0.0, 0.4))


def pixels(point):
    return np.array([project(k, T, np.array([point], np.float64))[0] for k, T in VIEWS.values()])


@given(points, st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_point_seen_by_all_is_where_it_is(point, seed):
    noise = np.random.default_rng(seed).normal(0, 0.3, (3, 1, 2))
    found = triangulate(pixels(point) + noise, list(VIEWS.values()))
    assert np.linalg.norm(found[0] - point) < 0.01


@given(points, st.integers(0, 2), st.floats(0, 6.2), st.floats(25, 80))
@settings(max_examples=30, deadline=None)
def test_one_view_of_three_that_sees_something_else_is_left_out(point, view, way, far):
    uv = pixels(point)
    uv[view, 0] += far * np.array([np.cos(way), np.sin(way)])
    assert np.linalg.norm(triangulate(uv, list(VIEWS.values()))[0] - point) < 1e-6
    uv[view, 0] = np.nan
    assert np.linalg.norm(triangulate(uv, list(VIEWS.values()))[0] - point) < 1e-6


def test_two_views_that_disagree_and_one_view_alone_say_nothing():
    uv = pixels((0.1, 0.6, 0.2))
    uv[2] = np.nan
    uv[1, 0, 1] += 20  # up and down, so that no point explains both
    assert np.isnan(triangulate(uv, list(VIEWS.values()))).all()
    uv[1] = np.nan
    assert np.isnan(triangulate(uv, list(VIEWS.values()))).all()


def film(hand_m, opening, hidden=()):
    """Return (T, 240, 320, 3) videos by camera of two discs where the pads of a hand would be."""
    middle = np.asarray(hand_m) - np.array(SAWYER.ee_from_middle_m)
    apart = SAWYER.closed_m + np.asarray(opening) * (SAWYER.open_m - SAWYER.closed_m)
    videos = {}
    for name, (k, T) in VIEWS.items():
        frames = np.full((len(middle), 240, 320, 3), (110, 80, 70), np.uint8)
        frames[:, :40, :40] = WHITE  # a wall, far from the hand
        for t, frame in enumerate(frames):
            for colour, side in ((WHITE, 0.5), (CYAN, -0.5)):
                uv, _ = project(k, T, middle[t] + np.array([0, side * apart[t], 0]))
                if (name, t) not in hidden:
                    cv2.circle(frame, tuple(int(v) for v in np.round((uv - 0.5) * 16)), 40, colour, -1, cv2.LINE_8, 4)
        videos[name] = frames
    return videos


PATH = np.linspace([-0.2, 0.5, 0.3], [0.2, 0.7, 0.05], 12)
OPEN = np.linspace(1.0, 0.5, 12)


def read(videos):
    return read_pads(videos, {n: VIEWS[n][0] for n in videos}, {n: VIEWS[n][1] for n in videos}, SAWYER)


def test_a_hand_is_followed_through_a_film_and_its_opening_read():
    position, opening = read(film(PATH, OPEN))
    assert np.linalg.norm(position - PATH, axis=1).max() < 0.01
    assert np.abs(opening - OPEN).max() < 0.12


def test_frames_in_which_it_is_hidden_are_filled_in_between():
    hidden = {(name, t) for name in ("left", "top") for t in (4, 5)}
    position, _ = read(film(PATH, OPEN, hidden))
    assert np.linalg.norm(position - PATH, axis=1).max() < 0.01


def test_a_hand_that_is_hardly_seen_is_not_read_and_one_camera_is_an_error():
    assert read(film(PATH, OPEN, {(name, t) for name in ("left", "top") for t in range(8)})) is None
    with pytest.raises(DataError, match="expected two cameras or more, found left"):
        read({"left": film(PATH, OPEN)["left"]})
