"""The two state machines, driven with what a camera and an arm would report."""

import numpy as np

from cascade.contracts import CameraImage, EeReadout
from flowact.articulation import JointKind, Motion, Tracks
from flowact.grasping import LIFT_M, Grasping
from flowact.handled import Handled, Mode, closing_frame, handled_by_gripper, handled_by_motion
from flowact.pushing import OVERSHOOT_M, Pushing
from flowact.reading import PlanReading
from flowact.scene import ObjectView
from flowact.session import Now
from flowact.surroundings import Surroundings

REST = np.array([0.1, 0.6, 0.03])
FRAMES = 17


def surface(centre):
    u = np.linspace(-0.02, 0.02, 5)
    return np.asarray(centre) + np.stack(np.meshgrid(u, u, [0.0]), axis=-1).reshape(-1, 3)


def view(centre):
    points = surface(centre)
    return ObjectView(uv=np.zeros((len(points), 2)), points_m=points, half_width_m=0.0, ray=np.array([0.0, 0.0, -1.0]))


def empty_scene():
    size = 64
    T = np.eye(4)
    T[:3, :3] = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])
    T[:3, 3] = [0.1, 0.6, 1.0]
    image = CameraImage(
        rgb=np.zeros((size, size, 3), dtype=np.uint8),
        K=np.array([[60.0, 0, 32], [0, 60.0, 32], [0, 0, 1]]),
        stamp_s=0.0,
        depth_m=np.ones((size, size), dtype=np.float32),
        T_base_cam=T,
    )
    return Surroundings(image, np.zeros((size, size), dtype=bool))


def reading(motion, mode, *, releases=False):
    tracks = Tracks(points_m=REST[None], uv=np.zeros((FRAMES, 1, 2)), weight=np.ones((FRAMES, 1)))
    return PlanReading(
        handled=Handled(mode=mode, why="test", closes_at=4, releases=releases),
        motion=motion,
        tracks=tracks,
        view=view(REST),
        mask=np.zeros((2, 2), dtype=bool),
        robot=np.zeros((2, 2), dtype=bool),
        support_m=0.0,
    )


def motion(kind, *, axis=(0, 0, 0), q=None, shift=None):
    return Motion(
        kind=kind,
        axis=np.asarray(axis, dtype=float),
        origin_m=np.zeros(3),
        q=np.zeros(FRAMES) if q is None else q,
        shift_m=np.zeros((FRAMES, 3)) if shift is None else shift,
        rms_px=0.0,
        evidence=0.0,
    )


def carried():
    shift = np.zeros((FRAMES, 3))
    shift[5:, 2] = np.minimum(np.arange(1, 13) * 0.05, 0.25)
    shift[10:, 1] = np.arange(1, 8) * 0.04
    return motion(JointKind.FREE, shift=shift)


def run_grasp(grasping, *, held, calls=12):
    """Follow every step perfectly; the object comes along when `held`."""
    hand, thing, steps = np.array([0.0, 0.5, 0.2]), REST.copy(), []
    gripped = False
    for _ in range(calls):
        step = grasping.advance(Now(hand_m=hand, opening=0.5 if gripped else 1.0, view=view(thing)))
        steps.append(step)
        for waypoint in step.waypoints:
            near = np.linalg.norm(hand - thing) < 0.04
            gripped = held and waypoint.gripper < 0.5 and (gripped or near)
            if gripped:
                thing = thing + waypoint.position_m - hand
            hand = waypoint.position_m
        if step.final:
            break
    return steps, thing


def test_a_held_object_ends_where_the_plan_put_it():
    steps, thing = run_grasp(Grasping(reading(carried(), Mode.GRASP, releases=True), empty_scene()), held=True)
    assert steps[-1].final
    assert np.linalg.norm(thing - (REST + carried().shift_m[-1])) < 0.02
    assert steps[-1].waypoints[-1].gripper == 1.0  # let go


def test_the_gripper_is_open_until_it_is_between_the_fingers_and_then_dwells():
    grasping = Grasping(reading(carried(), Mode.GRASP), empty_scene())
    hover = grasping.advance(Now(hand_m=np.array([0.0, 0.5, 0.2]), opening=0.3, view=view(REST)))
    assert all(w.gripper == 1.0 for w in hover.waypoints)
    take = grasping.advance(Now(hand_m=hover.waypoints[-1].position_m, opening=1.0, view=view(REST)))
    grippers = [w.gripper for w in take.waypoints]
    closing = grippers.index(0.0)
    np.testing.assert_allclose(take.waypoints[closing].position_m, take.waypoints[closing - 1].position_m)
    assert take.waypoints[closing].hold_s >= 15 / 80 - 1e-9
    assert take.waypoints[-1].position_m[2] - take.waypoints[closing].position_m[2] >= LIFT_M - 1e-9


def test_an_object_that_does_not_follow_is_let_go_and_grasped_again():
    steps, _ = run_grasp(Grasping(reading(carried(), Mode.GRASP), empty_scene()), held=False)
    again = [i for i, s in enumerate(steps) if "again" in s.note]
    assert len(again) == 2  # three attempts in all
    assert steps[again[0]].waypoints[-1].gripper == 1.0
    assert steps[again[0] + 1].note == "hover"


def test_a_slip_told_after_the_last_target_is_answered_with_targets():
    grasping = Grasping(reading(carried(), Mode.GRASP), empty_scene())
    steps, _ = run_grasp(grasping, held=False, calls=20)
    assert steps[-1].final  # all attempts are used up
    grasping.slipped()
    step = grasping.advance(Now(hand_m=REST + 0.1, opening=0.5, view=view(REST)))
    assert step.final
    assert step.waypoints


def test_an_object_that_has_moved_is_grasped_where_it_is_now():
    grasping = Grasping(reading(carried(), Mode.GRASP), empty_scene())
    moved = REST + np.array([0.0, 0.02, 0.0])
    hover = grasping.advance(Now(hand_m=np.array([0.0, 0.5, 0.2]), opening=1.0, view=view(moved)))
    assert np.linalg.norm(hover.waypoints[-1].position_m[:2] - moved[:2]) < 0.005


def pushed(length=0.1):
    q = np.concatenate([np.zeros(5), np.linspace(0, length, 12)])
    shift = q[:, None] * np.array([0, 1.0, 0])
    return motion(JointKind.PRISMATIC, axis=(0, 1, 0), q=q, shift=shift)


def run_push(pushing, *, follows, calls=20):
    hand, thing, steps = np.array([0.0, 0.4, 0.2]), REST.copy(), []
    for _ in range(calls):
        step = pushing.advance(Now(hand_m=hand, opening=0.3, view=view(thing)))
        steps.append(step)
        for waypoint in step.waypoints:
            hand = waypoint.position_m
            if follows and abs(hand[2] - thing[2]) < 0.02 and abs(hand[0] - thing[0]) < 0.03:
                thing = thing.copy()
                thing[1] = max(thing[1], hand[1] + 0.02)
        if step.final:
            break
    return steps, thing


def test_a_push_starts_behind_the_object_with_a_fist_and_goes_past_the_planned_end():
    steps, thing = run_push(Pushing(reading(pushed(), Mode.PUSH), empty_scene(), empty_scene()), follows=True)
    assert steps[0].note == "behind the object"
    assert steps[0].waypoints[-1].position_m[1] < REST[1] - 0.04
    assert all(w.gripper == 0.0 for s in steps for w in s.waypoints)
    assert steps[-1].final
    assert 0.1 <= thing[1] - REST[1] <= 0.1 + OVERSHOOT_M + 0.03


def test_a_push_that_misses_comes_again_from_behind_and_gives_up_in_the_end():
    steps, _ = run_push(Pushing(reading(pushed(), Mode.PUSH), empty_scene(), empty_scene()), follows=False)
    assert sum(s.note == "behind the object" for s in steps) >= 2
    assert steps[-1].final


def readout(opening, z, xy=REST[:2]):
    n = len(opening)
    position = np.column_stack([np.tile(xy, (n, 1)), z])
    return EeReadout(
        position_m=position,
        opening=np.array(opening, dtype=float),
        position_std_m=np.full(n, 0.01),
        opening_std=np.full(n, 0.02),
        source="test",
    )


DOWN_AND_UP = np.array([0.15, 0.1, 0.06, 0.02, 0.02, 0.06, 0.12, 0.2])


def test_closing_low_on_the_object_and_rising_is_a_grasp():
    read = readout([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5], DOWN_AND_UP)
    handled = handled_by_gripper(read, REST)
    assert (handled.mode, handled.closes_at, handled.releases) == (Mode.GRASP, 4, False)
    let_go = readout([1, 1, 1, 1, 0.5, 0.5, 0.5, 1.0], DOWN_AND_UP)
    assert handled_by_gripper(let_go, REST).releases


def test_a_fist_made_on_the_way_or_elsewhere_is_a_push():
    on_the_way = readout([1, 0.7, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3], 0.15 + 0.01 * np.arange(8))
    assert handled_by_gripper(on_the_way, REST).mode is Mode.PUSH
    elsewhere = readout([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5], DOWN_AND_UP, xy=REST[:2] + 0.3)
    assert closing_frame(elsewhere, REST) is None
    assert handled_by_gripper(readout(np.ones(8), DOWN_AND_UP), REST).mode is Mode.PUSH


def test_without_a_readout_what_rises_beside_the_hand_is_carried():
    rise = np.column_stack([np.zeros(8), np.zeros(8), np.linspace(0, 0.2, 8)])
    px = np.column_stack([np.full(8, 60.0), 80 - np.linspace(0, 30, 8)])
    assert handled_by_motion(rise, px, px + np.array([3.0, -6.0])).mode is Mode.GRASP
    assert handled_by_motion(rise, px, np.tile([60.0, 20.0], (8, 1))).mode is Mode.PUSH
    assert handled_by_motion(rise * 0.1, px, px).mode is Mode.PUSH
