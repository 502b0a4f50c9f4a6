import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.contracts import CameraImage, DataError, ImageTransform
from flowact.articulation import JointKind, Motion
from flowact.register import joint_now, shift_between
from flowact.scene import object_mask, support_height, to_camera_mask, to_plan, view_object
from flowact.surroundings import Surroundings, travel

SIZE = 96
K = np.array([[120.0, 0, SIZE / 2], [0, 120.0, SIZE / 2], [0, 0, 1]])


def looking_down(height=1.0):
    """A camera over the origin looking straight down."""
    T = np.eye(4)
    T[:3, :3] = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])
    T[:3, 3] = [0, 0, height]
    return T


def table_with_box(top=0.1, half_px=8):
    depth = np.full((SIZE, SIZE), 1.0, dtype=np.float32)
    middle = slice(SIZE // 2 - half_px, SIZE // 2 + half_px)
    depth[middle, middle] = 1.0 - top
    segmentation = np.full((SIZE, SIZE), -1, dtype=np.int32)
    segmentation[middle, middle] = 3
    return CameraImage(
        rgb=np.zeros((SIZE, SIZE, 3), dtype=np.uint8),
        K=K,
        stamp_s=0.0,
        depth_m=depth,
        segmentation=segmentation,
        segment_names={"object": (3,), "ghost": (9,)},
        T_base_cam=looking_down(),
    )


def test_the_object_is_found_where_it_stands_and_its_middle_lies_behind_its_surface():
    view = view_object(table_with_box(), object_mask(table_with_box(), "object"))
    np.testing.assert_allclose(view.surface_m, [0, 0, 0.1], atol=0.005)
    assert view.half_width_m == pytest.approx(8 / 120 * 0.9, rel=0.25)
    assert view.centre_m[2] < view.surface_m[2] - 0.03


def test_the_table_is_found_under_the_object():
    image = table_with_box()
    assert support_height(image, object_mask(image, "object"), np.array([0, 0, 0.1])) == pytest.approx(0.0, abs=0.003)


def test_depth_that_is_nan_over_the_object_is_flow_lost():
    image = table_with_box()
    depth = np.array(image.depth_m)
    depth[object_mask(image, "object")] = np.nan
    broken = CameraImage(
        rgb=image.rgb,
        K=K,
        stamp_s=0.0,
        depth_m=depth,
        segmentation=image.segmentation,
        segment_names=image.segment_names,
        T_base_cam=image.T_base_cam,
    )
    with pytest.raises(DataError, match=r"flow lost.*NaN"):
        view_object(broken, object_mask(broken, "object"))


def test_an_object_that_does_not_show_is_flow_lost_and_an_unknown_one_is_named():
    with pytest.raises(DataError, match="flow lost"):
        object_mask(table_with_box(), "ghost")
    with pytest.raises(DataError, match="Known: ghost, object"):
        object_mask(table_with_box(), "obejct")


def test_masks_travel_between_camera_and_plan():
    transform = ImageTransform.centre_square(160, 96, 48)
    mask = np.zeros((96, 160), dtype=bool)
    mask[40:60, 70:90] = True
    in_plan = to_plan(mask, transform)
    assert in_plan.shape == (48, 48)
    assert in_plan.sum() == pytest.approx(mask.sum() / 4, rel=0.1)
    assert (to_camera_mask(in_plan, transform, 96, 160) ^ mask).sum() < 0.1 * mask.sum()


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_shifted_surface_is_found_again_though_half_is_hidden(seed):
    rng = np.random.default_rng(seed)
    u, v = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 15))
    surface = np.stack([0.04 * u, 0.03 * v, 0.02 * np.cos(2 * u) * np.cos(2 * v)], axis=-1).reshape(-1, 3)
    shift = rng.uniform(-0.02, 0.02, 3)
    seen = (surface + shift)[surface[:, 0] > -0.01]
    found = shift_between(surface, seen + rng.normal(0, 0.0003, seen.shape), start_m=shift + rng.normal(0, 0.004, 3))
    assert np.linalg.norm(found - shift) < 0.016


def test_how_far_a_hinge_has_turned_is_seen_from_the_surface():
    motion = Motion(
        kind=JointKind.REVOLUTE,
        axis=np.array([0, 0, 1.0]),
        origin_m=np.zeros(3),
        q=np.zeros(2),
        shift_m=np.zeros((2, 3)),
        rms_px=0,
        evidence=0,
    )
    rng = np.random.default_rng(0)
    surface = np.array([0.2, 0, 0.1]) + rng.uniform(-0.02, 0.02, (80, 3))
    seen = np.stack([motion.move(p, 0.5) for p in surface[:40]])
    assert joint_now(motion, surface, seen, low=-0.2, high=1.0, steps=61) == pytest.approx(0.5, abs=0.03)


def test_the_hand_travels_over_what_stands_in_between_and_not_higher_than_needed():
    image = table_with_box(top=0.3, half_px=10)
    around = Surroundings(image, np.zeros((SIZE, SIZE), dtype=bool))
    blocked = travel(np.array([-0.3, 0, 0.1]), np.array([0.3, 0, 0.1]), around, clearance_m=0.05, radius_m=0.03)
    assert max(c[2] for c in blocked) == pytest.approx(0.35, abs=0.01)
    clear = travel(np.array([-0.3, 0.3, 0.1]), np.array([0.3, 0.3, 0.1]), around, clearance_m=0.05, radius_m=0.03)
    assert max(c[2] for c in clear) < 0.11
    np.testing.assert_allclose(blocked[-1], [0.3, 0, 0.1])
