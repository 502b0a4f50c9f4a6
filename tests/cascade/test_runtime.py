"""The runtime on the real simulator, with the expert's video as the plan and the expert's hand as its reading."""

import json
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

import cascade.api
from cascade.compose import compose, execute
from cascade.config import load_recipe, load_rig
from cascade.contracts import (
    ActionChunk,
    ActionSpace,
    DataError,
    EeReadout,
    ImageTransform,
    IncompatibleError,
    Needs,
    SpaceKind,
    VideoPlan,
)
from cascade.contracts.plan_file import load_plan
from cascade.contracts.video import read_video
from cascade.events import NoRecord
from cascade.interrupt import StopRequest
from cascade.oracle import OracleConfig, OraclePlanner
from cascade.pipeline import Stages, build_stages, check_compatible
from cascade.plugins import build_plugin
from cascade.runtime import run_episode

ORACLE = ["planner.options.readout=true", "extractor.options.fuse=latents"]


@pytest.fixture(scope="module")
def rig():
    config = load_rig("sim")
    with build_plugin("rig", config.plugin, config.options) as rig:
        yield rig


@pytest.fixture(scope="module")
def stages():
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="unipi", planner="oracle", overrides=ORACLE)
    built = build_stages(run.recipe)
    yield built
    built.close()


@dataclass
class Events(NoRecord):
    """Keeps events and plans."""

    rows: list = field(default_factory=list)
    plans: list = field(default_factory=list)

    def event(self, kind, **values):
        self.rows.append({"kind": kind, **values})

    def plan(self, index, plan):
        self.plans.append(plan)

    def of(self, kind):
        return [row for row in self.rows if row["kind"] == kind]


def still_frames(observation):
    return np.repeat(observation.image("corner").rgb[None], 3, axis=0)


@dataclass
class Still:
    """A planner that imagines that nothing moves, of its own making."""

    needs: Needs = field(default_factory=lambda: Needs(cameras=("corner",)))
    seeds: list = field(default_factory=list)

    def plan(self, observation, instruction, *, seed, goal=None, samples=1):
        self.seeds.append(seed)
        rgb = observation.image("corner").rgb
        transform = ImageTransform(crop_px=(0, 0, *rgb.shape[1::-1]), size_px=rgb.shape[1::-1])
        plan = VideoPlan(
            instruction=instruction, camera="corner", transform=transform, frames=still_frames(observation), seed=seed
        )
        return [plan]


@dataclass
class Nudge:
    """An extractor that moves the hand a little, whatever the plan, in chunks of one target."""

    chunks: int = 1
    offset: tuple = (0.0, 0.02, 0.02)
    needs: Needs = field(default_factory=Needs)
    produces: ActionSpace = field(default_factory=ActionSpace)
    calls: list = field(default_factory=list)

    def extract(self, plan, observation):
        self.calls.append((plan.plan_id, observation.arm.position_m.copy()))
        pose = observation.arm.T_base_ee
        from cascade.recovery import quaternion

        values = np.concatenate([observation.arm.position_m + self.offset, quaternion(pose[:3, :3])])[None]
        final = sum(plan_id == plan.plan_id for plan_id, _ in self.calls) >= self.chunks
        return ActionChunk(values=values, gripper=np.ones(1), times_s=np.ones(1), final=final)


def recipe(*overrides):
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="unipi", overrides=overrides)
    return run.recipe


STILL_ALLOWED = recipe("gate.motion=false", "execution.replans=1")


def test_the_oracle_s_plan_opens_the_door_and_leaves_a_complete_run_folder(tmp_path):
    result = cascade.api.run(
        "open the door", planner="oracle", seed=3, overrides=["planner.options.readout=true", ORACLE[1]], runs=tmp_path
    )
    assert (result.success, result.outcome, result.failure_stage, result.exit_code) == (True, "success", "none", 0)
    folder = Path(result.run_dir)
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "done"
    assert facts["outcome"] == "success"
    assert (facts["task"], facts["seed"], facts["planner"], facts["extractor"]) == ("door-open", 3, "oracle", "idm")
    plan = load_plan(folder / "plans" / "000")
    assert len(plan) == 17
    assert plan.provenance["expert_succeeded"] is True
    rows = [json.loads(line) for line in (folder / "trajectory.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, result.steps + 1))
    assert rows[-1]["success"]
    assert set(rows[0]) >= {
        "step",
        "t_s",
        "plan",
        "chunk",
        "index",
        "target",
        "sent",
        "gripper_target",
        "ee",
        "opening",
    }
    chunk = json.loads((folder / "chunks" / "000.json").read_text())
    assert rows[0]["target"] == pytest.approx(chunk["values"][0], abs=1e-5)
    assert set(chunk) >= {"plan", "gripper", "times_s", "hold_s", "tolerance_m", "confidence", "final", "provenance"}
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert {event["kind"] for event in events} == {
        "episode_begin",
        "stage",
        "plan",
        "chunk",
        "gate",
        "motion",
        "outcome",
    }
    assert [event["t_s"] for event in events] == sorted(event["t_s"] for event in events)
    frames = [json.loads(line) for line in (folder / "executed.jsonl").read_text().splitlines()]
    video, _ = read_video(folder / "executed.mp4")
    assert len(video) == len(frames)
    first = video[0].astype(float)
    assert np.abs(first - plan.frames[0]).mean() < 4, "the film begins with what the plan begins with"
    assert np.abs(first - video[-1]).mean() > 1, "the door has moved"


def test_a_plan_that_grasps_beside_the_thing_works_once_its_grasps_are_put_right_by_depth(rig):
    class Beside(OraclePlanner):
        """The expert's plan, its reading 5 cm off."""

        def plan(self, observation, instruction, **more):
            (plan,) = super().plan(observation, instruction, **more)
            plan.readout = replace(plan.readout, position_m=plan.readout.position_m + np.array([0.05, 0.0, 0.0]))
            return [plan]

    ended = {}
    for anchor in ("none", "depth"):
        recipe = load_recipe("best", [f"extractor.options.anchor={anchor}", "execution.replans=0"])
        planner = Beside(OracleConfig(readout=True))
        extractor = build_plugin("extractor", recipe.extractor.name, recipe.extractor.options)
        built = Stages(recipe=recipe, planner=planner, extractor=extractor, reader=None)
        ended[anchor] = run_episode(rig, built, instruction=None, task="shelf-place", seed=200).success
        built.close()

    assert ended == {"none": False, "depth": True}


def test_the_same_seed_gives_the_same_motion(rig, stages):
    ends = []
    for _ in range(2):
        result = run_episode(rig, stages, instruction=None, task="handle-press", seed=5)
        ends.append((result.steps, rig.arm.read().position_m.tolist()))
    assert ends[0] == ends[1]


def test_the_control_plans_from_another_layout_and_moves_in_the_true_one(rig, stages):
    told, control = Events(), Events()
    true = run_episode(rig, stages, instruction=None, task="button-press", seed=2, recorder=told)
    wrong = run_episode(rig, stages, instruction=None, task="button-press", seed=2, recorder=control, plan_layout=1002)
    assert true.success
    assert told.plans[0].provenance["layout_seed"] == 2
    assert control.plans[0].provenance["layout_seed"] == 1002
    apart = told.plans[0].readout.position_m[-1] - control.plans[0].readout.position_m[-1]
    assert np.linalg.norm(apart) > 0.02, "plans of different layouts end in different places"
    assert wrong.plans >= 1
    (begin,) = control.of("episode_begin")
    assert (begin["seed"], begin["plan_layout"]) == (2, 1002)
    assert rig.describe()["seed"] == 2, "the arm moves in the layout that was asked for"


def test_a_plan_in_which_nothing_moves_is_refused_before_the_arm_moves(rig):
    stages = Stages(recipe("execution.replans=2"), Still(), Nudge())
    events = Events()
    result = run_episode(rig, stages, instruction="x", task="reach", seed=0, recorder=events)
    assert (result.outcome, result.failure_stage, result.exit_code) == ("rejected", "gate", 4)
    assert result.steps == 0
    assert result.plans == 3
    assert stages.planner.seeds == [0, 1, 2]
    assert "Hardly anything moves" in result.verdict
    assert not events.of("motion")


def test_after_a_plan_without_success_the_arm_goes_back_and_plans_again(rig):
    stages = Stages(STILL_ALLOWED, Still(), Nudge(chunks=2))
    events = Events()
    result = run_episode(rig, stages, instruction="x", task="door-open", seed=0, recorder=events)
    assert (result.outcome, result.failure_stage, result.exit_code) == ("failed", "motion", 6)
    assert result.plans == 2
    assert stages.planner.seeds == [0, 1]
    begun = [position for _, position in stages.extractor.calls]
    assert len(begun) == 4, "two chunks of each plan"
    assert np.linalg.norm(begun[1] - begun[0]) > 0.005, "an extractor continues from where the arm has got to"
    assert np.linalg.norm(begun[2] - begun[0]) < 0.03, "the second plan begins where the first one did"
    assert len(events.of("chunk")) == 5, "the way back is a chunk of its own"


def test_receding_execution_plans_again_from_where_the_arm_is(rig):
    settings = ("gate.motion=false", "execution.mode=receding", "execution.receding_plans=3")
    stages = Stages(recipe(*settings), Still(), Nudge())
    result = run_episode(rig, stages, instruction="x", task="door-open", seed=0)
    assert result.plans == 3
    begun = [position[2] for _, position in stages.extractor.calls]
    assert begun[0] < begun[1] < begun[2]


def test_a_target_outside_the_workspace_is_refused(rig):
    stages = Stages(recipe("gate.motion=false", "execution.replans=0"), Still(), Nudge(offset=(0, 0, 0.5)))
    result = run_episode(rig, stages, instruction="x", task="reach", seed=0)
    assert (result.outcome, result.failure_stage, result.steps) == ("rejected", "gate", 0)
    assert "outside the workspace" in result.verdict


@dataclass
class Fails(Nudge):
    """An extractor that fails."""

    error: Exception = field(default_factory=lambda: ValueError("bad pixels"))

    def extract(self, plan, observation):
        raise self.error


@pytest.mark.parametrize(("error", "code"), [(ValueError("bad pixels"), 2), (DataError("bad plan.", "Look at it."), 2)])
def test_an_error_of_a_stage_ends_the_episode_and_names_the_stage(rig, error, code):
    stages = Stages(STILL_ALLOWED, Still(), Fails(error=error))
    result = run_episode(rig, stages, instruction="x", task="reach", seed=0)
    assert (result.outcome, result.failure_stage, result.success) == ("error", "extract", False)
    assert str(error).split(" ", 1)[0] in str(result.error)
    assert result.exit_code == code


class Endless(Nudge):
    """An extractor that never says that the plan is exhausted."""

    def extract(self, plan, observation):
        chunk = super().extract(plan, observation)
        return ActionChunk(values=chunk.values, gripper=chunk.gripper, times_s=chunk.times_s, final=False)


def test_an_episode_ends_at_its_horizon_whatever_the_extractor_says(rig):
    stages = Stages(STILL_ALLOWED, Still(), Endless(offset=(0, 0, 0)))
    result = run_episode(rig, stages, instruction="x", task="door-open", seed=0)
    assert result.outcome in ("failed", "error")
    assert result.steps <= rig.monitor.horizon


def test_a_reader_reads_before_the_extractor_does(rig):
    class Reader:
        def read(self, plan, observation):
            n = len(plan)
            return EeReadout(
                position_m=np.zeros((n, 3)),
                opening=np.ones(n),
                position_std_m=np.ones(n),
                opening_std=np.ones(n),
                source="test",
            )

    class Reads(Nudge):
        def extract(self, plan, observation):
            assert plan.readout is not None
            assert plan.readout.source == "test"
            return super().extract(plan, observation)

    result = run_episode(rig, Stages(STILL_ALLOWED, Still(), Reads(), Reader()), instruction="x", task="reach", seed=0)
    assert result.outcome != "error"
    assert "readout" in result.stage_ms


@pytest.mark.parametrize(
    ("planner", "extractor", "message"),
    [
        (Still(needs=Needs(cameras=("wrist",))), Nudge(), "planner 'embedded' knows the cameras wrist .* has corner"),
        (
            Still(),
            Nudge(produces=ActionSpace(kind=SpaceKind.JOINT_POSITION)),
            "extractor 'idm' and arm 'sawyer'.*kind",
        ),
        (Still(), Nudge(needs=Needs(cameras=("top",))), r"extractor 'idm' knows the cameras top"),
    ],
)
def test_stages_that_do_not_fit_are_refused_by_naming_both_sides(rig, planner, extractor, message):
    with pytest.raises(IncompatibleError, match=message):
        check_compatible(rig, Stages(load_recipe("unipi"), planner, extractor))


def test_missing_depth_is_found_before_anything_moves():
    config = load_rig("sim", ["options.depth=false"])
    rig = build_plugin("rig", config.plugin, config.options)
    with pytest.raises(IncompatibleError, match="needs depth"):
        check_compatible(rig, Stages(load_recipe("unipi"), Still(), Nudge(needs=Needs(depth=True))))


def test_an_extractor_of_latents_refuses_a_plan_without_them(rig):
    stages = Stages(STILL_ALLOWED, Still(), Nudge(needs=Needs(latent_space="ours-1")))
    result = run_episode(rig, stages, instruction="x", task="reach", seed=0)
    assert isinstance(result.error, IncompatibleError)
    assert result.steps == 0


def test_a_stop_request_from_another_thread_ends_the_episode_with_the_arm_holding(rig):
    stop = StopRequest()
    other = threading.Thread(target=stop.set)

    class StopsInMotion(Events):
        """Lets the other thread ask for the stop once the arm moves."""

        def step(self, number, *_):
            if number == 1:
                other.start()

    events = StopsInMotion()
    stages = Stages(STILL_ALLOWED, Still(), Endless(offset=(0, 0, 0.001)))
    result = run_episode(rig, stages, instruction="x", task="door-open", seed=0, recorder=events, stop=stop)
    other.join()
    assert result.outcome == "interrupted"
    assert result.exit_code == 130
    rig.clock.tick()  # a stop counts from the next control period on
    assert rig.arm.read().mode == "hold"
    assert events.rows[-1]["kind"] == "outcome"


def test_the_oracle_wants_an_episode_first(rig):
    rig.reset(task="reach", seed=0)
    with pytest.raises(DataError, match="expected an episode of a simulated task"):
        OraclePlanner(OracleConfig()).plan(rig.observe(), "x", seed=0)


def test_the_oracle_may_show_all_of_a_wide_image_so_that_readers_of_such_views_fit():
    wide = {"starts": "avdc", "width": 320, "height": 240}
    config = load_rig("sim", [f"options.{name}={value}" for name, value in wide.items()])
    planner = OraclePlanner(OracleConfig(camera="corner3", view="whole", readout=True, rig_options=wide))
    with build_plugin("rig", config.plugin, {**config.options, "cameras": ["corner3"]}) as rig:
        rig.reset(task="handle-press", seed=121)
        planner.begin(task="handle-press", seed=121)
        observation = rig.observe()
        plan = planner.plan(observation, "press the handle down", seed=0)[0]
        reading = build_plugin("extractor", "idm", {"fuse": "pixels"}).read(plan, observation)
    planner.close()

    assert plan.transform.crop_px == (0.0, 0.0, 320.0, 240.0)
    assert np.median(np.linalg.norm(reading.position_m - plan.readout.position_m, axis=1)) < 0.04


def test_an_oracle_whose_rig_begins_elsewhere_says_so():
    config = load_rig("sim", ['options.starts="avdc"'])
    planner = OraclePlanner(OracleConfig())
    with build_plugin("rig", config.plugin, config.options) as far:
        far.reset(task="door-open", seed=100)
        planner.begin(task="door-open", seed=100)
        with pytest.raises(IncompatibleError, match="another layout"):
            planner.plan(far.observe(), "open the door", seed=100)
    planner.close()


def test_an_instruction_that_names_no_scene_asks_for_the_task(tmp_path):
    run, _ = compose(
        instruction="sing a song", task=None, seed=0, rig="sim", recipe="unipi", planner="oracle", overrides=ORACLE
    )
    from cascade.contracts import ConfigError

    with pytest.raises(ConfigError, match=r"'sing a song'.*--task"):
        execute(run, runs=tmp_path)
    assert not list(tmp_path.iterdir())
