"""Choosing among plans: scorers, ranks, refusals, and what failed before."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.best_of import choose, ranked
from cascade.compose import compose
from cascade.config import load_rig, resolved
from cascade.contracts import Candidate, ConfigError, EeReadout, Limits, Needs, PluginError, VideoPlan
from cascade.events import NoRecord
from cascade.pipeline import Stages
from cascade.plugins import build_plugin
from cascade.runtime import run_episode
from cascade.scorers.consensus import Consensus
from cascade.scorers.paths import hand_path, path_distance_m
from cascade.testing.scenes import tabletop_observation, tabletop_plan

LIMITS = Limits(
    workspace_m=np.array([[-0.6, 0.2, -0.1], [0.6, 1.2, 0.8]]),
    max_speed_m_s=1.0,
    max_acceleration_m_s2=80.0,
    max_jerk_m_s3=8000.0,
    max_step_m=0.6,
    max_rotation_rad=0.6,
)
SETTINGS = [
    "extractor.options.fuse=latents",
    "sampling.samples=3",
    "sampling.scorers=[{name: consensus}]",
    "gate.motion=false",
    "execution.replans=1",
]


def recipe(*overrides):
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="unipi", overrides=[*SETTINGS, *overrides])
    return run.recipe


def shifted(plan, offset_m, *, frames=None):
    """The same plan with its hand led elsewhere, more so towards the end."""
    own, share = plan.readout, np.linspace(0, 1, len(plan))[:, None]
    readout = EeReadout(
        position_m=own.position_m + share * np.asarray(offset_m),
        opening=own.opening,
        position_std_m=own.position_std_m,
        opening_std=own.opening_std,
        progress=own.progress,
        source=own.source,
    )
    return VideoPlan(
        instruction=plan.instruction,
        camera=plan.camera,
        transform=plan.transform,
        frames=plan.frames if frames is None else frames,
        readout=readout,
        provenance={"planner": "shifted"},
    )


@pytest.fixture(scope="module")
def extractor():
    return build_plugin("extractor", "idm", {"fuse": "latents"})


@pytest.fixture(scope="module")
def table():
    observation = tabletop_observation()
    return observation, tabletop_plan(observation)


def stages_of(extractor, *scorers, overrides=()):
    built = tuple(build_plugin("scorer", name, {}) for name in scorers)
    return Stages(recipe(*overrides), None, extractor, None, built)


def test_the_odd_one_out_comes_last(extractor, table):
    observation, plan = table
    plans = [shifted(plan, (0.2, 0, 0)), shifted(plan, (0, 0.01, 0)), shifted(plan, (0, 0, 0.01))]
    choice = choose(stages_of(extractor, "consensus"), plans, observation, LIMITS)
    assert choice.best.sample in (1, 2)
    assert choice.ranked[-1].sample == 0
    assert choice.ranked[-1].scores["consensus"] > 0.05, "metres"
    assert "sample" in choice.why
    assert "consensus" in choice.why
    assert choice.values()["measures"] == [{"name": "consensus", "unit": "m", "higher_is_better": False}]


def test_a_plan_that_goes_where_one_failed_comes_behind_others(extractor, table):
    observation, plan = table
    plans = [shifted(plan, (d, 0, 0)) for d in (0, 0.01, 0.15)]
    stages = stages_of(extractor, "consensus")
    assert choose(stages, plans, observation, LIMITS).best.sample == 1
    failed = [hand_path(extractor.extract(tabletop_plan(observation), observation), observation.arm.position_m)]
    choice = choose(stages, plans, observation, LIMITS, failed)
    assert choice.best.sample == 2
    assert [one.avoided for one in choice.ranked] == [False, True, True]
    assert choice.ranked[1].sample == 1, "of those that are like the failed one the farthest first"
    assert choice.ranked[2].failed_m == pytest.approx(0.0, abs=1e-9)


def test_failures_can_be_forgotten(extractor, table):
    observation, plan = table
    plans = [plan, shifted(plan, (0.01, 0, 0)), shifted(plan, (0.15, 0, 0))]
    failed = [hand_path(extractor.extract(shifted(plan, (0, 0, 0)), observation), observation.arm.position_m)]
    stages = stages_of(extractor, "consensus", overrides=["sampling.avoid_m=0"])
    assert choose(stages, plans, observation, LIMITS, failed).best.sample == 1


def test_what_the_gate_refuses_comes_last_with_its_reason(extractor, table):
    observation, plan = table
    plans = [shifted(plan, (0, 3.0, 0)), shifted(plan, (0, 3.01, 0)), plan]
    choice = choose(stages_of(extractor, "consensus"), plans, observation, LIMITS)
    assert choice.best.sample == 2
    assert not choice.best.refused
    assert "workspace" in choice.ranked[1].refused
    assert "2 refused" in choice.why


def test_the_chosen_chunk_is_not_read_twice_where_it_is_the_whole_plan(extractor, table):
    observation, plan = table
    plans = [shifted(plan, (d, 0, 0)) for d in (0, 0.01, 0.3)]
    choice = choose(stages_of(extractor, "consensus"), plans, observation, LIMITS)
    assert choice.best.sample != choice.last_read
    assert choice.first_chunk is choice.best.chunk


def test_a_plan_read_in_parts_is_read_anew_unless_it_was_read_last(table):
    observation, plan = table
    in_parts = build_plugin("extractor", "idm", {"fuse": "latents", "steps": 4})
    stages = stages_of(in_parts, "consensus")
    near = [plan, shifted(plan, (0.01, 0, 0)), shifted(plan, (0.3, 0, 0))]
    choice = choose(stages, near, observation, LIMITS)
    assert choice.best.sample != choice.last_read
    assert choice.first_chunk is None
    again = choose(stages, near[::-1], observation, LIMITS)
    assert again.first_chunk is (again.best.chunk if again.best.sample == 2 else None)


def test_every_scorer_says_its_unit_and_prefers_the_true_plan_to_a_broken_one(extractor, table):
    observation, plan = table
    jumping = np.concatenate([plan.frames[:1], np.roll(plan.frames[1:], 25, axis=2)])
    true, broken = shifted(plan, (0, 0, 0)), shifted(plan, (0, 0, 0), frames=jumping)
    still = shifted(plan, (0, 0, 0), frames=np.repeat(plan.frames[:1], len(plan), axis=0))
    for name in ("physical", "first-frame", "consensus", "agreement"):
        scorer = build_plugin("scorer", name, {})
        assert scorer.measure.unit
        candidates = [Candidate(plan=p, chunk=extractor.extract(p, observation)) for p in (true, broken, still)]
        scores = scorer.score(candidates, observation)
        assert len(scores) == 3
        if name == "physical":
            assert scores[0] < scores[1]
            assert scores[2] is None, "a frozen plan would be perfect"
        if name == "agreement":
            assert scores[0] < 0.1, "the targets follow the reading, but for digging and overshoot"


def test_agreement_with_the_reading_falls_with_distance(extractor, table):
    observation, plan = table
    scorer = build_plugin("scorer", "agreement", {})
    chunk = extractor.extract(shifted(plan, (0, 0, 0)), observation)
    near, far = (Candidate(plan=shifted(plan, (d, 0, 0)), chunk=chunk) for d in (0.02, 0.2))
    low, high = scorer.score([near, far], observation)
    assert low < high


def test_a_plan_that_leaves_something_out_shows_in_its_progress(table):
    observation, plan = table
    scorer = build_plugin("scorer", "progress", {"options": {"fuse": "latents"}})
    jump = np.linspace(0, 1, len(plan))
    jump[8:] += 0.3
    uneven = shifted(plan, (0, 0, 0))
    uneven.readout = EeReadout(
        position_m=plan.readout.position_m,
        opening=plan.readout.opening,
        position_std_m=plan.readout.position_std_m,
        opening_std=plan.readout.opening_std,
        progress=jump / jump[-1],
        source="tabletop",
    )
    even, odd = scorer.score([Candidate(plan=plan, chunk=None), Candidate(plan=uneven, chunk=None)], observation)
    assert even == pytest.approx(1 / 16)
    assert odd > 0.2


def test_consensus_cannot_judge_one_plan_alone(extractor, table):
    observation, plan = table
    alone = Candidate(plan=plan, chunk=extractor.extract(shifted(plan, (0, 0, 0)), observation))
    assert Consensus().score([alone], observation) == [None]


@given(st.lists(st.one_of(st.none(), st.floats(-1e3, 1e3)), min_size=2, max_size=8), st.booleans())
def test_ranks_keep_the_order_and_their_mean(values, higher):
    ranks = ranked(values, higher)
    assert ranks.mean() == pytest.approx(0.5)
    assert ((ranks >= 0) & (ranks <= 1)).all()
    known = [(v if higher else -v, r) for v, r in zip(values, ranks, strict=True) if v is not None]
    for a, rank_a in known:
        for b, rank_b in known:
            assert (a > b) == (rank_a > rank_b)


def test_samples_without_a_scorer_are_a_mistake():
    with pytest.raises(ConfigError, match="scorer"):
        recipe("sampling.scorers=[]")


def test_an_unknown_scorer_is_named():
    run, _ = compose(
        instruction="x",
        task=None,
        seed=0,
        rig="sim",
        recipe="best-of-n",
        overrides=["sampling.scorers=[{name: consensos}]"],
    )
    with pytest.raises(PluginError, match="consensus"):
        resolved(run)


@dataclass
class Scattered:
    """Imagines three ways from where the hand is: two alike, the third elsewhere."""

    needs: Needs = field(default_factory=lambda: Needs(cameras=("corner",)))

    def plan(self, observation, instruction, *, seed, goal=None, samples=1):
        base = tabletop_plan(tabletop_observation(ee_m=observation.arm.position_m))
        frames = np.repeat(observation.image("corner").rgb[None], len(base), axis=0)
        offsets = [(0.15, 0, 0.1), (0, 0, 0.1), (0.01, 0, 0.1)]
        return [shifted(base, offset, frames=frames) for offset in offsets[:samples]]


@dataclass
class Choices(NoRecord):
    rows: list = field(default_factory=list)

    def event(self, kind, **values):
        if kind == "choice":
            self.rows.append(values)


def test_an_episode_runs_the_best_and_after_a_failure_another_way(extractor):
    config, events = load_rig("sim", ["options.arm_process=false"]), Choices()
    stages = Stages(recipe(), Scattered(), extractor, None, (build_plugin("scorer", "consensus", {}),))
    with build_plugin("rig", config.plugin, config.options) as rig:
        result = run_episode(rig, stages, instruction="x", task="basketball", seed=0, recorder=events)
    assert result.outcome == "failed"
    first, second = events.rows
    assert first["sample"] in (1, 2)
    assert second["sample"] == 0, "the two that are like the failed plan come behind"
    assert {row["avoided"] for row in second["candidates"]} == {True, False}
    assert len(result.stage_ms["choose"]) == 2


def test_distance_in_path_space_is_that_of_a_shift(table, extractor):
    observation, plan = table
    chunk = extractor.extract(shifted(plan, (0, 0, 0)), observation)
    path = hand_path(chunk, observation.arm.position_m)
    assert path_distance_m(path, path + np.array([0.03, 0, 0])) == pytest.approx(0.03)
