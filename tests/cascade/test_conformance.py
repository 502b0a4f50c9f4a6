"""Every stage we register passes the same conformance suite that third parties are given."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from cascade.config import RigConfig, find_config, load_yaml, packaged
from cascade.contracts import CascadeError, EpisodeAware, Observation, PlanReader, Rig, VideoPlan
from cascade.contracts.plan_file import save_plan
from cascade.plugins import GROUPS, build_plugin, load_plugin
from cascade.testing import (
    check_demonstrator,
    check_extractor,
    check_planner,
    check_plugin_spec,
    check_reader,
    check_rig,
    tabletop_observation,
    tabletop_plan,
)

TASK, SEED, INSTRUCTION = "door-open", 7, "open the door"


def ours(group: str) -> list[str]:
    return sorted(
        entry.name for entry in entry_points(group=GROUPS[group]) if entry.dist and entry.dist.name == "cascade-wam"
    )


def packaged_rig(name: str) -> Rig:
    config = RigConfig.model_validate(load_yaml(find_config("rigs", name)).values)
    built: Rig = build_plugin("rig", config.plugin, config.options)
    return built


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with packaged_rig("sim") as built:
        yield built


@pytest.fixture(scope="module")
def observation(rig: Rig) -> Observation:
    rig.reset(task=TASK, seed=SEED)
    return rig.observe()


@pytest.fixture(scope="module")
def oracle_plan(observation: Observation) -> VideoPlan:
    oracle = build_plugin("planner", "oracle", {"readout": True})
    oracle.begin(task=TASK, seed=SEED)
    plan: VideoPlan = oracle.plan(observation, INSTRUCTION, seed=SEED)[0]
    return plan


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in ours(group)])
def test_every_plugin_offers_described_options(group: str, name: str) -> None:
    check_plugin_spec(load_plugin(group, name))


# Checked where tiny models are built, tests/planner/diffusers_planner, and where a server runs, tests/planner/remote.
# A policy's plans are a fifth of a second long: tests/planner/policies.
NEED_MORE = {"diffusers", "policy", "remote"}
# Its input, a plan that says its own motion, is none of the oracle's: tests/cascade/test_given.py.
READS_GIVEN_MOTION = {"given"}
# Real devices, and emulated ones that move in real time: tests/robot_io/rig.
NEED_DEVICES = {name for name in packaged("rigs") if name != "sim"}


@pytest.mark.parametrize("name", sorted(set(ours("planner")) - NEED_MORE))
def test_every_planner_keeps_the_contract(
    name: str, observation: Observation, oracle_plan: VideoPlan, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"path": save_plan(oracle_plan, tmp_path)} if name == "file" else {}
    planner = build_plugin("planner", name, options)
    if isinstance(planner, EpisodeAware):
        planner.begin(task=TASK, seed=SEED)

    plan = check_planner(planner, observation, INSTRUCTION, seed=SEED)

    assert len(plan) == 17
    assert plan.transform.size_px == (128, 128)


@pytest.mark.parametrize("name", sorted(set(ours("extractor")) - READS_GIVEN_MOTION))
def test_every_extractor_keeps_the_contract(name: str, observation: Observation, oracle_plan: VideoPlan) -> None:
    extractor = build_plugin("extractor", name)

    chunk = check_extractor(extractor, oracle_plan, observation)

    assert len(chunk) > 0


@pytest.mark.parametrize("name", ours("extractor"))
def test_every_reader_keeps_the_contract(name: str, observation: Observation, oracle_plan: VideoPlan) -> None:
    extractor = build_plugin("extractor", name)
    if not isinstance(extractor, PlanReader):
        pytest.skip(f"{name} reads no plans, it only extracts")

    check_reader(extractor, oracle_plan, observation)


@pytest.mark.parametrize("name", ours("extractor"))
def test_extractors_survive_a_scene_they_were_not_made_for(name: str) -> None:
    plan = tabletop_plan()
    extractor = build_plugin("extractor", name)

    # Nothing here looks like the training data; the targets may be poor, but they must be well formed or refused.
    try:
        chunk = extractor.extract(plan, tabletop_observation())
    except CascadeError:
        return
    assert chunk.space == extractor.produces


@pytest.mark.parametrize("name", sorted(set(packaged("rigs")) - NEED_DEVICES))
def test_every_rig_keeps_the_contract(name: str) -> None:
    with packaged_rig(name) as built:
        check_rig(built, TASK, seed=SEED)


@pytest.mark.parametrize("name", ours("demonstrator"))
def test_every_demonstrator_keeps_the_contract(name: str, rig: Rig) -> None:
    check_demonstrator(build_plugin("demonstrator", name), rig, TASK, seed=SEED)
