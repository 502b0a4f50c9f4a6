"""How often inverse dynamics solves the eleven tasks when the plan is the expert's own video of the same layout.

Plan once, follow it open loop, no gate, no report: the quickest way to see what the extractor is worth.

    python benchmarks/oracle_idm.py --seeds 100-104 --reading pixels
    python benchmarks/oracle_idm.py --seeds 100-104 --reading truth      # the rules alone, with true hand poses
    python benchmarks/oracle_idm.py --seeds 100-104 --planner planner/weights/embedded-1 --reading both
    python benchmarks/oracle_idm.py --seeds 100-104 --option dig_m=0.03 --option overshoot_m=0
"""

from __future__ import annotations

import argparse
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cascade.config import load_rig
from cascade.contracts import EeReadout, VideoPlan
from cascade.follower import follow
from cascade.plugins import build_plugin

TASKS = (
    "door-open", "door-close", "basketball", "shelf-place", "button-press", "button-press-topdown",
    "faucet-close", "faucet-open", "handle-press", "hammer", "assembly",
)  # fmt: skip
READINGS = {"pixels": "pixels", "truth": "latents", "latents": "latents", "both": "variance"}


def rig_options() -> dict[str, Any]:
    """The shipped simulated rig, with one camera."""
    return {**load_rig("sim").options, "cameras": ["corner"]}


def main() -> None:
    """Run and print one line per episode and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="100-104", help="first-last")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--reading", choices=tuple(READINGS), default="pixels")
    parser.add_argument("--noise-mm", type=float, default=0.0, help="white noise on true poses, per axis")
    parser.add_argument("--opening-noise", type=float, default=0.0, help="the same on true openings")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--option", action="append", default=[], help="key=value of the extractor")
    parser.add_argument("--plans", type=Path, help="folder that keeps the oracle's plans between calls")
    parser.add_argument("--planner", type=Path, help="weights of the embedded planner, to read its plans instead")
    parser.add_argument("--log", type=Path, help="JSONL, one line per episode")
    args = parser.parse_args()
    first, last = (int(v) for v in args.seeds.split("-"))
    options = {key: yaml.safe_load(value) for key, value in (text.split("=", 1) for text in args.option)}
    extractor = build_plugin("extractor", "idm", {"fuse": READINGS[args.reading], **options})
    oracle_options = {"readout": True, "frames": args.frames}
    oracle = build_plugin("planner", "oracle", oracle_options)
    planner = build_plugin("planner", "embedded", {"weights": str(args.planner)}) if args.planner else None
    table: dict[str, list[bool]] = {task: [] for task in args.tasks.split(",")}
    with build_plugin("rig", "sim", rig_options()) as rig:
        for task in table:
            for seed in range(first, last + 1):
                row = episode(rig, oracle, planner, extractor, task, seed, args)
                table[task].append(row["success"])
                print(json.dumps(row), flush=True)
                if args.log:
                    with args.log.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    for task, wins in table.items():
        print(f"{task:22s} {sum(wins)}/{len(wins)}")
    everything = [win for wins in table.values() for win in wins]
    print(f"{'all':22s} {sum(everything)}/{len(everything)} = {100 * np.mean(everything):.1f} %")


def oracle_plan(oracle: Any, rig: Any, task: str, seed: int, cache: Path | None, frames: int) -> VideoPlan:
    """The expert's keyframes, from the folder when they were made before."""
    from cascade.contracts.plan_file import load_plan, save_plan

    folder = None if cache is None else cache / f"{task}-{seed}-{frames}"
    if folder is not None and (folder / "plan.safetensors").is_file():
        return load_plan(folder)
    oracle.begin(task=task, seed=seed)
    plan: VideoPlan = oracle.plan(rig.observe(), task, seed=seed)[0]
    if folder is not None:
        save_plan(plan, folder)
    return plan


def episode(
    rig: Any, oracle: Any, planner: Any, extractor: Any, task: str, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """One plan, followed to its end; how well it was read and whether the task succeeded."""
    rig.reset(task=task, seed=seed)
    plan = oracle_plan(oracle, rig, task, seed, args.plans, args.frames)
    truth = plan.readout
    observation = rig.observe()
    if planner is not None:
        plan = planner.plan(observation, rig.monitor.instruction, seed=seed)[0]
    elif args.reading == "truth" and (args.noise_mm or args.opening_noise):
        plan.readout = spoiled(truth, args.noise_mm / 1000, args.opening_noise, seed)
    elif args.reading != "truth":
        plan.readout = None
    plan.readout = extractor.read(plan, observation)
    chunk = extractor.extract(plan, observation)
    motion = follow(rig, chunk, stop=threading.Event(), on_step=lambda step: None)
    error = np.linalg.norm(plan.readout.position_m - truth.position_m, axis=1) * 1000
    return {
        "task": task,
        "seed": seed,
        "success": bool(rig.monitor.success),
        "steps": motion.steps,
        "end": motion.end.value,
        "expert": plan.provenance.get("expert_succeeded"),
        "error_mm": round(float(error.mean()), 1),
        "opening_error": round(float(np.abs(plan.readout.opening - truth.opening).mean()), 3),
    }


def spoiled(readout: EeReadout, noise_m: float, opening_noise: float, seed: int) -> EeReadout:
    """A reading with white noise on it."""
    rng = np.random.default_rng(seed)
    opening = readout.opening + opening_noise * rng.normal(size=len(readout.opening))
    return replace(
        readout,
        position_m=readout.position_m + noise_m * rng.normal(size=readout.position_m.shape),
        opening=np.clip(opening, 0, 1),
    )


if __name__ == "__main__":
    main()
