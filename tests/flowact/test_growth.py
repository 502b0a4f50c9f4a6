import cv2
import numpy as np
import pytest

from flowact.growth import depth_by_growth
from flowact.lifting import carried_path
from flowact.tracking import TrackSettings, dense_flow

FOCAL, DEPTH = 154.5, 1.2


def texture(size, seed):
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 225, (size // 5, size // 5, 3)).astype(np.uint8)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def approaching(depths, shift=(2.0, -1.0)):
    """A patch that shifts and grows as it comes nearer, over a still ground; returns frames and its pixels."""
    ground, thing = texture(128, 1), texture(128, 2)
    frames, px = [], []
    for t, depth in enumerate(depths):
        scale = depths[0] / depth
        centre = np.array([60.0, 70.0]) + t * np.array(shift)
        A = np.array([[scale, 0, centre[0] - scale * 60.0], [0, scale, centre[1] - scale * 70.0]])
        patch = cv2.warpAffine(thing, A, (128, 128))
        hole = np.zeros((128, 128), np.uint8)
        hole[55:85, 48:72] = 1
        mask = cv2.warpAffine(hole, A, (128, 128))
        frames.append(np.where(mask[..., None] > 0, patch, ground))
        px.append(centre)
    return np.stack(frames), np.stack(px)


@pytest.mark.parametrize("end", [1.0, 1.45])
def test_what_grows_comes_nearer_and_what_shrinks_goes_away(end):
    depths = np.concatenate([[DEPTH, DEPTH], np.linspace(DEPTH, end, 9)])
    frames, px = approaching(depths)
    found = depth_by_growth(dense_flow(frames), px, 2, DEPTH, FOCAL, TrackSettings())
    assert found[:3].tolist() == [DEPTH] * 3
    seen = np.isfinite(found)
    assert seen.mean() > 0.7
    assert np.median(np.abs(found - depths)[seen]) < 0.03
    assert np.sign(found[seen][-1] - DEPTH) == np.sign(end - DEPTH)


def test_nothing_is_claimed_about_a_hand_out_of_view():
    frames, px = approaching(np.full(6, DEPTH))
    found = depth_by_growth(dense_flow(frames), px - 500.0, 1, DEPTH, FOCAL, TrackSettings())
    assert np.isnan(found[2:]).all()


def test_a_depth_seen_otherwise_decides_where_the_way_leaves_it_open():
    camera, axis = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    start = np.array([0.0, 1.0, 0.0])
    path = start + np.outer(np.linspace(0, 1, 9), [0.02, 0.12, 0.03])  # slanted: the way alone is misled
    rays = path - camera
    alone = carried_path(rays, camera, start, -0.1)
    told = carried_path(rays, camera, start, -0.1, camera_z=axis, depth_m=path @ axis)
    assert np.linalg.norm(told[-1] - path[-1]) < np.linalg.norm(alone[-1] - path[-1])
    assert np.linalg.norm(told[-1] - path[-1]) < 0.04
