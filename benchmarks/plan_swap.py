"""Does another plan cause another motion? The plan-swap effect (C) of the cascade and of an arm that ignores plans.

In every scene three plans are executed, each twice: the scene's own, one made for another layout, and one made for
another sentence. Nothing judges them and nothing stops at success, so that every plan is followed to its end. The arm
that ignores its plans is behaviour cloning: it is shown the same plans and acts by what it sees.

    python benchmarks/plan_swap.py --seed 200 --layouts 2 --log runs/plan_swap.jsonl
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cascade.config import GateConfig, load_rig
from cascade.contracts import ActionChunk, Observation, VideoPlan
from cascade.follower import ControlStep, follow
from cascade.gate import check_chunk
from cascade.metrics import Status, swap_effect
from cascade.metrics.paths import resample
from cascade.plugins import build_plugin
from cascade.suites import find_suite

POINTS, REPEATS = 17, 2
OTHER_LAYOUT, OTHER_TASK = 50, 4  # how far along the seeds and the list of tasks the other plans come from
MOST_LOOKS = 12  # of the policy, four targets each
Execute = Callable[[Any, VideoPlan, Observation], list[np.ndarray]]


def main() -> None:
    """Print a line per scene and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=200, help="first layout")
    parser.add_argument("--layouts", type=int, default=2, help="of each task")
    parser.add_argument("--log", type=Path, help="JSONL, one line per scene and arm")
    args = parser.parse_args()
    options = {"fuse": "pixels", "overshoot_m": 0.0}
    extractor = build_plugin("extractor", "idm", options)
    given, policy = build_plugin("extractor", "given"), build_plugin("planner", "policy", {"weights": "bc"})
    arms: dict[str, Execute] = {
        # A new extractor each time: the one that has read a plan would go on with it.
        "cascade": lambda rig, plan, seen: walk(
            rig, build_plugin("extractor", "idm", options).extract(plan, seen), None
        ),
        "bc, shown the same plans": lambda rig, plan, seen: act(rig, policy, given, plan),
    }
    rows = []
    with build_plugin("rig", "sim", {**load_rig("sim").options, "arm_process": False}) as rig:
        for seed in range(args.seed, args.seed + args.layouts):
            for task in find_suite("metaworld-11").tasks:
                plans = scene_plans(rig, task, seed)
                for name, execute in arms.items():
                    rows.append(
                        {"task": task, "seed": seed, "arm": name, **effect(rig, execute, extractor, plans, task, seed)}
                    )
                    print(json.dumps(rows[-1]), flush=True)
                    if args.log:
                        with args.log.open("a") as file:
                            file.write(json.dumps(rows[-1]) + "\n")
    for name in arms:
        summarise(name, [row for row in rows if row["arm"] == name])


def scene_plans(rig: Any, task: str, seed: int) -> list[VideoPlan]:
    """The scene's own plan, one for another layout, and one for another sentence."""
    planner = build_plugin("planner", "embedded")
    tasks = find_suite("metaworld-11").tasks
    other = tasks[(tasks.index(task) + OTHER_TASK) % len(tasks)]
    rig.reset(task=other, seed=seed)
    other_sentence = rig.monitor.instruction
    rig.reset(task=task, seed=seed + OTHER_LAYOUT)
    elsewhere, sentence = rig.observe(), rig.monitor.instruction
    rig.reset(task=task, seed=seed)
    here = rig.observe()
    asked = ((here, sentence), (elsewhere, sentence), (here, other_sentence))
    return [planner.plan(seen, words, seed=seed)[0] for seen, words in asked]


def effect(rig: Any, execute: Execute, extractor: Any, plans: list[VideoPlan], task: str, seed: int) -> dict[str, Any]:
    """Execute every plan twice and measure."""
    imagined, executed = [], []
    for plan in plans:
        runs = []
        for _ in range(REPEATS):
            rig.reset(task=task, seed=seed)
            seen = rig.observe()
            readout = extractor.read(plan, seen)
            path = execute(rig, plan, seen)
            runs.append(resample(np.array(path), POINTS)[0])
        imagined.append(resample(readout.position_m, POINTS)[0])
        executed.append(runs)
    found = swap_effect(np.array(imagined), np.array(executed))
    return found.as_json()


def walk(rig: Any, chunk: ActionChunk, count: int | None) -> list[np.ndarray]:
    """Follow a chunk as far as the gate lets it through; return the hand's path. No judge, so no stop at success."""
    state = rig.arm.read()
    report = check_chunk(chunk, state, rig.arm.spec.limits, GateConfig())
    path = [np.array(state.position_m)]
    if report.chunk is None:
        return [*path, path[0]]

    def on_step(step: ControlStep) -> None:
        path.append(np.array(step.state.position_m))

    unjudged = SimpleNamespace(arm=rig.arm, clock=rig.clock, monitor=None)
    follow(unjudged, report.chunk, stop=threading.Event(), on_step=on_step, count=count)
    return path


def act(rig: Any, policy: Any, given: Any, plan: VideoPlan) -> list[np.ndarray]:
    """Let the policy act by what it sees; the plan is told to it and makes no difference to it."""
    path: list[np.ndarray] = []
    for _ in range(MOST_LOOKS):
        seen = rig.observe()
        own = policy.plan(seen, rig.monitor.instruction, seed=plan.seed)[0]
        path += walk(rig, given.extract(own, seen), 4)
    return path


def summarise(name: str, rows: list[dict[str, Any]]) -> None:
    """Print medians over scenes."""
    found = [row for row in rows if row["status"] == Status.MEASURED.value]
    effects = np.array([row["effect"] for row in found])
    low, middle, high = np.percentile(effects, (10, 50, 90))
    named = np.mean([row["identified"] for row in found])
    print(
        f"{name}: effect {middle:.2f} (10 % to 90 % of scenes: {low:.2f} to {high:.2f}), "
        f"own plan nearest {named:.0%} (chance {found[0]['chance']:.0%}), {len(found)} of {len(rows)} scenes"
    )


if __name__ == "__main__":
    main()
