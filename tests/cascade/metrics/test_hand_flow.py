"""A: the hand by flow against the hand as read, on a synthetic table whose hand is known."""

import numpy as np
import pytest

from cascade.contracts import DataError
from cascade.metrics.hand_flow import View, hand_agreement, hand_by_flow
from cascade.metrics.image_motion import forward_flow
from cascade.metrics.result import Status
from cascade.testing.scenes import START_M, camera_pose, intrinsics, tabletop_plan

PLAN = tabletop_plan()
FLOW = forward_flow(PLAN.frames)
VIEW = View(intrinsics(128), camera_pose())
READOUT = PLAN.readout
assert READOUT is not None
HAND = READOUT.position_m


def agree(hand: np.ndarray, flow: np.ndarray = FLOW):  # type: ignore[no-untyped-def,type-arg]
    return hand_agreement(hand, flow, VIEW, np.array(START_M))


def test_the_true_hand_and_the_flow_agree() -> None:
    result = agree(HAND)
    assert result.status is Status.MEASURED
    assert result.position is not None
    assert result.position < 0.08
    assert result.rms_m is not None
    assert result.rms_m < 0.03


def test_a_hand_that_goes_elsewhere_than_the_pixels_does_not_agree() -> None:
    mirrored = HAND.copy()
    mirrored[:, 0] = 2 * HAND[0, 0] - HAND[:, 0]
    assert agree(mirrored).position > 3 * agree(HAND).position


def test_a_plan_that_does_not_move_is_refused_not_consistent() -> None:
    frozen = np.zeros_like(FLOW)
    still = np.repeat(HAND[:1], len(HAND), axis=0)
    assert agree(still, frozen).status is Status.NO_MOTION
    assert agree(HAND, frozen).status is Status.NO_MOTION  # one of the two readings is enough
    assert agree(still).status is Status.NO_MOTION


def test_noise_on_a_frozen_plan_is_not_motion() -> None:
    rng = np.random.default_rng(0)
    frames = np.clip(PLAN.frames[:1] + rng.normal(0, 2, PLAN.frames.shape), 0, 255).astype(np.uint8)
    jitter = HAND[:1] + rng.normal(0, 0.002, HAND.shape)
    assert agree(jitter, forward_flow(frames)).status is Status.NO_MOTION


def test_flow_carries_the_hand_along_a_constant_motion() -> None:
    flow = np.zeros((4, 64, 64, 2), np.float32)
    flow[:, 20:40, 10:40, 0] = 2.0
    np.testing.assert_allclose(hand_by_flow(flow, np.array([20.0, 30.0]))[:, 0], [20, 22, 24, 26, 28])


def test_a_drifting_camera_does_not_carry_the_hand_along() -> None:
    flow = np.zeros((4, 64, 64, 2), np.float32)
    flow[:, 20:40, 10:40, 0] = 2.0
    drifting = flow + np.array([3.0, -1.0], np.float32)
    np.testing.assert_allclose(
        hand_by_flow(drifting, np.array([20.0, 30.0])), hand_by_flow(flow, np.array([20.0, 30.0])), atol=1e-4
    )


def test_a_hand_at_the_picture_s_edge_is_followed_without_falling_off() -> None:
    flow = np.full((3, 64, 64, 2), 5.0, np.float32)
    assert np.isfinite(hand_by_flow(flow, np.array([63.0, 63.0]))).all()


def test_the_view_knows_how_large_a_pixel_is() -> None:
    point = HAND[:1]
    step = 0.001 * camera_pose()[:3, 0]  # along the picture's rows
    moved = VIEW.pixels(point + step) - VIEW.pixels(point)
    assert np.linalg.norm(moved) * VIEW.metres_per_px(point) == pytest.approx(0.001, rel=1e-3)


def test_lengths_must_fit() -> None:
    with pytest.raises(DataError, match="positions"):
        agree(HAND[:-1])


def test_points_behind_the_camera_are_an_error() -> None:
    behind = camera_pose()[:3, 3] - camera_pose()[:3, 2]
    with pytest.raises(DataError, match="behind"):
        VIEW.pixels(behind[None])
