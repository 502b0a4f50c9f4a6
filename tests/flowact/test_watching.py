"""Following the object while a chunk is followed, and what is said about it."""

import numpy as np
import pytest

from cascade.contracts import CameraImage
from flowact.articulation import JointKind, Motion, Tracks
from flowact.follower import ObjectFollower, Pose
from flowact.grasping import Grasping
from flowact.handled import Handled, Mode
from flowact.pushing import Phase as Push
from flowact.pushing import Pushing
from flowact.reading import PlanReading
from flowact.scene import view_object
from flowact.surroundings import Surroundings
from flowact.verdict import LOOKS, STALL_LOOKS, Verdicts, along_path

SIZE, FRAMES = 96, 9
K = np.array([[120.0, 0, SIZE / 2], [0, 120.0, SIZE / 2], [0, 0, 1]])
RED, BROWN = (200, 30, 30), (110, 80, 60)


def scene(place, *, hidden=False, segmented=False):
    """A camera one metre over a table with a red box, 12 by 8 cm and 5 cm high, whose middle is over `place`."""
    T = np.eye(4)
    T[:3, :3] = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])
    T[:3, 3] = [0, 0, 1.0]
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    top = 1.0 - 0.05 - place[2]
    x, y = (u - SIZE / 2) / 120.0 * top, -(v - SIZE / 2) / 120.0 * top
    box = (np.abs(x - place[0]) < 0.06) & (np.abs(y - place[1]) < 0.04)
    if hidden:
        box &= x < -9
    rgb = np.where(box[..., None], RED, BROWN).astype(np.uint8)
    return CameraImage(
        rgb=rgb,
        K=K,
        stamp_s=0.0,
        depth_m=np.where(box, top, 1.0).astype(np.float32),
        segmentation=np.where(box, 1, -1).astype(np.int32) if segmented else None,
        segment_names={"object": (1,)} if segmented else {},
        T_base_cam=T,
    )


def moved_to(end, kind=JointKind.FREE):
    way = np.linspace(0, 1, FRAMES)[:, None] * np.asarray(end, dtype=float)
    length = float(np.linalg.norm(end))
    return Motion(
        kind=kind,
        axis=np.asarray(end) / length if kind is JointKind.PRISMATIC else np.zeros(3),
        origin_m=np.zeros(3),
        q=np.linspace(0, length, FRAMES) if kind is JointKind.PRISMATIC else np.zeros(FRAMES),
        shift_m=way,
        rms_px=0.0,
        evidence=0.0,
    )


def reading_of(motion, mode, image):
    mask = np.asarray(image.rgb[..., 0] == RED[0])
    view = view_object(image, mask)
    return PlanReading(
        handled=Handled(mode=mode, why="test", closes_at=2),
        motion=motion,
        tracks=Tracks(points_m=view.surface_m[None], uv=np.zeros((FRAMES, 1, 2)), weight=np.ones((FRAMES, 1))),
        view=view,
        mask=mask,
        robot=np.zeros_like(mask),
        support_m=0.0,
    )


@pytest.mark.parametrize("segment", ["object", None])
@pytest.mark.parametrize("kind", [JointKind.FREE, JointKind.PRISMATIC])
def test_an_object_that_moves_a_little_from_image_to_image_is_followed(kind, segment):
    segmented = segment is not None
    first = scene(np.zeros(3), segmented=segmented)
    follower = ObjectFollower(reading_of(moved_to([0.15, 0, 0], kind), Mode.PUSH, first), first, segment, np.zeros(3))
    for x in np.linspace(0, 0.15, 12):
        pose = follower.look(scene(np.array([x, 0, 0]), segmented=segmented), np.zeros(3), held=False)
        assert pose.seen
        assert pose.shift_m[0] == pytest.approx(x, abs=0.016)  # two pixels
        assert abs(pose.shift_m[2]) < 0.006


def test_a_hidden_object_stays_where_it_was_or_in_the_hand_that_holds_it():
    first = scene(np.zeros(3))
    reading = reading_of(moved_to([0, 0, 0.2]), Mode.GRASP, first)
    lying = ObjectFollower(reading, first, None, np.zeros(3))
    lying.look(scene(np.array([0.02, 0, 0])), np.zeros(3), held=False)
    pose = lying.look(scene(np.zeros(3), hidden=True), np.array([0, 0, 0.1]), held=False)
    assert not pose.seen
    np.testing.assert_allclose(pose.shift_m, [0.02, 0, 0], atol=0.012)
    held = ObjectFollower(reading, first, None, np.zeros(3))
    pose = held.look(scene(np.zeros(3), hidden=True), np.array([0, 0, 0.1]), held=True)
    assert not pose.seen
    np.testing.assert_allclose(pose.shift_m, [0, 0, 0.1], atol=1e-9)


def test_progress_is_the_share_of_the_planned_way_and_is_less_sure_while_hidden():
    first = scene(np.zeros(3))
    around = Surroundings(first, np.zeros((SIZE, SIZE), dtype=bool))
    for handling in (
        Grasping(reading_of(moved_to([0, 0, 0.2]), Mode.GRASP, first), around),
        Pushing(reading_of(moved_to([0, 0, 0.2], JointKind.PRISMATIC), Mode.PUSH, first), around, around),
    ):
        for z in (0.0, 0.05, 0.1, 0.2):
            seen = along_path(handling, Pose(shift_m=np.array([0, 0, z]), q=z, seen=True))
            hidden = along_path(handling, Pose(shift_m=np.array([0, 0, z]), q=z, seen=False))
            assert seen[0] == pytest.approx(z / 0.2, abs=0.02)
            assert 0 < seen[1] < hidden[1] <= 0.5


def test_an_object_that_is_not_in_the_lifted_hand_any_more_has_slipped_out():
    first = scene(np.zeros(3))
    around = Surroundings(first, np.zeros((SIZE, SIZE), dtype=bool))
    grasp = Grasping(reading_of(moved_to([0, 0, 0.2]), Mode.GRASP, first), around)
    grasp.at_grasp, grasp.phase = (np.zeros(3), np.zeros(3)), "carry"
    hand = np.array([0, 0, 0.1])

    def said(shift, opening, *, looks, seen=True):
        verdicts = Verdicts()
        verdicts.begin(Pose(shift_m=np.zeros(3)))
        openings = [0.4] + [opening] * looks
        return [verdicts.judge(grasp, Pose(shift_m=shift, seen=seen), hand, o).verdict for o in openings][-1]

    assert said(hand, 0.4, looks=LOOKS) == "on"  # in the hand
    assert said(np.zeros(3), 0.4, looks=LOOKS - 2) == "on"  # too few looks
    assert said(np.zeros(3), 0.4, looks=LOOKS) == "again"
    assert said(np.zeros(3), 0.4, looks=LOOKS, seen=False) == "on"  # hidden: nothing is known
    assert said(np.zeros(3), 1.0, looks=LOOKS) == "on"  # let go on purpose


def pushed(*, attempts, object_moves):
    first = scene(np.zeros(3))
    around = Surroundings(first, np.zeros((SIZE, SIZE), dtype=bool))
    push = Pushing(reading_of(moved_to([0.15, 0, 0], JointKind.PRISMATIC), Mode.PUSH, first), around, around)
    push.phase, push.before_q, push.attempts = Push.PUSH, 0.0, attempts
    verdicts, words = Verdicts(), []
    verdicts.begin(Pose(shift_m=np.zeros(3)))
    for x in np.linspace(0, 0.2, 2 * STALL_LOOKS):
        q = x if object_moves is None else min(x, object_moves)
        pose = Pose(shift_m=np.array([q, 0, 0]), q=q, seen=True)
        words.append(verdicts.judge(push, pose, push._contact() + np.array([x, 0, 0]), 0.0).verdict)
    return words


def test_a_fist_that_passes_what_it_pushes_comes_again_and_gives_up_when_nothing_ever_moves():
    assert set(pushed(attempts=1, object_moves=None)) == {"on"}
    assert "again" in pushed(attempts=1, object_moves=0.05)
    assert "again" in pushed(attempts=1, object_moves=0.0)
    stalled = pushed(attempts=2, object_moves=0.0)
    assert "replan" in stalled
    assert "again" not in stalled
