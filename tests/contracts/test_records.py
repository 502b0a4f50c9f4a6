"""Records refuse what does not fit and say what was expected."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cascade.contracts import (
    ActionChunk,
    ActionSpace,
    ArmState,
    CameraImage,
    DataError,
    EeReadout,
    ImageTransform,
    Limits,
    PlanLatents,
    SpaceKind,
    VideoPlan,
)
from cascade.contracts.keyframes import keyframe_indices, path_progress
from cascade.contracts.plan_file import load_plan, save_plan
from cascade.contracts.video import read_video, write_mp4

K = np.array([[150.0, 0, 64], [0, 150, 64], [0, 0, 1]])


def rows(n: int) -> np.ndarray:
    return np.tile([0.0, 0.6, 0.2, 1, 0, 0, 0], (n, 1))


def plan(frames: np.ndarray | None = None, **kw: object) -> VideoPlan:
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8) if frames is None else frames
    transform = ImageTransform.centre_square(64, 48, 32)
    return VideoPlan(instruction="open the door", camera="corner", transform=transform, frames=frames, **kw)


def test_camera_image_refuses_float_pixels() -> None:
    with pytest.raises(DataError, match="uint8"):
        CameraImage(rgb=np.zeros((4, 4, 3)), K=K, stamp_s=0.0)


def test_camera_image_refuses_depth_of_another_size() -> None:
    with pytest.raises(DataError, match="depth_m"):
        CameraImage(rgb=np.zeros((4, 4, 3), np.uint8), depth_m=np.zeros((2, 2), np.float32), K=K, stamp_s=0.0)


def test_unknown_segment_names_the_known_ones() -> None:
    image = CameraImage(
        rgb=np.zeros((2, 2, 3), np.uint8),
        segmentation=np.zeros((2, 2), np.int32),
        segment_names={"door": (0,)},
        K=K,
        stamp_s=0.0,
    )
    assert image.mask("door").all()
    with pytest.raises(DataError, match="door"):
        image.mask("drawer")


def test_records_are_read_only() -> None:
    image = CameraImage(rgb=np.zeros((4, 4, 3), np.uint8), K=K, stamp_s=0.0)
    with pytest.raises(ValueError, match="read-only"):
        image.rgb[0, 0, 0] = 1


def test_arm_state_refuses_a_pose_that_is_no_rotation() -> None:
    with pytest.raises(DataError, match="rigid"):
        ArmState(q=np.zeros(7), T_base_ee=np.diag([2.0, 1, 1, 1]), gripper_opening=1.0, stamp_s=0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_chunk_refuses_values_that_are_not_finite(bad: float) -> None:
    values = rows(3)
    values[1, 0] = bad
    with pytest.raises(DataError, match="finite"):
        ActionChunk(values=values, gripper=np.ones(3), times_s=np.arange(3.0))


def test_chunk_refuses_quaternions_that_are_not_unit() -> None:
    values = rows(2)
    values[:, 3] = 0.5
    with pytest.raises(DataError, match="unit quaternion"):
        ActionChunk(values=values, gripper=np.ones(2), times_s=np.arange(2.0))


def test_chunk_refuses_time_that_runs_backwards() -> None:
    with pytest.raises(DataError, match="times_s"):
        ActionChunk(values=rows(2), gripper=np.ones(2), times_s=np.array([1.0, 0.5]))


def test_chunk_refuses_a_gripper_outside_its_range() -> None:
    with pytest.raises(DataError, match="gripper"):
        ActionChunk(values=rows(2), gripper=np.array([0.0, 1.5]), times_s=np.arange(2.0))


def test_empty_chunk_is_allowed_and_says_the_plan_is_done() -> None:
    chunk = ActionChunk(values=np.zeros((0, 7)), gripper=np.zeros(0), times_s=np.zeros(0))
    assert len(chunk) == 0
    assert chunk.final


def test_action_spaces_name_their_difference() -> None:
    here, there = ActionSpace(), ActionSpace(kind=SpaceKind.JOINT_POSITION)
    assert here.mismatch(ActionSpace(rate_hz=80)) is None
    assert "kind" in (here.mismatch(there) or "")


def test_limits_refuse_an_inverted_workspace() -> None:
    with pytest.raises(DataError, match="workspace_m"):
        Limits(
            workspace_m=np.array([[0, 0, 1.0], [1, 1, 0]]),
            max_speed_m_s=1,
            max_acceleration_m_s2=1,
            max_jerk_m_s3=1,
            max_step_m=1,
            max_rotation_rad=1,
        )


def test_plan_decodes_once_and_only_when_asked() -> None:
    calls = []

    def decode() -> np.ndarray:
        calls.append(1)
        return np.zeros((5, 32, 32, 3), np.uint8)

    transform = ImageTransform.centre_square(64, 64, 32)
    lazy = VideoPlan(instruction="x", camera="corner", transform=transform, decode=decode, length=5)
    assert len(lazy) == 5
    assert not calls
    assert lazy.frames is lazy.frames
    assert len(calls) == 1


@given(st.integers(40, 400), st.integers(40, 400), hnp.arrays(float, (7, 2), elements=st.floats(0, 128)))
def test_image_transform_and_intrinsics_agree(width: int, height: int, uv: np.ndarray) -> None:
    transform = ImageTransform.centre_square(width, height, 128)
    rays = np.c_[uv, np.ones(7)] @ np.linalg.inv(transform.intrinsics(K)).T
    camera_uv = (rays / rays[:, 2:]) @ K.T
    np.testing.assert_allclose(camera_uv[:, :2], transform.to_camera(uv), atol=1e-6)


def test_plan_file_round_trip_is_exact(tmp_path: Path) -> None:
    readout = EeReadout(
        position_m=np.ones((5, 3)),
        opening=np.ones(5),
        position_std_m=np.ones(5),
        opening_std=np.ones(5),
        source="test",
    )
    latents = PlanLatents(values=np.ones((5, 2, 4, 4), np.float32), space="s")
    before = plan(latents=latents, readout=readout, seed=3, provenance={"planner": "test"})
    after = load_plan(save_plan(before, tmp_path).parent)
    np.testing.assert_array_equal(before.frames, after.frames)
    assert after.readout is not None
    assert after.readout.progress is None
    assert after.latents is not None
    assert (after.plan_id, after.seed, after.latents.space) == (before.plan_id, 3, "s")
    assert after.transform == before.transform


def test_corrupt_plan_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "plan.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="broken"):
        load_plan(tmp_path)
    with pytest.raises(DataError, match="found none"):
        load_plan(tmp_path / "elsewhere")


@pytest.mark.parametrize("exact", [True, False])
def test_video_survives_the_codec(tmp_path: Path, exact: bool) -> None:
    y, x = np.mgrid[:64, :64]
    frames = np.stack([np.stack([x * 3, y * 3, (x + y + 8 * t) % 256 * 0 + 90], -1) for t in range(9)]).astype(np.uint8)
    write_mp4(tmp_path / "v.mp4", frames, 20.0, exact_colour=exact)
    back, fps = read_video(tmp_path / "v.mp4")
    assert fps == pytest.approx(20.0)
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 4
    part, _ = read_video(tmp_path / "v.mp4", start=3, count=2)
    np.testing.assert_array_equal(part, back[3:5])


@pytest.mark.parametrize("keyframe_every", [1, 4, 12])
def test_a_part_of_a_video_is_the_same_wherever_decoding_begins(tmp_path: Path, keyframe_every: int) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (30, 16, 16, 3), dtype=np.uint8).repeat(2, 1).repeat(2, 2)
    write_mp4(tmp_path / "v.mp4", frames, 20, keyframe_every=keyframe_every)
    whole, _ = read_video(tmp_path / "v.mp4")
    for start in range(30):
        part, _ = read_video(tmp_path / "v.mp4", start=start, count=3)
        np.testing.assert_array_equal(part, whole[start : start + 3])


def test_video_in_memory_and_broken_video() -> None:
    buffer = io.BytesIO()
    write_mp4(buffer, np.zeros((3, 16, 16, 3), np.uint8), 10)
    assert buffer.getvalue()[4:8] == b"ftyp"
    with pytest.raises(DataError, match="readable video"):
        read_video(io.BytesIO(b"not a video at all" * 50))


@given(st.integers(18, 120), st.integers(0, 10), st.integers(0, 2**31))
def test_keyframes_start_at_start_end_at_end_and_never_go_back(n: int, start: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.normal(0, 0.01, (n, 3)), axis=0)
    opening = np.clip(np.cumsum(rng.normal(0, 0.05, n)) + 0.5, 0, 1)
    index = keyframe_indices(position, opening, 16, start=start)
    assert index[0] == start
    assert index[-1] == n - 1
    assert np.all(np.diff(index) >= 0)


def test_keyframes_keep_the_instant_of_a_grasp() -> None:
    way = np.concatenate([np.linspace(0, 0.4, 60), np.full(6, 0.4), np.linspace(0.4, 0.8, 60)])
    position = np.c_[way, np.zeros_like(way), np.zeros_like(way)]
    opening = np.concatenate([np.ones(60), np.linspace(1, 0.3, 6), np.full(60, 0.3)])
    index = keyframe_indices(position, opening, 16)
    assert np.sum((index >= 60) & (index < 66)) >= 2
    assert path_progress(position, opening)[0] == 0.0


def test_another_reading_leaves_the_plan_as_it_is_and_decodes_nothing() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    asked = []

    def decode() -> np.ndarray:
        asked.append(1)
        return frames

    undrawn = VideoPlan(
        instruction="open the door",
        camera="corner",
        transform=ImageTransform.centre_square(64, 48, 32),
        decode=decode,
        length=3,
        provenance={"planner": "x"},
    )
    n = np.ones(3)
    read = undrawn.with_readout(
        EeReadout(position_m=np.zeros((3, 3)), opening=n, position_std_m=n, opening_std=n, source="test")
    )

    assert (read.plan_id, read.provenance, len(read)) == (undrawn.plan_id, undrawn.provenance, 3)
    assert read.readout is not None
    assert undrawn.readout is None
    assert not asked
    np.testing.assert_array_equal(read.frames, frames)
    assert undrawn.frames is read.frames
    assert len(asked) == 1


def test_what_can_be_seen_of_a_plan_has_a_name_of_its_own_and_nothing_else() -> None:
    whole = plan(provenance={"planner": "x"}, seed=4)
    seen = whole.pixels_only()

    assert seen.plan_id != whole.plan_id
    assert (seen.readout, seen.latents, seen.provenance, seen.seed) == (None, None, {}, 4)
    np.testing.assert_array_equal(seen.frames, whole.frames)


def test_a_camera_image_is_cropped_and_scaled_as_the_plan_shows_it() -> None:
    rgb = np.random.default_rng(2).integers(0, 255, (128, 160, 3), dtype=np.uint8)
    crop = ImageTransform(crop_px=(32, 16, 96, 96), size_px=(96, 96))

    np.testing.assert_array_equal(crop.apply(rgb), rgb[16:112, 32:128])
    half = ImageTransform(crop_px=(32, 16, 96, 96), size_px=(48, 48)).apply(rgb)
    means = rgb[16:112, 32:128].reshape(48, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - means).max() <= 1
    assert ImageTransform(crop_px=(0, 0, 160, 128), size_px=(320, 64)).apply(rgb).shape == (64, 320, 3)


def test_a_mask_covers_the_plan_pixels_that_lie_half_inside_it_at_least() -> None:
    mask = np.zeros((8, 12), dtype=np.bool_)
    mask[:4, :5] = True
    seen = ImageTransform(crop_px=(0, 0, 8, 8), size_px=(4, 4)).apply_mask(mask)

    expected = np.zeros((4, 4), dtype=np.bool_)
    expected[:2, :3] = True  # the third column lies half inside
    np.testing.assert_array_equal(seen, expected)
