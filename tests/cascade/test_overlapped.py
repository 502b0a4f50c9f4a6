"""Plans that overlap: the seam, planning in the background, and whole episodes on the simulator."""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.background import Background
from cascade.compose import compose
from cascade.config import load_rig
from cascade.contracts import ActionChunk, EeReadout, ImageTransform, IncompatibleError, Needs, VideoPlan
from cascade.events import NoRecord
from cascade.pipeline import Stages
from cascade.plugins import build_plugin
from cascade.runtime import run_episode
from cascade.seam import ahead, blended, check_latency, may_leave, nearest_on, part

POINTS = st.lists(st.tuples(*[st.floats(-0.5, 0.5)] * 3), min_size=2, max_size=12)


def chunk_of(positions, gripper=None, hold=None, period_s=0.1):
    n = len(positions)
    values = np.hstack([np.asarray(positions, float).reshape(n, 3), np.tile([1.0, 0, 0, 0], (n, 1))])
    return ActionChunk(
        values=values,
        gripper=np.ones(n) if gripper is None else np.asarray(gripper, float),
        times_s=period_s * np.arange(1, n + 1),
        hold_s=None if hold is None else np.asarray(hold, float),
    )


def line(n, end=(0.0, 0.9, 0.2), start=(0.0, 0.6, 0.2)):
    return np.linspace(start, end, n + 1)[1:]


def test_a_new_plan_begins_at_the_target_nearest_the_hand():
    chunk = chunk_of(line(10))
    assert ahead(chunk, chunk.values[6, :3] + 0.001, gripper_then=1.0, gripper_now=1.0) == 6


def test_a_change_of_the_gripper_is_never_skipped():
    chunk = chunk_of(line(10), gripper=[1] * 4 + [0] * 6)
    assert ahead(chunk, chunk.values[9, :3], gripper_then=1.0, gripper_now=1.0) == 3


def test_nor_is_a_dwell():
    chunk = chunk_of(line(10), hold=[0, 0, 0.2] + [0] * 7)
    assert ahead(chunk, chunk.values[9, :3], gripper_then=1.0, gripper_now=1.0) == 2


def test_what_the_old_plan_gripped_is_not_let_go_by_the_new_one():
    chunk = chunk_of(line(10), gripper=[1] * 4 + [0] * 6)
    start = ahead(chunk, chunk.values[0, :3], gripper_then=1.0, gripper_now=0.0)
    assert start >= 4
    assert part(chunk, start).gripper.max() == 0


@settings(deadline=None, max_examples=40)
@given(POINTS, POINTS, st.integers(0, 5))
def test_blending_draws_towards_the_old_way_and_leaves_the_rest(new, old, count):
    new_chunk, old_chunk, hand = chunk_of(new), chunk_of(old), np.array([0.0, 0.0, 0.1])
    result = blended(new_chunk, old_chunk, hand, count)
    way = np.vstack([hand, old_chunk.values[:, :3]])
    before = np.array([np.linalg.norm(p - nearest_on(way, p)) for p in new_chunk.values[:, :3]])
    moved = np.linalg.norm(result.values[:, :3] - new_chunk.values[:, :3], axis=1)
    assert np.all(moved <= before + 1e-9), "never further than the old way is"
    assert np.all(moved[count:] == 0)
    np.testing.assert_array_equal(result.gripper, new_chunk.gripper)
    if count and before[0] > 1e-6:
        assert moved[0] == pytest.approx(before[0] * count / (count + 1), rel=1e-6), "most at the seam"


def test_blending_leaves_a_grasp_where_it_is():
    new = chunk_of(line(4), gripper=[1, 0, 0, 0])
    result = blended(new, chunk_of(line(4, end=(0.2, 0.9, 0.2))), np.array([0.0, 0.6, 0.2]), 3)
    np.testing.assert_array_equal(result.values, new.values)


@settings(deadline=None, max_examples=40)
@given(POINTS, st.integers(0, 12))
def test_a_part_keeps_targets_and_counts_time_from_its_start(points, start):
    chunk = chunk_of(points)
    rest = part(chunk, start)
    assert len(rest) == max(0, len(chunk) - start)
    if len(rest):
        assert rest.times_s[0] == pytest.approx(0.1)
        np.testing.assert_array_equal(rest.values, chunk.values[start:])


def test_a_chunk_is_not_left_where_the_gripper_changes():
    chunk = chunk_of(line(6), gripper=[1, 1, 0, 0, 0, 0], hold=[0, 0, 0.2, 0, 0, 0])
    assert [may_leave(chunk, done) for done in range(7)] == [True, True, False, True, True, True, True]


def test_too_slow_plans_are_refused_with_both_numbers():
    chunk = chunk_of(line(10))  # 10 targets per second
    check_latency(0.99, chunk)
    with pytest.raises(IncompatibleError, match=r"10 targets.*1\.5 s x 10 targets/s = 15\.0 targets"):
        check_latency(1.5, chunk)


@dataclass
class Ticks:
    s: float = 0.0

    def now_s(self):
        return self.s

    def tick(self):
        self.s += 0.1


def test_in_a_frozen_world_a_plan_is_ready_after_its_latency_of_simulated_time():
    clock = Ticks()
    background = Background(clock, frozen=True, latency_s=0.25)
    background.start(lambda: "plan")
    seen = []
    for _ in range(4):
        seen.append(background.ready)
        clock.tick()
    assert seen == [False, False, False, True]
    assert background.take() == "plan"
    assert not background.busy


def test_in_real_time_the_caller_goes_on_while_it_is_planned():
    background, go = Background(Ticks(), frozen=False), threading.Event()
    background.start(lambda: go.wait(10) and threading.current_thread().name)
    assert background.busy
    assert not background.ready
    go.set()
    assert background.take().startswith("cascade-plan")
    background.start(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        background.take()
    background.close()


@dataclass
class Straight:
    """Imagines the hand going straight to one place from wherever it is, a little beside it each time."""

    goal_m: tuple = (0.25, 0.75, 0.3)
    pause_s: float = 0.0
    needs: Needs = field(default_factory=lambda: Needs(cameras=("corner",)))
    starts: list = field(default_factory=list)

    def plan(self, observation, instruction, *, seed, goal=None, samples=1):
        time.sleep(self.pause_s)
        rgb, n = observation.image("corner").rgb, 17
        self.starts.append(observation.arm.position_m.copy())
        end = np.add(self.goal_m, (0, 0.01 * (len(self.starts) % 2), 0))
        readout = EeReadout(
            position_m=np.linspace(observation.arm.position_m, end, n),
            opening=np.ones(n),
            position_std_m=np.full(n, 0.01),
            opening_std=np.full(n, 0.01),
            source="straight",
        )
        size = rgb.shape[1::-1]
        return [
            VideoPlan(
                instruction=instruction,
                camera="corner",
                transform=ImageTransform(crop_px=(0, 0, *size), size_px=size),
                frames=np.repeat(rgb[None], n, axis=0),
                readout=readout,
                provenance={"planner": "straight"},
            )
        ]


@dataclass
class Told(NoRecord):
    rows: list = field(default_factory=list)
    sent: list = field(default_factory=list)

    def event(self, kind, **values):
        self.rows.append({"kind": kind, **values})

    def step(self, number, t_s, plan, chunk, step, look):
        self.sent.append(np.r_[plan, step.target])

    def of(self, kind):
        return [row for row in self.rows if row["kind"] == kind]


@pytest.fixture(scope="module")
def extractor():
    return build_plugin("extractor", "idm", {"fuse": "latents"})


def episode(extractor, planner, *overrides, clock="frozen", plans=4):
    settings_of = ["execution.mode=async", f"execution.receding_plans={plans}", "gate.motion=false", *overrides]
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="unipi", overrides=settings_of)
    config, told = load_rig("sim", [f"options.clock={clock}", "options.arm_process=false"]), Told()
    with build_plugin("rig", config.plugin, config.options) as rig:
        result = run_episode(
            rig, Stages(run.recipe, planner, extractor), instruction="x", task="basketball", seed=0, recorder=told
        )
        end = rig.arm.read().position_m
    return result, told, end


def test_a_frozen_episode_replans_on_the_way_without_a_jump_and_the_same_every_time(extractor):
    first, told, end = episode(extractor, planner := Straight(), "execution.latency_s=0.1")
    assert first.outcome == "failed", "nobody threw a ball"
    assert first.plans == 4
    assert len(told.of("seam")) == 3
    assert all(row["left"] < row["of"] for row in told.of("seam")), "the new plan took over while the old one ran"
    assert np.linalg.norm(np.diff(planner.starts[1:], axis=0), axis=1).min() > 0.005, "seen from further on each time"
    assert np.linalg.norm(end - [0.25, 0.75, 0.3]) < 0.08
    targets = np.array(told.sent)
    assert np.linalg.norm(np.diff(targets[:, 1:4], axis=0), axis=1).max() < 0.08, "metres between targets"
    again, _, same_end = episode(extractor, Straight(), "execution.latency_s=0.1")
    assert (again.steps, same_end.tolist()) == (first.steps, end.tolist())


def test_latency_in_a_frozen_world_lets_the_old_plan_go_on(extractor):
    early, late = Straight(), Straight()
    quick, _, _ = episode(extractor, early, "execution.latency_s=0", plans=2)
    slow, told, _ = episode(extractor, late, "execution.latency_s=0.4", plans=2)
    assert quick.plans == slow.plans == 2
    motions = [row["steps"] for row in told.of("motion")]
    assert motions[0] >= 0.4 * 80, "the first plan goes on until the second is ready"
    assert np.linalg.norm(early.starts[-1] - late.starts[-1]) < 1e-9, "both saw the scene at the same moment"


def test_an_episode_whose_plans_would_come_too_late_never_moves(extractor):
    result, told, _ = episode(extractor, Straight(), "execution.latency_s=30")
    assert (result.outcome, result.exit_code, result.steps) == ("error", 2, 0)
    assert result.failure_stage == "planner"
    assert "latency x rate" in result.error.problem
    assert "30 s" in result.error.problem
    assert not told.of("motion")


@pytest.mark.slow  # of a busy machine only the timeout would be seen
def test_in_real_time_the_arm_moves_while_the_next_plan_is_made(extractor):
    planner = Straight(pause_s=0.05)
    result, told, _ = episode(extractor, planner, "execution.receding_targets=2", clock="realtime", plans=3)
    assert result.plans == 3
    assert len(told.of("seam")) == 2
    assert result.steps > 10
