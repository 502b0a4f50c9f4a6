import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade.config import GateConfig
from cascade.contracts import (
    ActionChunk,
    ActionSpace,
    ArmState,
    CameraImage,
    ImageTransform,
    Limits,
    Observation,
    SpaceKind,
    Verdict,
    VideoPlan,
)
from cascade.gate import check_chunk, check_plan, motion_levels, psnr_db

BOX = np.array([[-0.4, 0.3, 0.0], [0.4, 0.9, 0.4]])
LIMITS = Limits(
    workspace_m=BOX,
    max_speed_m_s=1.0,
    max_acceleration_m_s2=10.0,
    max_jerk_m_s3=100.0,
    max_step_m=0.3,
    max_rotation_rad=0.4,
)
POSE = np.eye(4)
POSE[:3, 3] = (0.0, 0.6, 0.2)
STATE = ArmState(q=np.zeros(7), T_base_ee=POSE, gripper_opening=1.0, stamp_s=0.0)
SETTINGS = GateConfig()


def chunk(position, *, times_s=None, quaternion=(1.0, 0.0, 0.0, 0.0), **more):
    position = np.atleast_2d(np.asarray(position, dtype=np.float64)).reshape(-1, 3)
    n = len(position)
    times_s = np.arange(1, n + 1, dtype=np.float64) if times_s is None else np.asarray(times_s, dtype=np.float64)
    values = np.hstack([position, np.tile(quaternion, (n, 1))])
    return ActionChunk(values=values, gripper=np.ones(n), times_s=times_s, **more)


positions = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-2, 2))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(position=positions, margin=st.floats(0, 3), step=st.floats(0.01, 5))
def test_what_passes_lies_inside_the_workspace_and_within_the_step_limit(position, margin, step):
    limits = Limits(
        workspace_m=BOX,
        max_speed_m_s=0.5,
        max_acceleration_m_s2=1.0,
        max_jerk_m_s3=1.0,
        max_step_m=step,
        max_rotation_rad=1.0,
    )
    report = check_chunk(chunk(position), STATE, limits, GateConfig(workspace_margin_m=margin))
    if report.chunk is None:
        assert report.verdict is Verdict.REJECT
        assert report.violations
        return
    passed = report.chunk.values[:, :3]
    assert (passed >= BOX[0]).all()
    assert (passed <= BOX[1]).all()
    way = np.linalg.norm(np.diff(passed, axis=0, prepend=STATE.position_m[None]), axis=1)
    assert (way <= step).all()
    assert (way <= 0.5 * np.diff(report.chunk.times_s, prepend=0.0) + 1e-9).all()
    if report.verdict is Verdict.PASS:
        assert np.array_equal(passed, position)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(position=positions)
def test_every_check_is_reported_with_value_and_limit(position):
    report = check_chunk(chunk(position), STATE, LIMITS, GateConfig(workspace_margin_m=5.0, max_reach_m=9.0))
    names = {violation.check for violation in report.measured}
    assert {"targets", "finite numbers", "workspace", "step size", "reach", "nominal speed"} <= names
    assert all(np.isfinite(violation.value) for violation in report.measured)


def test_a_small_excess_is_clipped_and_a_large_one_refused():
    near = check_chunk(chunk([0.0, 0.6, -0.05]), STATE, LIMITS, GateConfig(workspace_margin_m=0.06))
    assert near.verdict is Verdict.CLIP
    assert near.chunk is not None
    assert near.chunk.values[0, 2] == 0.0
    assert near.violations[0].check == "workspace"
    assert near.violations[0].value == pytest.approx(0.05)
    far = check_chunk(chunk([0.0, 0.6, -0.07]), STATE, LIMITS, GateConfig(workspace_margin_m=0.06))
    assert far.verdict is Verdict.REJECT
    assert far.chunk is None


def test_clipping_keeps_gripper_holds_and_provenance():
    asked = chunk([[0, 0.6, 0.1], [0, 0.6, -0.02]], hold_s=np.array([0.0, 0.3]), provenance={"extractor": "x"})
    report = check_chunk(asked, STATE, LIMITS, SETTINGS)
    assert report.verdict is Verdict.CLIP
    assert report.chunk is not None
    assert report.chunk.provenance == {"extractor": "x"}
    assert np.array_equal(report.chunk.hold_s, asked.hold_s)


def test_a_jump_between_targets_is_refused_at_its_step():
    report = check_chunk(chunk([[0, 0.6, 0.2], [-0.3, 0.6, 0.2], [0.3, 0.6, 0.2]]), STATE, LIMITS, SETTINGS)
    assert report.verdict is Verdict.REJECT
    (violation,) = [v for v in report.violations if v.check == "step size"]
    assert violation.value == pytest.approx(0.6)
    assert violation.step == 2


def test_a_jump_from_the_hand_to_the_first_target_is_refused():
    report = check_chunk(chunk([0.35, 0.85, 0.2]), STATE, LIMITS, SETTINGS)
    assert [v.check for v in report.violations] == ["step size"]


def test_too_little_time_is_stretched():
    report = check_chunk(chunk([[0.2, 0.6, 0.2], [0.2, 0.8, 0.2]], times_s=[0.01, 0.02]), STATE, LIMITS, SETTINGS)
    assert report.verdict is Verdict.CLIP
    assert report.chunk is not None
    assert report.chunk.times_s == pytest.approx([0.2, 0.4])


def test_a_rotation_beyond_the_limit_is_refused_and_the_sign_of_a_quaternion_is_none():
    values = np.tile([0.0, 0.6, 0.2, 1.0, 0.0, 0.0, 0.0], (2, 1))
    values[1, 3:] *= -1
    same = ActionChunk(values=values, gripper=np.ones(2), times_s=np.array([1.0, 2.0]))
    assert check_chunk(same, STATE, LIMITS, SETTINGS).verdict is Verdict.PASS
    values = values.copy()
    values[1, 3:] = (np.cos(0.25), np.sin(0.25), 0, 0)
    turned = ActionChunk(values=values, gripper=np.ones(2), times_s=np.array([1.0, 2.0]))
    report = check_chunk(turned, STATE, LIMITS, SETTINGS)
    assert report.violations[0].check == "rotation"
    assert report.violations[0].value == pytest.approx(0.5)


def test_reach_is_measured_from_the_base_when_it_is_limited():
    report = check_chunk(chunk([0.0, 0.7, 0.2]), STATE, LIMITS, GateConfig(max_reach_m=0.7))
    assert [v.check for v in report.violations] == ["reach"]


def test_an_empty_chunk_may_end_a_plan_but_not_be_all_of_it():
    empty = ActionChunk(values=np.zeros((0, 7)), gripper=np.zeros(0), times_s=np.zeros(0))
    assert check_chunk(empty, STATE, LIMITS, SETTINGS, first=True).verdict is Verdict.REJECT
    assert check_chunk(empty, STATE, LIMITS, SETTINGS, first=False).verdict is Verdict.PASS
    endless = ActionChunk(values=np.zeros((0, 7)), gripper=np.zeros(0), times_s=np.zeros(0), final=False)
    assert check_chunk(endless, STATE, LIMITS, SETTINGS, first=False).verdict is Verdict.REJECT


def test_joint_targets_are_refused_since_their_limits_are_unknown():
    joints = ActionChunk(
        values=np.zeros((1, 6)),
        gripper=np.ones(1),
        times_s=np.ones(1),
        space=ActionSpace(kind=SpaceKind.JOINT_POSITION),
    )
    assert check_chunk(joints, STATE, LIMITS, SETTINGS).violations[0].check == "action space"


def noise(seed, shape=(96, 128, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def scene(rgb):
    return Observation(images={"corner": CameraImage(rgb=rgb, K=np.eye(3), stamp_s=0.0)}, arm=STATE)


def plan_of(frames):
    return VideoPlan(
        instruction="x",
        camera="corner",
        transform=ImageTransform(crop_px=(16, 0, 96, 96), size_px=(frames.shape[2], frames.shape[1])),
        frames=frames,
    )


def moving(first, levels=60):
    later = first.astype(np.int16)
    later[10:30, 10:40] = (later[10:30, 10:40] + levels) % 256
    return np.stack([first, later.astype(np.uint8)])


def test_a_plan_that_begins_with_what_the_camera_sees_passes_and_another_is_refused():
    rgb = noise(0)
    view = ImageTransform(crop_px=(16, 0, 96, 96), size_px=(96, 96)).apply(rgb)
    assert np.array_equal(view, rgb[:, 16:112])
    assert check_plan(plan_of(moving(view)), scene(rgb), SETTINGS).verdict is Verdict.PASS
    report = check_plan(plan_of(moving(view)), scene(noise(1)), SETTINGS)
    assert [v.check for v in report.violations] == ["first frame"]
    assert report.violations[0].value < report.violations[0].limit


def test_a_plan_in_which_nothing_moves_is_refused():
    rgb = noise(0)
    still = np.stack([rgb[:, 16:112]] * 3)
    report = check_plan(plan_of(still), scene(rgb), SETTINGS)
    assert [v.check for v in report.violations] == ["motion present"]
    assert report.violations[0].value == 0.0


def test_motion_of_a_small_object_counts_in_full_and_names_its_frame():
    first = np.full((100, 100, 3), 90, dtype=np.uint8)
    later = first.copy()
    later[:25, :20] = 190  # exactly 5 % of the pixels
    assert motion_levels(np.stack([first, first, later, first])) == (pytest.approx(100.0), 2)


def test_checks_that_are_off_do_not_decode_the_plan():
    def refuse():
        raise AssertionError("decoded")

    lazy = VideoPlan(
        instruction="x",
        camera="corner",
        transform=ImageTransform(crop_px=(0, 0, 96, 96), size_px=(96, 96)),
        decode=refuse,
        length=2,
    )
    report = check_plan(lazy, scene(noise(0)), GateConfig(first_frame=False, motion=False))
    assert report.verdict is Verdict.PASS
    assert not lazy.decoded


def test_psnr_has_its_textbook_value():
    a = np.full((4, 4, 3), 100, dtype=np.uint8)
    assert psnr_db(a, a + np.uint8(5)) == pytest.approx(10 * np.log10(255**2 / 25))
    assert psnr_db(a, a) == 99.0


def test_a_plan_of_another_size_than_the_camera_is_compared_at_its_own():
    rgb = np.repeat(np.repeat(noise(2, (24, 32, 3)), 4, axis=0), 4, axis=1)
    view = ImageTransform(crop_px=(16, 0, 96, 96), size_px=(48, 48)).apply(rgb)
    assert view.shape == (48, 48, 3)
    assert psnr_db(view, np.repeat(np.repeat(rgb[::4, 16:112:4], 2, axis=0), 2, axis=1)) > 40
