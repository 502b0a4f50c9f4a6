"""Extractors that look on while their chunks are followed, on the simulator."""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from cascade.compose import compose
from cascade.config import load_rig
from cascade.contracts import ActionChunk, ActionSpace, DataError, ImageTransform, Needs, VideoPlan
from cascade.contracts.watching import Watched
from cascade.events import NoRecord
from cascade.pipeline import Stages
from cascade.plugins import build_plugin
from cascade.recovery import quaternion
from cascade.runtime import run_episode
from cascade.watching import MOST_AGAIN, seen

ALLOWED = ("gate.motion=false", "execution.replans=1")


@dataclass
class Told(NoRecord):
    """Keeps events."""

    rows: list = field(default_factory=list)

    def event(self, kind, **values):
        self.rows.append({"kind": kind, **values})

    def of(self, kind):
        return [row for row in self.rows if row["kind"] == kind]


@dataclass
class Still:
    """A planner that imagines that nothing moves."""

    needs: Needs = field(default_factory=lambda: Needs(cameras=("corner",)))

    def plan(self, observation, instruction, *, seed, goal=None, samples=1):
        rgb = observation.image("corner").rgb
        size = rgb.shape[1::-1]
        transform = ImageTransform(crop_px=(0, 0, *size), size_px=size)
        frames = np.repeat(rgb[None], 3, axis=0)
        return [VideoPlan(instruction=instruction, camera="corner", transform=transform, frames=frames, seed=seed)]


@dataclass
class Looks:
    """Goes up in steps of 2 cm, and says of each look what it is told to."""

    says: object = "on"
    watch_hz: float | None = 10.0
    pause_s: float = 0.0
    needs: Needs = field(default_factory=Needs)
    produces: ActionSpace = field(default_factory=ActionSpace)
    extracted: list = field(default_factory=list)
    watched: list = field(default_factory=list)
    threads: set = field(default_factory=set)

    def extract(self, plan, observation):
        self.extracted.append((plan.plan_id, observation.arm.position_m.copy()))
        up = np.arange(1, 6)[:, None] * [0.0, 0.0, 0.02]
        turn = quaternion(observation.arm.T_base_ee[:3, :3])
        values = np.hstack([observation.arm.position_m + up, np.tile(turn, (5, 1))])
        return ActionChunk(values=values, gripper=np.ones(5), times_s=0.1 * np.arange(1, 6), final=True)

    def watch(self, plan, observation):
        self.threads.add(threading.current_thread().name)
        self.watched.append(observation)
        time.sleep(self.pause_s)
        word = self.says(len(self.watched)) if callable(self.says) else self.says
        if isinstance(word, Exception):
            raise word
        return Watched(verdict=word, why="because", progress=0.25, spread=0.1, object_m=(0.1, 0.2, 0.3))


@pytest.fixture(scope="module")
def rig():
    config = load_rig("sim", ["options.arm_process=false"])
    with build_plugin("rig", config.plugin, config.options) as entered:
        yield entered


def episode(rig, extractor, *overrides):
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="unipi", overrides=[*ALLOWED, *overrides])
    told = Told()
    stages = Stages(run.recipe, Still(), extractor)
    result = run_episode(rig, stages, instruction="x", task="door-open", seed=0, recorder=told)
    return result, told


def test_a_watcher_looks_at_its_rate_through_the_camera_of_the_plan(rig):
    extractor = Looks(watch_hz=rig.arm.spec.control_hz / 10)
    result, told = episode(rig, extractor, "execution.replans=0")
    assert len(extractor.extracted) == 1
    assert len(extractor.watched) == result.steps // 10 > 0
    assert set(extractor.watched[0].images) == {"corner"}
    heights = [look.arm.position_m[2] for look in extractor.watched]
    assert heights == sorted(heights), "each sees the arm as it is then"
    row = told.of("watch")[0]
    assert (row["verdict"], row["why"], row["progress"], row["spread"]) == ("on", "because", 0.25, 0.1)
    assert row["object_m"] == [0.1, 0.2, 0.3]
    assert (row["plan"], row["chunk"], row["step"]) == (0, 0, 10)


def test_one_that_does_not_want_to_look_is_not_asked(rig):
    extractor = Looks(watch_hz=None)
    result, told = episode(rig, extractor)
    assert result.failure_stage == "motion"
    assert not extractor.watched
    assert not told.of("watch")


def test_again_leaves_the_chunk_and_the_next_one_is_made_of_what_is_seen_now(rig):
    extractor = Looks(says=lambda count: "again" if count == 1 else "on")
    result, told = episode(rig, extractor, "execution.replans=0")
    assert result.plans == 1
    assert [row["end"] for row in told.of("motion")] == ["left", "done"]
    (first, began), (second, gone_on) = extractor.extracted
    assert first == second
    assert gone_on[2] > began[2] + 0.005
    np.testing.assert_allclose(gone_on, extractor.watched[0].arm.position_m, atol=0.01)


def test_again_without_end_gives_the_plan_up(rig):
    extractor = Looks(says="again", watch_hz=1000.0)
    result, _ = episode(rig, extractor, "execution.replans=0")
    assert (result.outcome, result.failure_stage) == ("failed", "motion")
    assert len(extractor.extracted) == MOST_AGAIN + 1


def test_replan_ends_the_attempt_and_the_next_plan_is_made(rig):
    extractor = Looks(says=lambda count: "replan" if count == 1 else "on")
    result, told = episode(rig, extractor)
    assert result.plans == 2
    assert len({plan_id for plan_id, _ in extractor.extracted}) == 2
    assert told.of("motion")[0]["end"] == "left"
    last, _ = episode(rig, Looks(says="replan"), "execution.replans=0")
    assert (last.outcome, last.failure_stage) == ("failed", "motion")
    assert "gave the plan up. because" in last.verdict


def test_a_look_that_fails_is_noted_and_the_arm_goes_on(rig):
    extractor = Looks(says=DataError("no depth there.", "Look elsewhere."))
    result, told = episode(rig, extractor, "execution.replans=0")
    assert told.of("motion")[0]["end"] == "done"
    assert all(row["error"] == "no depth there." for row in told.of("watch"))
    assert len(told.of("watch")) == len(extractor.watched) > 0
    assert result.failure_stage == "motion"


def test_a_verdict_that_nobody_knows_is_an_error_of_the_extractor(rig):
    result, _ = episode(rig, Looks(says="perhaps"))
    assert result.outcome == "error"
    assert "'perhaps'" in result.error.problem


@pytest.mark.parametrize("word", ["again", "replan"])
def test_in_other_modes_the_next_plan_takes_over(rig, word):
    for mode in ("receding", "async"):
        extractor = Looks(says=lambda count: word if count == 1 else "on")
        result, told = episode(rig, extractor, f"execution.mode={mode}", "execution.receding_plans=3")
        assert result.plans == 3, mode
        assert "left" in [row["end"] for row in told.of("motion")]
        assert result.failure_stage == "motion"


def test_in_real_time_the_control_loop_does_not_wait_for_a_slow_look():
    config = load_rig("sim", ["options.arm_process=false", "options.clock=realtime"])
    extractor = Looks(pause_s=0.3, watch_hz=20.0)
    with build_plugin("rig", config.plugin, config.options) as entered:
        result, told = episode(entered, extractor, "execution.replans=0")
    assert threading.current_thread().name not in extractor.threads
    due = result.steps // 4
    assert 0 < len(extractor.watched) < due, "looks that are due while another is judged are left out"
    assert len(told.of("watch")) == len(extractor.watched)


def test_a_look_is_through_one_camera_unless_only_the_rig_can_place_it(rig):
    rig.reset(task="door-open", seed=0)
    assert set(seen(rig, "corner").images) == {"corner"}
    assert set(seen(rig, "corner+corner2").images) == set(rig.cameras)
