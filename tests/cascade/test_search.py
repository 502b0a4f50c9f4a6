"""Tree search over sub-goals: what the next level sees, how parts are joined, which branches are carried on."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from cascade.compose import compose
from cascade.contracts import ConfigError, EeReadout, Limits, Needs, VideoPlan
from cascade.pipeline import Stages
from cascade.plugins import build_plugin
from cascade.search import imagined, joined, search
from cascade.testing.scenes import tabletop_observation, tabletop_plan

LIMITS = Limits(
    workspace_m=np.array([[-0.9, 0.0, -0.2], [0.9, 1.4, 0.9]]),
    max_speed_m_s=1.0,
    max_acceleration_m_s2=80.0,
    max_jerk_m_s3=8000.0,
    max_step_m=0.6,
    max_rotation_rad=0.6,
)


@dataclass
class Fan:
    """Imagines the hand going on from where it is, in as many directions as asked for; darker with every level."""

    frames: int = 9
    needs: Needs = field(default_factory=lambda: Needs(cameras=("corner",)))
    seen: list = field(default_factory=list)
    seeds: list = field(default_factory=list)

    def plan(self, observation, instruction, *, seed, goal=None, samples=1):
        self.seen.append(observation)
        self.seeds.append(seed)
        rgb, start, n = observation.image("corner").rgb, observation.arm.position_m, self.frames
        base = tabletop_plan(tabletop_observation())
        plans = []
        for k in range(samples):
            steps = np.linspace(0, 1, n)[:, None] * np.array([0.05 * (k - 1), 0.1, 0.02])
            dark = np.clip(rgb.astype(np.int16)[None] - 3 * np.arange(n)[:, None, None, None], 0, 255)
            readout = EeReadout(
                position_m=start + steps,
                opening=np.full(n, observation.arm.gripper_opening),
                position_std_m=np.full(n, 0.01),
                opening_std=np.full(n, 0.01),
                source="fan",
            )
            plans.append(
                VideoPlan(
                    instruction=instruction,
                    camera="corner",
                    transform=base.transform,
                    frames=dark.astype(np.uint8),
                    readout=readout,
                    provenance={"planner": "fan", "ms": {"denoise": 1.0}},
                )
            )
        return plans


def stages_of(planner, *overrides):
    settings = [
        "extractor.options.fuse=latents",
        "gate.motion=false",
        "sampling.samples=3",
        "sampling.scorers=[{name: consensus}]",
        *overrides,
    ]
    run, _ = compose(instruction="x", task=None, seed=0, rig="sim", recipe="vlp", overrides=settings)
    extractor = build_plugin("extractor", "idm", {"fuse": "latents"})
    return Stages(run.recipe, planner, extractor, None, (build_plugin("scorer", "consensus", {}),))


def test_the_next_level_sees_the_last_frame_and_the_hand_where_it_was_imagined():
    observation = tabletop_observation()
    plan = tabletop_plan(observation)
    seen = imagined(observation, plan, 8, plan.readout)
    np.testing.assert_array_equal(seen.image("corner").rgb, plan.frames[8])
    np.testing.assert_allclose(seen.arm.position_m, plan.readout.position_m[8])
    assert seen.arm.gripper_opening == pytest.approx(plan.readout.opening[8])
    assert seen.image("corner").depth_m is None, "nobody knows how deep an imagined picture is"
    np.testing.assert_array_equal(observation.image("corner").rgb, plan.frames[0])


def test_joined_plans_are_one_film_without_a_doubled_frame():
    observation = tabletop_observation()
    planner = Fan()
    first = planner.plan(observation, "x", seed=0)[0]
    rest = planner.plan(imagined(observation, first, 4, first.readout), "x", seed=1)[0]
    whole = joined(first, first.readout, 4, rest, "0")
    assert len(whole) == 5 + 8
    assert len(whole.readout.position_m) == 13
    steps = np.linalg.norm(np.diff(whole.readout.position_m, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert np.abs(np.diff(whole.frames.astype(int), axis=0)).max() <= 3
    assert whole.provenance["ms"] == {"denoise": 2.0}
    assert whole.provenance["tree"]["cut"] == 4


def test_only_the_beam_is_carried_on_and_every_branch_has_a_seed_of_its_own():
    planner = Fan()
    stages = stages_of(planner, "sampling.search.keep_frames=4", "sampling.search.beam=2", "sampling.search.levels=3")
    plans = search(stages, tabletop_observation(), "x", seed=7, limits=LIMITS)
    assert len(plans) == 2 * 3, "beam x samples"
    assert len(planner.seen) == 1 + 2 + 2
    assert len(set(planner.seeds)) == 5
    assert all(len(plan) == 1 + 4 + 4 + 8 for plan in plans)
    middle = planner.seen[1].arm.position_m - planner.seen[0].arm.position_m
    assert middle[1] == pytest.approx(0.05), "half of the way has been imagined"
    again = Fan()
    same = search(
        stages_of(again, "sampling.search.keep_frames=4", "sampling.search.levels=3"),
        tabletop_observation(),
        "x",
        seed=7,
        limits=LIMITS,
    )
    np.testing.assert_array_equal(same[0].frames, plans[0].frames)


def test_a_cut_behind_the_end_is_a_mistake():
    stages = stages_of(Fan(), "sampling.search.keep_frames=9")
    with pytest.raises(ConfigError, match="keep_frames below 9"):
        search(stages, tabletop_observation(), "x", seed=0, limits=LIMITS)
