"""Visual fidelity: numbers that can be worked out by hand, and refusal of what stands still."""

import numpy as np
import pytest

from cascade.contracts import DataError
from cascade.metrics import Status, visual
from cascade.metrics.image_motion import change_levels, dense_flow, moves


def test_the_same_video_has_the_highest_psnr_and_ssim(moving):
    assert visual.psnr(moving, moving).value == visual.SAME_PSNR_DB
    assert visual.ssim(moving, moving).value == pytest.approx(1.0)


def test_psnr_of_an_offset_is_the_textbook_number(moving):
    result = visual.psnr(moving, moving + np.uint8(10) - (moving > 245) * np.uint8(20))

    assert result.value == pytest.approx(20 * np.log10(255 / 10), abs=1e-6)
    assert len(result.detail["curve"]) == len(moving)


def test_ssim_of_two_flat_images_is_their_luminance_term():
    a, b = 60.0, 200.0
    frames = np.full((3, 32, 32, 3), a, dtype=np.uint8)
    frames[1:] = 80
    reference = np.full_like(frames, b, dtype=np.uint8)
    c1 = 2.55**2
    want = [(2 * x * b + c1) / (x * x + b * b + c1) for x in (a, 80.0, 80.0)]

    assert visual.ssim(frames, reference).detail["curve"] == pytest.approx(want, abs=1e-3)


def test_a_reference_of_another_shape_is_an_error(moving):
    with pytest.raises(DataError, match="reference"):
        visual.psnr(moving, moving[:-1])


def test_dynamic_degree_is_the_speed_of_what_moves(moving, frozen):
    result = visual.dynamic_degree(dense_flow(moving), frame_dt_s=0.5)

    assert result.value == pytest.approx(3.0, abs=0.6)
    assert result.detail["px_per_s"] == pytest.approx(2 * result.value)
    assert visual.dynamic_degree(dense_flow(frozen)).value < 0.05


def test_warp_error_sees_flicker_and_not_motion(moving):
    flicker = moving.copy()
    flicker[1::2] = np.clip(flicker[1::2].astype(int) + 25, 0, 255)

    smooth = visual.warp_error(moving, dense_flow(moving)).value
    assert smooth < 4.0
    assert visual.warp_error(flicker, dense_flow(flicker)).value > 3 * smooth


def test_what_is_uncovered_does_not_count_as_warp_error(moving):
    result = visual.warp_error(moving, dense_flow(moving))

    # The strip the block leaves behind, and the one it covers, cannot be explained by any flow.
    assert 0.9 < result.detail["visible_share"] < 0.998


def test_warp_error_refuses_a_still_video(frozen):
    assert visual.warp_error(frozen, dense_flow(frozen)).status is Status.NO_MOTION


def test_noise_of_a_camera_is_no_motion(frozen):
    noise = np.random.default_rng(0).integers(-2, 3, frozen.shape)
    noisy = np.clip(frozen.astype(int) + noise, 0, 255).astype(np.uint8)

    assert 0 < change_levels(noisy) < 8
    assert not moves(noisy)


def test_seam_jump_compares_frame_0_only(moving):
    assert visual.seam_jump(moving, moving[0]).value == visual.SAME_PSNR_DB
    assert visual.seam_jump(moving, moving[-1]).value < 25


def test_frechet_distance_of_shifted_and_scaled_normals_is_the_closed_form():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(4000, 3))
    base = (base - base.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base, rowvar=False))).T

    assert visual.frechet(base, base).value == pytest.approx(0, abs=1e-6)
    assert visual.frechet(base, base + np.array([3, 0, 0])).value == pytest.approx(9.0, abs=1e-6)
    assert visual.frechet(base, 2 * base).value == pytest.approx(3.0, abs=1e-6)  # per axis (2 - 1)^2


def test_kernel_distance_is_near_zero_for_one_distribution_and_grows_with_distance():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(60, 8)), rng.normal(size=(60, 8))
    same, near, far = (visual.kernel_distance(a, b + shift) for shift in (0.0, 1.0, 2.0))

    assert abs(same.value) < 3 * same.detail["subset_std"]
    assert same.value < near.value < far.value


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(2)
    draws = [visual.kernel_distance(*rng.normal(size=(2, 12, 4)), subsets=2).value for _ in range(300)]

    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(len(draws))


def test_features_of_clips_that_stand_still_are_refused():
    features = np.zeros((4, 2))

    assert visual.frechet(features, features, moving_share=0.2).status is Status.NO_MOTION
    assert visual.kernel_distance(features, features, moving_share=0.2).status is Status.NO_MOTION
