"""How often flow extraction solves the tasks when the plan is perfect: the expert's own video of the same layout.

    python benchmarks/oracle_flow.py --seeds 105-109 [--tasks door-open,hammer] [--hint gripper] [--out episodes.jsonl]

One JSON line per episode, a table at the end. The plan's read-out is the expert's proprioception, so that what is
measured is this extractor and not a reader; `--hint none` uses no read-out at all.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import ActionChunk, CascadeError, EeReadout, ImageTransform, Rig, VideoPlan
from cascade.contracts.keyframes import keyframe_indices
from cascade.contracts.plan_file import load_plan, save_plan
from flowact.plugins import FLOW
from robot_io.sim.plugins import EXPERT, SIM
from robot_io.sim.tasks import METAWORLD_11

CAMERA = "corner"
STALL_STEPS, LONGEST_STEPS, STALL_M = 8, 60, 0.0015


def oracle_plan(rig: Rig, expert: Any, task: str, seed: int, count: int = 16) -> VideoPlan:
    """Return the expert's episode as a plan of `count` future frames, with its proprioception as read-out."""
    steps = list(expert.demonstrate(rig, task=task, seed=seed))
    position = np.stack([s.state.position_m for s in steps])
    opening = np.array([s.state.gripper_opening for s in steps])
    chosen = keyframe_indices(position, opening, count)
    frames = np.stack([steps[i].observation.image(CAMERA).rgb for i in chosen])
    spread = np.full(len(chosen), 0.005)
    return VideoPlan(
        instruction=task.replace("-", " "),
        camera=CAMERA,
        transform=ImageTransform.centre_square(frames.shape[2], frames.shape[1], frames.shape[1]),
        frames=frames,
        readout=EeReadout(
            position_m=position[chosen],
            opening=np.clip(opening[chosen], 0, 1),
            position_std_m=spread,
            opening_std=spread,
            source="proprioception",
        ),
        seed=seed,
        plan_id=f"{task}-{seed}",
        provenance={"expert_success": bool(steps[-1].success), "steps": len(steps)},
    )


def kept_plan(folder: Path | None, rig: Rig, expert: Any, task: str, seed: int) -> VideoPlan:
    """Return the oracle plan from `folder` when it is there, else make it (and keep it)."""
    if folder is None:
        return oracle_plan(rig, expert, task, seed)
    if not (folder / f"{task}-{seed}" / "plan.safetensors").is_file():
        save_plan(oracle_plan(rig, expert, task, seed), folder / f"{task}-{seed}")
    return load_plan(folder / f"{task}-{seed}")


def follow(rig: Rig, chunk: ActionChunk, horizon: int) -> None:
    """Visit a chunk's targets in order until success or the horizon, as the runtime's follower does."""
    monitor = rig.monitor
    assert monitor is not None
    for i in range(len(chunk)):
        begun = rig.clock.now_s()
        last, stalled, steps = rig.arm.read().position_m, 0, 0
        while monitor.steps < horizon and not monitor.success:
            rig.arm.send(chunk.values[i], float(chunk.gripper[i]))
            rig.clock.tick()
            steps += 1
            here = rig.arm.read().position_m
            stalled = stalled + 1 if float(np.linalg.norm(here - last)) < STALL_M else 0
            last = here
            near = float(np.linalg.norm(here - chunk.values[i, :3])) < chunk.tolerance_m[i]
            arrived = near or stalled >= STALL_STEPS or steps >= LONGEST_STEPS
            if arrived and rig.clock.now_s() - begun >= chunk.hold_s[i]:
                break


def run_episode(rig: Rig, extractor: Any, plan: VideoPlan, task: str, seed: int) -> dict[str, Any]:
    """Run one plan in a fresh layout and return what happened."""
    rig.reset(task=task, seed=seed)
    monitor = rig.monitor
    assert monitor is not None
    row: dict[str, Any] = {"task": task, "seed": seed, "calls": 0, "notes": [], "extract_ms": []}
    try:
        while monitor.steps < monitor.horizon and not monitor.success and row["calls"] < 60:
            observation = rig.observe()
            begun = time.process_time()
            chunk = extractor.extract(plan, observation)
            row["extract_ms"].append(round((time.process_time() - begun) * 1000, 1))
            row["calls"] += 1
            row |= {k: chunk.provenance[k] for k in ("mode", "motion", "rms_px")}
            row["notes"].append(chunk.provenance["phase"])
            follow(rig, chunk, monitor.horizon)
            if chunk.final:
                break
    except CascadeError as error:
        row["error"] = str(error)
    return row | {"success": bool(monitor.success), "steps": monitor.steps}


def rig_options() -> dict[str, Any]:
    """Return the options of the simulated rig as shipped in configs/rigs/sim.yaml."""
    import yaml

    shipped = yaml.safe_load((Path(__file__).parents[1] / "configs" / "rigs" / "sim.yaml").read_text())
    return {"limits": shipped["limits"], **shipped["options"]}


def wilson(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a rate."""
    rate, shrink = successes / count, 1 + z**2 / count
    middle = (rate + z**2 / (2 * count)) / shrink
    half = z * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2)) / shrink
    return middle - half, middle + half


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="100-104", help="first-last, or a list with commas")
    parser.add_argument("--tasks", default=",".join(METAWORLD_11))
    parser.add_argument("--hint", default="gripper", choices=["none", "gripper", "depth"])
    parser.add_argument("--mask", default="segment", choices=["segment", "motion"])
    parser.add_argument("--out", type=Path, help="file for the JSON lines")
    parser.add_argument("--plans", type=Path, help="folder in which the expert's plans are kept between runs")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last) + 1) if last else [int(s) for s in options.seeds.split(",")]
    rows = []
    with SIM.build(SIM.config(**rig_options())) as rig:
        expert = EXPERT.build(EXPERT.config())
        for task in options.tasks.split(","):
            for seed in seeds:
                plan = kept_plan(options.plans, rig, expert, task, seed)
                extractor = FLOW.build(FLOW.config(hand_hint=options.hint, mask=options.mask))
                row = run_episode(rig, extractor, plan, task, seed)
                rows.append(row | {"expert": plan.provenance["expert_success"]})
                print(json.dumps(rows[-1]), flush=True)
            won = sum(r["success"] for r in rows if r["task"] == task)
            print(f"# {task}: {won}/{len(seeds)}", flush=True)
    won = sum(r["success"] for r in rows)
    low, high = wilson(won, len(rows))
    print(f"# all: {won}/{len(rows)} = {won / len(rows):.1%} ({low:.1%} to {high:.1%})")
    if options.out:
        options.out.write_text("".join(json.dumps(r) + "\n" for r in rows))


if __name__ == "__main__":
    main()
