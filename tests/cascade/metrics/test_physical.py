"""Physical commonsense: each score tells a sound clip from one with its own fault."""

import numpy as np
import pytest

from cascade.metrics import Status, physical
from cascade.metrics.image_motion import Tracks, track


def test_masks_of_the_same_video_overlap_fully_and_of_elsewhere_not_at_all(moving, drawn, places):
    same = physical.motion_mask_iou(moving, moving)
    elsewhere = physical.motion_mask_iou(moving, drawn(places(y=44)))

    assert same.value == same.detail["spatial"] == same.detail["weighted"] == 1.0
    assert elsewhere.value < 0.2


def test_a_late_motion_overlaps_in_space_but_not_in_time(moving, drawn, places):
    late = drawn(np.concatenate([np.tile(places()[:1], (4, 1)), places()[::2]]))
    result = physical.motion_mask_iou(moving, late)

    assert result.detail["spatial"] > result.value + 0.2


def test_overlap_is_measured_against_two_real_takes(moving, drawn, places):
    other = drawn(places(y=24))
    raw = physical.motion_mask_iou(moving, other).value

    assert physical.motion_mask_iou(moving, other, repeat_iou=0.9).value == pytest.approx(min(1, raw / 0.9))


def test_a_morphing_block_is_less_rigid_than_a_moving_one(moving, mask):
    import cv2

    morphing = moving.copy()
    for t in range(len(moving)):
        u, v = np.meshgrid(np.arange(64, dtype=np.float32), np.arange(64, dtype=np.float32))
        bend = 1.2 * np.sin(0.9 * v + 1.1 * t)
        morphing[t] = cv2.remap(moving[t], u + bend.astype(np.float32), v, cv2.INTER_LINEAR)

    rigid = physical.rigid_residual(moving, mask).value
    assert rigid < 0.4
    assert physical.rigid_residual(morphing, mask).value > 1.7 * rigid


def test_tracks_follow_the_block(moving, inside):
    tracks = track(moving, inside)
    kept = tracks.alive[-1]

    assert kept.mean() > 0.6
    way = tracks.points_px[-1][kept] - tracks.points_px[0][kept]
    assert np.median(way, axis=0) == pytest.approx([24, 0], abs=0.5)


def test_fewer_tracks_survive_a_teleport(moving, drawn, places, inside):
    jump = places().copy()
    jump[5:] += [14, 22]

    assert physical.track_survival(drawn(jump), inside).value < physical.track_survival(moving, inside).value - 0.3


def test_an_object_that_vanishes_is_missed_and_one_that_is_hidden_excused(moving, drawn, places, mask):
    gone = drawn(places(), visible=np.arange(9) < 5)
    hidden = np.arange(9) >= 7

    assert physical.object_permanence(moving, mask).value > 0.9
    assert physical.object_permanence(gone, mask).value < 0.1
    back = drawn(places(), visible=~hidden)
    assert physical.object_permanence(back, mask).value < 0.1
    assert physical.object_permanence(back, mask, occluded=hidden).value > 0.9


def test_an_object_at_the_gripper_is_excused_and_one_that_vanishes_elsewhere_is_not(drawn, places, mask):
    gone = drawn(places(), visible=np.arange(9) < 6)
    hand = places() + 9.0

    held = physical.object_permanence(gone, mask, gripper_px=hand, reach_px=12)
    assert held.status is Status.UNAVAILABLE
    assert physical.object_permanence(gone, mask, gripper_px=hand + 40, reach_px=12).value < 0.1


def test_a_body_that_is_soon_lost_gets_no_rigid_residual(drawn, places, mask):
    gone = drawn(places(), visible=np.arange(9) < 3)

    assert physical.rigid_residual(gone, mask).why.endswith("of 8 steps")


def test_an_object_in_the_colours_of_the_table_is_not_judged(moving, mask):
    elsewhere = np.roll(mask, 40, axis=1)

    assert physical.object_permanence(moving, elsewhere).status is Status.UNAVAILABLE


def test_teleport_is_the_longest_step_over_the_longest_possible():
    path = np.array([[0, 0, 0], [0.1, 0, 0], [0.5, 0, 0]])
    result = physical.teleport(path, max_step_m=0.2)

    assert result.value == pytest.approx(2.0)
    assert result.detail["frame"] == 2
    assert physical.teleport(path * 0.05, max_step_m=0.2).status is Status.NO_MOTION


def test_a_drifting_camera_is_seen_and_a_moving_block_is_not_one(moving):
    drifting = np.stack([np.roll(frame, t // 2, axis=1) for t, frame in enumerate(moving)])

    assert physical.camera_stillness(moving).value < 0.5
    assert physical.camera_stillness(drifting).value == pytest.approx(4.0, abs=1.0)


def test_static_points_stay_in_place_unless_depth_drifts(moving, mask):
    depth = np.full(moving.shape[:3], 1.0, dtype=np.float32)
    K = np.array([[60.0, 0, 32], [0, 60.0, 32], [0, 0, 1]])
    static = np.ones_like(mask)
    static[18:40] = False
    drifting = depth * np.linspace(1, 1.1, len(depth), dtype=np.float32)[:, None, None]

    still = physical.three_d_consistency(moving, depth, K, static)
    assert still.value < 0.005
    drift = physical.three_d_consistency(moving, drifting, K, static)
    assert drift.value > 0.09
    assert drift.detail["size_drift"] > 5 * still.detail["size_drift"]
    lost = np.full_like(depth, np.nan)
    assert physical.three_d_consistency(moving, lost, K, static).status is Status.UNAVAILABLE


def tracks_of(path_px: np.ndarray) -> Tracks:
    offsets = np.array([[0, 0], [4, 0], [0, 4], [4, 4]], dtype=float)
    points = path_px[:, None] + offsets
    return Tracks(points, np.ones(points.shape[:2], dtype=bool))


@pytest.mark.parametrize(
    ("gripper", "direction", "want"),
    [("with it", (1.0, 0.0), 0.0), ("far away", (1.0, 0.0), 1.0), ("far away", (0.0, 1.0), 0.0)],
)
def test_what_moves_sideways_by_itself_is_unsupported(moving, gripper, direction, want):
    path = 20 + 2.0 * np.arange(9)[:, None] * np.array(direction)
    hand = path if gripper == "with it" else path + np.array([0, -40])

    result = physical.unsupported_motion(tracks_of(path), hand, reach_px=8, frames=moving)
    assert result.value == want


def test_an_object_at_rest_says_nothing_about_support(moving):
    path = np.full((9, 2), 20.0)

    assert physical.unsupported_motion(tracks_of(path), path, reach_px=8, frames=moving).status is Status.NO_MOTION
