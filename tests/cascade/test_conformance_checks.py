"""The conformance checks accept stages that keep the contract and name what is wrong with those that do not."""

import dataclasses
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, Field

from cascade.contracts import (
    ActionChunk,
    ActionSpace,
    EeReadout,
    ImageTransform,
    IncompatibleError,
    Needs,
    Observation,
    PlanLatents,
    PluginConfig,
    PluginError,
    PluginSpec,
    VideoPlan,
)
from cascade.testing import (
    check_extractor,
    check_planner,
    check_plugin_spec,
    check_reader,
    tabletop_observation,
    tabletop_plan,
)

OBSERVATION = tabletop_observation()
PLAN = tabletop_plan(OBSERVATION)
WHOLE = ImageTransform(crop_px=(0, 0, 128, 128), size_px=(128, 128))


class StillPlanner:
    """Keeps the contract; subclasses break one clause each."""

    needs = Needs(cameras=("corner",))

    def plan(
        self, observation: Observation, instruction: str, *, seed: int, goal: Any = None, samples: int = 1
    ) -> list[VideoPlan]:
        return [self.one(observation, instruction, seed) for _ in range(samples)]

    def one(self, observation: Observation, instruction: str, seed: int, /, **changes: Any) -> VideoPlan:
        frames = np.repeat(observation.image("corner").rgb[None], 5, axis=0)
        given = {
            "instruction": instruction,
            "camera": "corner",
            "transform": WHOLE,
            "frames": frames,
            "seed": seed,
            "provenance": {"planner": "still"},
        }
        return VideoPlan(**{**given, **changes})


def changed(**changes: Any) -> StillPlanner:
    class Planner(StillPlanner):
        def one(self, observation: Observation, instruction: str, seed: int, /, **_: Any) -> VideoPlan:
            values = {name: value(observation) if callable(value) else value for name, value in changes.items()}
            return super().one(observation, instruction, seed, **values)

    return Planner()


class Restless(StillPlanner):
    noise = np.random.default_rng(0)

    def one(self, observation: Observation, instruction: str, seed: int, /, **_: Any) -> VideoPlan:
        frames = np.repeat(observation.image("corner").rgb[None], 5, axis=0)
        frames[1:] = self.noise.integers(0, 255, frames[1:].shape)
        return super().one(observation, instruction, seed, frames=frames)


class OnlyOne(StillPlanner):
    def plan(self, *args: Any, **options: Any) -> list[VideoPlan]:
        return super().plan(*args, **{**options, "samples": 1})


class Crashing(StillPlanner):
    def plan(self, observation: Observation, *args: Any, **options: Any) -> list[VideoPlan]:
        if not observation.images:
            raise KeyError("corner")
        return super().plan(observation, *args, **options)


def upside_down(observation: Observation) -> np.ndarray:
    return np.repeat(observation.image("corner").rgb[None, ::-1], 5, axis=0)


def test_a_planner_that_keeps_the_contract_passes() -> None:
    assert len(check_planner(StillPlanner(), OBSERVATION, "wait")) == 5


@pytest.mark.parametrize(
    ("planner", "clause"),
    [
        (object(), "missing: needs, plan"),
        (changed(instruction="something else"), "instruction"),
        (changed(camera="nowhere"), "camera"),
        (changed(frames=upside_down), "frame 0"),
        (changed(transform=ImageTransform(crop_px=(-8, 0, 128, 128), size_px=(128, 128))), "crop inside"),
        (changed(provenance={}), "provenance"),
        (changed(provenance={"digest": np.float32(1)}), "provenance"),
        (changed(provenance={"loss": float("nan")}), "provenance"),
        (changed(plan_id="always"), "plan_id"),
        (changed(latents=PlanLatents(values=np.zeros((6, 8, 4, 4), np.float32), space="x")), "latents"),
        (changed(flow=np.zeros((5, 8, 8, 2), np.float32)), "flow"),
        (changed(frame_dt_s=0.0), "frame_dt_s"),
        (Restless(), "same seed"),
        (OnlyOne(), "samples=2"),
        (Crashing(), "KeyError"),
    ],
)
def test_a_planner_that_breaks_a_clause_is_told_which(planner: Any, clause: str) -> None:
    with pytest.raises(PluginError, match=clause):
        check_planner(planner, OBSERVATION, "wait")


class ReadoutExtractor:
    """Plays the plan's readout in two chunks; subclasses break one clause each."""

    needs = Needs(extrinsics=True)
    produces = ActionSpace()

    def __init__(self) -> None:
        self.plan_id, self.at = "", 0

    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        observation.image(plan.camera)
        if observation.image(plan.camera).T_base_cam is None:
            raise IncompatibleError("no extrinsics")
        if plan.plan_id != self.plan_id:
            self.plan_id, self.at = plan.plan_id, 0
        readout = plan.readout or EeReadout(
            position_m=np.zeros((0, 3)), opening=[], position_std_m=[], opening_std=[], source=""
        )
        part = slice(self.at, self.at + 9)
        self.at += 9
        return self.chunk(readout.position_m[part], readout.opening[part], self.at >= len(readout.position_m), plan)

    def chunk(self, xyz: np.ndarray, opening: np.ndarray, final: bool, plan: VideoPlan) -> ActionChunk:
        quaternions = np.tile([0.0, 1.0, 0.0, 0.0], (len(xyz), 1))
        return ActionChunk(
            values=np.hstack([xyz, quaternions]), gripper=opening, times_s=0.1 * np.arange(len(xyz)), final=final
        )


def rewriting(rewrite: Callable[[ActionChunk], ActionChunk]) -> ReadoutExtractor:
    class Extractor(ReadoutExtractor):
        def chunk(self, *args: Any) -> ActionChunk:
            return rewrite(super().chunk(*args))

    return Extractor()


def rescaled(chunk: ActionChunk) -> ActionChunk:
    values = chunk.values.copy()
    values[:, :3] *= 1000
    return dataclasses.replace(chunk, values=values)


class Forgetful(ReadoutExtractor):
    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        self.plan_id = ""
        return super().extract(plan, observation)


class Continuing(ReadoutExtractor):
    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        self.plan_id = plan.plan_id
        return super().extract(plan, observation)


class Scribbling(ReadoutExtractor):
    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        plan._frames = np.zeros_like(plan.frames)
        return super().extract(plan, observation)


class Careless(ReadoutExtractor):
    def extract(self, plan: VideoPlan, observation: Observation) -> ActionChunk:
        return super().extract(plan, Observation(images={plan.camera: PLACED}, arm=observation.arm))


PLACED = OBSERVATION.image("corner")


def test_an_extractor_that_keeps_the_contract_passes() -> None:
    chunk = check_extractor(ReadoutExtractor(), PLAN, OBSERVATION)

    assert len(chunk) == 9
    assert not chunk.final


@pytest.mark.parametrize(
    ("extractor", "clause"),
    [
        (object(), "missing: needs, produces, extract"),
        (rewriting(rescaled), "metres"),
        (rewriting(lambda chunk: dataclasses.replace(chunk, space=ActionSpace(frame="camera"))), "produces"),
        (rewriting(lambda chunk: dataclasses.replace(chunk, provenance={"at": np.zeros(2)})), "provenance"),
        (rewriting(lambda chunk: dataclasses.replace(chunk, hold_s=np.full(len(chunk), -1.0))), "hold_s"),
        (Forgetful(), "final chunk"),
        (Continuing(), "new plan_id"),
        (Scribbling(), "stay as it was"),
        (Careless(), "unknown camera|no extrinsics"),
    ],
)
def test_an_extractor_that_breaks_a_clause_is_told_which(extractor: Any, clause: str) -> None:
    with pytest.raises(PluginError, match=clause):
        check_extractor(extractor, tabletop_plan(OBSERVATION), OBSERVATION)


def test_an_extractor_cannot_be_checked_on_less_than_it_needs() -> None:
    class WantsDepth(ReadoutExtractor):
        needs = Needs(depth=True)

    image = dataclasses.replace(PLACED, depth_m=None)
    with pytest.raises(IncompatibleError, match="depth"):
        check_extractor(WantsDepth(), PLAN, Observation(images={"corner": image}, arm=OBSERVATION.arm))


class Reader:
    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def read(self, plan: VideoPlan, observation: Observation) -> EeReadout:
        assert plan.readout is not None
        return dataclasses.replace(plan.readout, **self.changes)


def test_a_reader_that_keeps_the_contract_passes() -> None:
    assert check_reader(Reader(), PLAN, OBSERVATION).source == "tabletop"


@pytest.mark.parametrize(
    ("changes", "clause"),
    [
        ({"position_std_m": np.zeros(17)}, "position_std_m"),
        ({"source": ""}, "source"),
        ({"position_m": np.ones((17, 3))}, "frame 0"),
        ({"progress": np.full(17, 2.0)}, "progress"),
    ],
)
def test_a_reader_that_breaks_a_clause_is_told_which(changes: dict[str, Any], clause: str) -> None:
    with pytest.raises(PluginError, match=clause):
        check_reader(Reader(**changes), PLAN, OBSERVATION)


class Described(PluginConfig):
    size: int = Field(3, description="a size")


class Bare(PluginConfig):
    size: int = 3


class Open(BaseModel):
    size: int = Field(3, description="a size")


def specs() -> Iterator[tuple[Any, str]]:
    yield SimpleNamespace(summary="x"), "PluginSpec"
    yield PluginSpec("", Described, StillPlanner), "summary"
    yield PluginSpec("two\nlines", Described, StillPlanner), "summary"
    yield PluginSpec("x", Bare, StillPlanner), "size"
    yield PluginSpec("x", Open, StillPlanner), "unknown keys"
    yield PluginSpec("x", dict, StillPlanner), "pydantic"  # type: ignore[type-var]
    yield PluginSpec("x", Described, None), "build"  # type: ignore[arg-type]


def test_a_described_plugin_spec_passes() -> None:
    check_plugin_spec(PluginSpec("stands still", Described, StillPlanner))


@pytest.mark.parametrize(("spec", "clause"), specs())
def test_a_plugin_spec_that_breaks_a_clause_is_told_which(spec: Any, clause: str) -> None:
    with pytest.raises(PluginError, match=clause):
        check_plugin_spec(spec)
