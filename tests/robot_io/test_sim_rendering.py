from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
import pytest

from cascade.contracts import CameraImage
from robot_io.sim.renderers import probe
from robot_io.sim.rig import SimRig
from robot_io.sim.views import FAR_M

CORNERS = ("corner", "corner2", "corner3", "corner4")


def project(image: CameraImage, point: np.ndarray) -> np.ndarray:
    x, y, z = np.linalg.inv(image.T_base_cam)[:3] @ np.append(point, 1.0)
    return np.array([image.K[0, 0] * x / z + image.K[0, 2], image.K[1, 1] * y / z + image.K[1, 2]])


def lift(image: CameraImage, mask: np.ndarray) -> np.ndarray:
    v, u = np.nonzero(mask)
    rays = np.linalg.inv(image.K) @ np.stack([u + 0.5, v + 0.5, np.ones_like(u)])
    camera = rays * image.depth_m[mask]
    return (image.T_base_cam[:3, :3] @ camera + image.T_base_cam[:3, 3:]).T


@pytest.fixture(scope="module")
def shelf(make_rig: Callable[..., SimRig]) -> SimRig:
    rig = make_rig(cameras=CORNERS)
    rig.reset(task="shelf-place", seed=3)
    return rig


@pytest.mark.parametrize("camera", CORNERS)
def test_depth_of_a_cube_lies_on_its_faces(shelf: SimRig, camera: str) -> None:
    image = shelf.observe().image(camera)
    cube = shelf.world.data.geom("objGeom")
    half = shelf.world.model.geom("objGeom").size
    points = (lift(image, image.mask("object")) - cube.xpos) @ cube.xmat.reshape(3, 3)
    assert len(points) >= 5
    assert np.abs(np.max(np.abs(points) - half, axis=1)).max() < 0.001


@pytest.mark.parametrize("camera", ["corner", "corner3"])
def test_a_point_projects_to_where_it_is_seen(shelf: SimRig, camera: str) -> None:
    image = shelf.observe().image(camera)
    seen = np.argwhere(image.mask("object"))[:, ::-1].mean(axis=0) + 0.5
    assert np.linalg.norm(seen - project(image, shelf.world.data.geom("objGeom").xpos)) < 1.0


@pytest.mark.parametrize("camera", CORNERS)
def test_images_are_upright_and_not_mirrored(shelf: SimRig, camera: str) -> None:
    image = shelf.observe().image(camera)
    assert project(image, np.array([0, 0.6, 0.4]))[1] < project(image, np.array([0, 0.6, 0.1]))[1]
    assert np.linalg.det(image.T_base_cam[:3, :3]) == pytest.approx(1.0)
    arm_row = np.argwhere(image.mask("arm"))[:, 0].mean()
    assert arm_row < np.argwhere(image.mask("RetainingWall"))[:, 0].max()


def test_depth_and_segmentation_agree_with_rays(shelf: SimRig) -> None:
    image, world = shelf.observe().image("corner"), shelf.world
    rng = np.random.default_rng(0)
    groups = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    same, errors = [], []
    for u, v in rng.integers(0, 128, (400, 2)):
        ray = image.T_base_cam[:3, :3] @ np.linalg.inv(image.K) @ [u + 0.5, v + 0.5, 1.0]
        hit = np.full(1, -1, np.int32)
        along = mujoco.mj_ray(
            world.model, world.data, image.T_base_cam[:3, 3], ray / np.linalg.norm(ray), groups, 1, -1, hit
        )
        same.append(hit[0] == image.segmentation[v, u])
        if same[-1] and 0 <= along / np.linalg.norm(ray) < FAR_M:
            errors.append(abs(along / np.linalg.norm(ray) - image.depth_m[v, u]))
    assert np.mean(same) > 0.99
    assert len(errors) > 200
    assert np.max(errors) < 0.001


def test_nothing_is_nan_in_depth_and_minus_one_in_segmentation(shelf: SimRig) -> None:
    image = shelf.observe().image("corner")
    assert np.isnan(image.depth_m).any()
    np.testing.assert_array_equal(np.isnan(image.depth_m), image.segmentation == -1)


def test_what_stands_still_is_drawn_anew_for_each_layout(shelf: SimRig, make_rig: Callable[..., SimRig]) -> None:
    shelf.reset(task="shelf-place", seed=4)
    again = shelf.observe().image("corner")
    shelf.reset(task="shelf-place", seed=3)
    before = shelf.observe().image("corner")
    fresh = make_rig()
    fresh.reset(task="shelf-place", seed=4)
    np.testing.assert_array_equal(again.rgb, fresh.observe().image("corner").rgb)
    assert (again.rgb != before.rgb).any()


def test_a_size_other_than_square_keeps_the_geometry(make_rig: Callable[..., SimRig]) -> None:
    rig = make_rig(width=160, height=96)
    rig.reset(task="shelf-place", seed=3)
    image = rig.observe().image("corner")
    assert image.rgb.shape == (96, 160, 3)
    seen = np.argwhere(image.mask("object"))[:, ::-1].mean(axis=0) + 0.5
    assert np.linalg.norm(seen - project(image, rig.world.data.geom("objGeom").xpos)) < 1.0


@pytest.mark.parametrize(
    "renderer", [pytest.param("ray", marks=pytest.mark.slow), pytest.param("egl", marks=pytest.mark.gl)]
)
def test_renderers_agree(make_rig: Callable[..., SimRig], renderer: str) -> None:
    if renderer == "egl" and (problem := probe("egl")) is not None:
        pytest.skip(f"no EGL here ({problem}); on Debian: apt-get install libegl1 libgl1-mesa-dri")
    views = ("corner", "gripperPOV")
    images = []
    for name in ("raster", renderer):
        with make_rig(renderer=name, cameras=views) as rig:
            rig.reset(task="hammer", seed=3)
            images.append(rig.observe().images)
    for ours, theirs in ((images[0][view], images[1][view]) for view in views):
        same = ours.segmentation == theirs.segmentation
        assert same.mean() > 0.99
        error = np.abs(ours.depth_m - theirs.depth_m)[same & np.isfinite(ours.depth_m)]
        assert np.percentile(error, 99) < 0.001
        assert np.abs(ours.rgb.astype(int) - theirs.rgb).mean() < 15
        np.testing.assert_array_equal(ours.T_base_cam, theirs.T_base_cam)


def test_wrist_camera_sees_what_the_hand_is_above(make_rig: Callable[..., SimRig]) -> None:
    rig = make_rig(cameras=("gripperPOV",))
    rig.reset(task="handle-press", seed=3)
    assert rig.observe().image("gripperPOV").mask("object").any()


def test_a_geom_with_a_colour_of_its_own_is_drawn_in_it_not_in_its_materials(make_rig: Callable[..., SimRig]) -> None:
    rig = make_rig()
    rig.reset(task="assembly", seed=3)
    image = rig.observe().image("corner")
    red, green, _ = image.rgb[image.mask("peg")].mean(axis=0)
    assert red > 1.8 * green
