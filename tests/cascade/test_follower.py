import numpy as np
import pytest

from cascade.config import load_rig
from cascade.contracts import ActionChunk
from cascade.follower import STALL_STEPS, TIMEOUT_STEPS, MotionEnd, follow
from cascade.interrupt import StopRequest
from cascade.plugins import build_plugin
from cascade.recovery import quaternion, return_chunk


@pytest.fixture(scope="module")
def rig():
    config = load_rig("sim")
    with build_plugin("rig", config.plugin, config.options) as rig:
        yield rig


@pytest.fixture
def arm(rig):
    rig.reset(task="reach", seed=0)
    return rig.arm


def chunk(arm, offsets, **more):
    state = arm.read()
    values = np.zeros((len(offsets), 7))
    values[:, :3] = state.position_m + np.asarray(offsets)
    values[:, 3:] = quaternion(state.T_base_ee[:3, :3])
    n = len(values)
    return ActionChunk(values=values, gripper=np.ones(n), times_s=np.arange(1.0, n + 1), **more)


def test_targets_are_visited_in_order_and_reached_within_their_tolerance(rig, arm):
    asked = chunk(arm, [[0, 0.05, 0.05], [0.05, 0.05, 0.05]], tolerance_m=np.array([0.02, 0.01]))
    steps = []
    motion = follow(rig, asked, stop=StopRequest(), on_step=steps.append)
    assert motion.end is MotionEnd.DONE
    assert motion.steps == len(steps)
    assert [step.index for step in steps] == sorted(step.index for step in steps)
    for index in (0, 1):
        last = [step for step in steps if step.index == index][-1]
        assert np.linalg.norm(last.state.position_m - asked.values[index, :3]) < asked.tolerance_m[index]
    assert np.array_equal(steps[0].target, asked.values[0])


def test_a_target_is_held_for_its_time_although_it_is_reached_at_once(rig, arm):
    steps = []
    follow(rig, chunk(arm, [[0, 0, 0]], hold_s=np.array([0.25])), stop=StopRequest(), on_step=steps.append)
    assert len(steps) == round(0.25 * arm.spec.control_hz)


def test_a_target_that_cannot_be_reached_is_left_when_the_arm_stalls(rig, arm):
    under_the_table = chunk(arm, [[0, 0, -0.15], [0, 0, -0.4]], tolerance_m=np.array([0.02, 1e-6]))
    steps = []
    motion = follow(rig, under_the_table, stop=StopRequest(), on_step=steps.append)
    assert motion.end is MotionEnd.DONE
    last = [step for step in steps if step.index == 1]
    assert STALL_STEPS <= len(last) <= 3 * STALL_STEPS


def test_a_target_far_away_is_left_after_its_time_is_up(rig, arm):
    steps = []
    motion = follow(rig, chunk(arm, [[0.4, 0, 0], [-0.45, 0, 0]]), stop=StopRequest(), on_step=steps.append)
    assert motion.end is MotionEnd.DONE
    assert sum(step.index == 1 for step in steps) == TIMEOUT_STEPS
    assert steps[-1].state.position_m[0] > steps[-1].target[0] + 0.1


def test_a_stop_request_ends_the_motion_before_the_next_command_and_the_arm_holds(rig, arm):
    stop = StopRequest()
    steps = []

    def third(step):
        steps.append(step)
        if len(steps) == 3:
            stop.set()

    motion = follow(rig, chunk(arm, [[0, 0.2, 0]]), stop=stop, on_step=third)
    assert motion.end is MotionEnd.STOPPED
    assert motion.steps == 3
    for _ in range(20):
        rig.clock.tick()
    held = arm.read().position_m
    for _ in range(20):
        rig.clock.tick()
    assert np.linalg.norm(arm.read().position_m - held) < 5e-3


def test_only_the_first_targets_are_followed_when_a_count_is_given(rig, arm):
    steps = []
    asked = chunk(arm, [[0, 0.03, 0], [0, 0.06, 0], [0, 0.09, 0]])
    follow(rig, asked, stop=StopRequest(), on_step=steps.append, count=2)
    assert {step.index for step in steps} == {0, 1}


def test_success_ends_the_motion_at_once(rig, arm):
    goal = np.array(rig.world.raw_observation[-3:])
    target = chunk(arm, [[0, 0, 0], [0, 0, 0]])
    values = target.values.copy()
    values[:, :3] = goal
    target = ActionChunk(values=values, gripper=np.ones(2), times_s=np.array([1.0, 2.0]), hold_s=np.full(2, 4.0))
    steps = []
    motion = follow(rig, target, stop=StopRequest(), on_step=steps.append)
    assert motion.end is MotionEnd.SUCCESS
    assert steps[-1].success
    assert not any(step.success for step in steps[:-1])


def test_the_episode_s_horizon_ends_the_motion(rig, arm):
    steps = []
    motion = follow(
        rig, chunk(arm, [[0, -0.05, 0.1]], hold_s=np.array([60.0])), stop=StopRequest(), on_step=steps.append
    )
    assert motion.end is MotionEnd.HORIZON
    assert motion.steps == rig.monitor.horizon


def test_the_way_back_opens_lifts_and_ends_at_the_start_in_small_steps(rig, arm):
    start = arm.read()
    follow(rig, chunk(arm, [[0.1, 0.1, -0.05]]), stop=StopRequest(), on_step=lambda step: None)
    here = arm.read()
    back = return_chunk(here, start, 0.1, 0.1)
    assert np.all(back.gripper == 1)
    assert np.allclose(back.values[0, :3], here.position_m)
    assert back.values[:, 2].max() >= here.position_m[2] + 0.1 - 1e-9
    assert np.allclose(back.values[-1, :3], start.position_m)
    assert np.linalg.norm(np.diff(back.values[:, :3], axis=0), axis=1).max() <= 0.1
    follow(rig, back, stop=StopRequest(), on_step=lambda step: None)
    assert np.linalg.norm(arm.read().position_m - start.position_m) < 0.03


def test_a_hand_that_leaves_its_way_is_held(rig, arm):
    asked = chunk(arm, [[0, 0.15, 0.1]])
    seen = []

    def astray(hand_m):
        seen.append(hand_m)
        return len(seen) == 5

    motion = follow(rig, asked, stop=StopRequest(), on_step=lambda step: None, astray=astray)
    assert motion.end is MotionEnd.ASTRAY
    assert motion.steps == 5


def test_at_half_the_pace_the_hand_takes_longer_and_still_arrives(rig, arm):
    asked = chunk(arm, [[0, 0.12, 0.08]], tolerance_m=np.array([0.01]))
    quick = follow(rig, asked, stop=StopRequest(), on_step=lambda step: None)
    rig.reset(task="reach", seed=0)
    slow = follow(rig, asked, stop=StopRequest(), on_step=lambda step: None, pace=0.25)
    assert np.linalg.norm(rig.arm.read().position_m - asked.values[0, :3]) < 0.01
    assert slow.steps > 1.5 * quick.steps
