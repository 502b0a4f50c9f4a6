import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flowact.lifting import carried_path, path_at_depths

CAMERA = np.array([-1.1, -0.4, 0.6])
START = np.array([0.05, 0.6, 0.02])


def up_across_down(height, way, drop):
    up = [START + np.array([0, 0, h]) for h in np.linspace(0, height, 7)]
    across = [up[-1] + np.append(way, 0) * s for s in np.linspace(0, 1, 6)[1:]]
    down = [across[-1] - [0, 0, d] for d in np.linspace(0, drop, 4)[1:]]
    return np.stack(up + across + down)


@given(st.floats(0.12, 0.3), st.floats(-0.2, 0.05), st.floats(0.08, 0.25), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_an_object_carried_up_and_across_is_found_in_depth(height, dx, dy, seed):
    path = up_across_down(height, np.array([dx, dy]), 0.0)[:12]
    rays = path - CAMERA
    rays = rays * np.random.default_rng(seed).uniform(0.5, 2.0, (len(rays), 1))  # lengths do not matter
    found = carried_path(rays, CAMERA, START, low_m=0.0)
    assert np.linalg.norm(found[6] - path[6]) < 0.02  # at the top
    assert np.median(np.linalg.norm(found - path, axis=1)) < 0.03


def test_an_object_that_rests_stays_where_it_is():
    found = carried_path(np.tile(START - CAMERA, (8, 1)), CAMERA, START, low_m=0.0)
    assert np.abs(found - START).max() < 0.005


def test_every_position_lies_on_its_ray():
    path = up_across_down(0.2, np.array([-0.1, 0.2]), 0.1)
    found = carried_path(path - CAMERA, CAMERA, START, low_m=0.0)
    a, b = found[1:] - CAMERA, path[1:] - CAMERA
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-9)


def test_known_depths_give_the_path_exactly():
    axis = np.array([0.6, 0.8, 0.0])
    path = up_across_down(0.2, np.array([-0.1, 0.2]), 0.1)
    found = path_at_depths(path - CAMERA, axis, CAMERA, (path - CAMERA) @ axis)
    np.testing.assert_allclose(found, path, atol=1e-12)
