import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import DataError
from flowact.rigid import (
    backproject,
    fit_rigid,
    fit_rigid_robust,
    project,
    rotation_about,
    similarity_inliers,
)

K = np.array([[154.5, 0, 64.0], [0, 154.5, 64.0], [0, 0, 1]])


def camera(rng):
    axis = rng.normal(size=3)
    T = np.eye(4)
    T[:3, :3] = rotation_about(axis / np.linalg.norm(axis), rng.uniform(-3, 3))
    T[:3, 3] = rng.uniform(-2, 2, 3)
    return T


def motion(rng):
    T = camera(rng)
    T[:3, 3] *= 0.2
    return T


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_backprojecting_a_projection_gives_the_points_back(seed):
    rng = np.random.default_rng(seed)
    T = camera(rng)
    points = T[:3, 3] + (rng.uniform([-0.5, -0.5, 0.3], [0.5, 0.5, 3.0], (20, 3))) @ T[:3, :3].T
    uv, z = project(K, T, points)
    np.testing.assert_allclose(backproject(K, T, uv, z), points, atol=1e-9)
    assert (z > 0).all()


def test_points_behind_the_camera_have_no_pixel():
    uv, z = project(K, np.eye(4), np.array([[0.0, 0, -1], [0.0, 0, 1]]))
    assert np.isnan(uv[0]).all()
    np.testing.assert_allclose(uv[1], [64, 64])
    assert z[0] == -1


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_known_rigid_motion_is_recovered_exactly(seed):
    rng = np.random.default_rng(seed)
    T = motion(rng)
    points = rng.normal(size=(12, 3))
    np.testing.assert_allclose(fit_rigid(points, points @ T[:3, :3].T + T[:3, 3]), T, atol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_rigid_motion_is_recovered_among_outliers_and_noise(seed):
    rng = np.random.default_rng(seed)
    T = motion(rng)
    points = rng.uniform(-0.1, 0.1, (60, 3))
    moved = points @ T[:3, :3].T + T[:3, 3] + rng.normal(0, 0.0005, (60, 3))
    moved[:18] += rng.uniform(0.03, 0.2, (18, 3))
    found, inliers = fit_rigid_robust(points, moved, tolerance_m=0.008, seed=seed)
    assert not inliers[:18].any()
    assert np.linalg.norm(found[:3, 3] - T[:3, 3]) < 0.002
    assert np.abs(found[:3, :3] - T[:3, :3]).max() < 0.02


def test_a_fit_never_returns_a_mirror_image():
    points = np.random.default_rng(0).normal(size=(10, 3))
    T = fit_rigid(points, points * [1, 1, -1])
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1.0)


def test_fits_with_too_few_points_say_so():
    with pytest.raises(DataError, match="at least 3 points"):
        fit_rigid(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(DataError, match="two equal"):
        fit_rigid(np.zeros((4, 3)), np.zeros((5, 3)))


def test_points_that_leave_the_common_motion_are_outliers():
    rng = np.random.default_rng(1)
    a = rng.uniform(0, 60, (50, 2))
    b = a * 1.05 + [4.0, -2.0] + rng.normal(0, 0.1, (50, 2))
    b[:15] += rng.choice([-1, 1], (15, 2)) * rng.uniform(5, 9, (15, 2))
    inliers = similarity_inliers(a, b)
    assert not inliers[:15].any()
    assert inliers[15:].all()
