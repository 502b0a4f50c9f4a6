"""Two readings of one plan on a synthetic table: who is followed, where the gripper closes, and how sure that is."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.arbiter.comparison import FAR_M, NEAR_M, corrected
from cascade.arbiter.extractor import Arbiter
from cascade.arbiter.options import ArbiterConfig
from cascade.arbiter.statements import object_says
from cascade.config import StageConfig, load_recipe
from cascade.contracts import (
    ActionChunk,
    ActionSpace,
    DataError,
    DeviceError,
    EeReadout,
    IncompatibleError,
    Needs,
    PlanReader,
    PlanWatcher,
    SpaceKind,
    Watched,
)
from cascade.pipeline import build_stages
from cascade.testing import check_extractor, tabletop_observation, tabletop_plan
from cascade.testing.extractors import copy_of
from cascade.testing.scenes import OBJECT_M

UPRIGHT = (1.0, 0.0, 0.0, 0.0)
STD_M = 0.008


def chunk_through(points_m, gripper, *, final=True, confidence=None, **told):
    points = np.asarray(points_m, dtype=np.float64).reshape(-1, 3)
    return ActionChunk(
        values=np.hstack([points, np.tile(UPRIGHT, (len(points), 1))]),
        gripper=np.asarray(gripper, dtype=np.float64),
        times_s=np.arange(1, len(points) + 1) * 0.1,
        confidence=None if confidence is None else np.full(len(points), confidence),
        final=final,
        provenance=told,
    )


@dataclass
class Hand:
    """Follows the plan's own reading, moved by `off_m`."""

    off_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std_m: float = STD_M
    problem: Exception | None = None
    needs: Needs = field(default_factory=lambda: Needs(cameras=("corner",)))
    produces: ActionSpace = field(default_factory=ActionSpace)
    confidence: float = 0.6

    def read(self, plan, observation):
        if self.problem is not None:
            raise self.problem
        own = tabletop_plan(observation).readout
        spread = np.full(len(own.position_m), self.std_m)
        return EeReadout(
            position_m=own.position_m + np.array(self.off_m),
            opening=own.opening,
            position_std_m=spread,
            opening_std=spread,
            source="hand",
        )

    def extract(self, plan, observation):
        said = self.read(plan, observation)
        gripper = np.where(said.opening < 0.7, 0.0, 1.0)
        return chunk_through(said.position_m, gripper, confidence=self.confidence, extractor="hand")


@dataclass
class Thing:
    """Says where the object is and grasps it in three chunks; looks on twice a second."""

    at_m: tuple[float, float, float] = OBJECT_M
    mode: str = "grasp"
    told: dict = field(default_factory=dict)
    problem: Exception | None = None
    needs: Needs = field(default_factory=lambda: Needs(depth=True, extrinsics=True))
    produces: ActionSpace = field(default_factory=ActionSpace)
    watch_hz: float | None = 2.0
    shown: list = field(default_factory=list)
    calls: dict = field(default_factory=dict)

    def extract(self, plan, observation):
        if self.problem is not None:
            raise self.problem
        self.shown.append(plan.readout)
        number = self.calls[plan.plan_id] = self.calls.get(plan.plan_id, 0) + 1
        above = np.array(self.at_m) + np.array([0.0, 0.0, 0.1 / number])
        told = {"extractor": "thing", "mode": self.mode, "call": number, **self.told}
        return chunk_through([above], [1.0], final=number >= 3, **told)

    def watch(self, plan, observation):
        return Watched(verdict="again", why="seen by the object's extractor")


def tracks_of(points_px, shift_px, length=17, moves_from=10):
    uv = np.repeat(np.asarray(points_px, dtype=np.float64)[None], length, axis=0)
    uv[moves_from:] += np.asarray(shift_px) * np.linspace(0.2, 1, length - moves_from)[:, None, None]
    return {"uv": uv.tolist(), "kept": np.ones(uv.shape[:2], dtype=int).tolist()}


def heard(hand, thing, **options):
    observation = tabletop_observation()
    arbiter = Arbiter(hand, thing, ArbiterConfig(**options))
    return arbiter.extract(tabletop_plan(observation), observation)


def closes_at(chunk):
    return chunk.values[np.flatnonzero(chunk.gripper < 0.5)[0], :3]


def test_agreement_follows_the_hand_and_closes_between_the_two_contacts() -> None:
    off = np.array([0.02, -0.01, 0.0])

    chunk = heard(Hand(off_m=tuple(off)), Thing())

    said = chunk.provenance["arbiter"]
    assert (said["branch"], said["chosen"]) == ("agree", "hand")
    assert said["contact_mm"] == pytest.approx(1000 * np.linalg.norm(off), abs=0.1)
    config = ArbiterConfig()
    of_hand = STD_M**2 + config.plan_std_m**2
    left = 1 - of_hand / (of_hand + config.contact_std_m**2)  # of two Gaussians, what is left of the hand's error
    assert closes_at(chunk) == pytest.approx(np.array(OBJECT_M) + left * off, abs=1e-9)


def test_a_surer_hand_is_moved_less() -> None:
    moved = [
        heard(Hand(off_m=(0.01, 0.0, 0.0), std_m=std), Thing(), plan_std_m=0.001).provenance["arbiter"]["shift_mm"][0]
        for std in (0.002, 0.02)
    ]

    assert abs(moved[0]) < abs(moved[1]) < 10


def test_agreement_is_surer_and_disagreement_less_sure_than_the_hand_alone() -> None:
    agreed = heard(Hand(), Thing())
    contradicted = heard(Hand(), Thing(at_m=(0.4, 0.7, 0.04)))

    assert (agreed.confidence > 0.6).all()
    assert (contradicted.confidence < 0.6).all()
    assert (contradicted.confidence > 0).all()


@pytest.mark.parametrize(("hand_std_m", "chosen"), [(0.004, "hand"), (0.08, "object")])
def test_disagreement_follows_the_smaller_spread_and_says_by_how_much_they_differ(hand_std_m, chosen) -> None:
    chunk = heard(Hand(std_m=hand_std_m), Thing(at_m=(0.6, 0.7, 0.04)))

    said = chunk.provenance["arbiter"]
    assert (said["branch"], said["chosen"]) == ("disagree", chosen)
    assert said["contact_mm"] == pytest.approx(500, abs=1)
    assert "500" in said["why"]
    assert "shift_mm" not in said
    assert chunk.provenance["extractor"] == {"hand": "hand", "object": "thing"}[chosen]


def test_a_grasp_where_the_hand_never_closes_is_a_disagreement() -> None:
    @dataclass
    class Open(Hand):
        def extract(self, plan, observation):
            chunk = super().extract(plan, observation)
            return replace(chunk, gripper=np.ones(len(chunk)))

    said = heard(Open(), Thing()).provenance["arbiter"]

    assert said["branch"] == "disagree"
    assert "does not close" in said["why"]


def test_an_object_that_moves_the_other_way_is_a_disagreement_and_the_grasp_is_still_put_right() -> None:
    middle = [[64.0 + u, 60.0 + v] for u in (-1, 0, 1) for v in (-1, 0, 1)]
    there, back = tracks_of(middle, (-30.0, -20.0)), tracks_of(middle, (55.0, 40.0))
    same = heard(Hand(off_m=(0.02, 0, 0)), Thing(told={"tracks": there, "rms_px": 0.5})).provenance["arbiter"]
    other = heard(Hand(off_m=(0.02, 0, 0)), Thing(told={"tracks": back, "rms_px": 0.5})).provenance["arbiter"]

    assert same["branch"] == "agree"
    assert other["branch"] == "disagree"
    assert "ways" in other["why"]
    if other["chosen"] == "hand":
        assert other["shift_mm"] == same["shift_mm"]


def test_a_long_thing_may_be_held_anywhere_along_it() -> None:
    observation = tabletop_observation()
    plan = tabletop_plan(observation)
    row = [[u, 64.0] for u in np.linspace(20, 108, 12)]
    thing = object_says(
        chunk_through([OBJECT_M], [1.0], mode="grasp", tracks=tracks_of(row, (0, 0))), plan, observation, 0.02
    )
    spread, axes = np.linalg.eigh(thing.along)

    assert np.sqrt(spread[1]) > 0.1
    assert spread[0] == pytest.approx(0.0, abs=1e-9)
    assert abs(axes[:, 1] @ np.array([1.0, 0.0])) > 0.9


def test_who_alone_can_read_is_followed_and_the_reason_is_told() -> None:
    lost = heard(Hand(), Thing(problem=DataError("flow lost: expected the object, found none.")))
    strange = heard(Hand(problem=IncompatibleError("plan: another camera.")), Thing())

    assert (lost.provenance["extractor"], strange.provenance["extractor"]) == ("hand", "thing")
    assert "flow lost" in lost.provenance["arbiter"]["why"]
    assert "another camera" in strange.provenance["arbiter"]["why"]
    assert lost.confidence == pytest.approx(0.6)


def test_neither_can_read_is_one_error_that_names_both_reasons() -> None:
    with pytest.raises(DataError, match=r"another camera.*flow lost"):
        heard(Hand(problem=IncompatibleError("another camera.")), Thing(problem=DataError("flow lost.")))


def test_a_dead_device_is_nobodys_reading() -> None:
    with pytest.raises(DeviceError):
        heard(Hand(), Thing(problem=DeviceError("the camera is gone.")))


def test_the_object_is_shown_the_hand_and_the_plan_is_left_as_it_was() -> None:
    observation, thing = tabletop_observation(), Thing()
    plan = copy_of(tabletop_plan(observation))
    own = plan.readout

    Arbiter(Hand(off_m=(0.01, 0, 0)), thing, ArbiterConfig()).extract(plan, observation)

    assert thing.shown[0].source == "hand"
    assert plan.readout is own


def test_later_chunks_and_looks_are_those_of_the_chosen_one() -> None:
    observation = tabletop_observation()
    plan, hand, thing = tabletop_plan(observation), Hand(std_m=0.08), Thing(at_m=(0.6, 0.7, 0.04))
    arbiter = Arbiter(hand, thing, ArbiterConfig())
    assert isinstance(arbiter, PlanWatcher)
    assert arbiter.watch_hz is None

    chunks = [arbiter.extract(plan, observation) for _ in range(3)]

    assert [chunk.provenance["call"] for chunk in chunks] == [1, 2, 3]
    assert [chunk.final for chunk in chunks] == [False, False, True]
    assert arbiter.watch_hz == 2.0
    assert arbiter.watch(plan, observation).verdict == "again"
    other = copy_of(plan)
    followed = Arbiter(Hand(std_m=0.001), thing, ArbiterConfig())
    followed.extract(other, observation)
    assert followed.watch_hz is None
    assert followed.watch(other, observation).verdict == "on"


def test_it_keeps_the_contract_and_needs_only_what_neither_can_do_without() -> None:
    observation = tabletop_observation()
    arbiter = Arbiter(Hand(), Thing(), ArbiterConfig())

    check_extractor(arbiter, tabletop_plan(observation), observation)

    assert arbiter.needs == Needs()
    both = Arbiter(
        Hand(needs=Needs(depth=True, cameras=("a",))), Thing(needs=Needs(depth=True, cameras=("b",))), ArbiterConfig()
    )
    assert both.needs == Needs(depth=True, cameras=("a", "b"))


def test_two_kinds_of_action_cannot_be_compared() -> None:
    with pytest.raises(IncompatibleError, match="ee_pose"):
        Arbiter(Hand(), Thing(produces=ActionSpace(kind=SpaceKind.JOINT_POSITION)), ArbiterConfig())


@given(
    st.lists(st.tuples(*[st.floats(-1, 1)] * 3), min_size=1, max_size=8),
    st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05)),
)
def test_a_correction_fades_with_the_level_distance_and_never_lifts(points, level) -> None:
    values = np.hstack([np.array(points), np.tile(UPRIGHT, (len(points), 1))])
    shift = np.append(level, 0.0)

    moved = corrected(values, np.zeros(3), shift) - values

    away = np.linalg.norm(values[:, :2], axis=1)
    assert (np.linalg.norm(moved, axis=1) <= np.linalg.norm(shift) + 1e-12).all()
    assert np.allclose(moved[away < NEAR_M, :3], shift)
    assert not moved[away > FAR_M].any()
    assert not moved[:, 2:].any()


def test_the_recipe_asks_inverse_dynamics_and_flow_and_reads_by_itself() -> None:
    stages = build_stages(load_recipe("arbiter").model_copy(update={"planner": StageConfig(name="hold")}))
    try:
        assert isinstance(stages.extractor, Arbiter)
        assert isinstance(stages.hand_reader, PlanReader)
        assert not stages.extractor.needs.depth
    finally:
        stages.close()
