"""How often inverse dynamics solves the eleven tasks when the plan is the expert's own video of the same layout.

Plan once, follow it open loop, no gate, no report: the quickest way to see what the extractor is worth.

    python benchmarks/oracle_idm.py --seeds 100-104 --reading pixels
    python benchmarks/oracle_idm.py --seeds 100-104 --reading truth      # the rules alone, with true hand poses
    python benchmarks/oracle_idm.py --seeds 100-104 --planner planner/weights/embedded-1 --reading both
    python benchmarks/oracle_idm.py --seeds 100-104 --option dig_m=0.03 --option overshoot_m=0
    python benchmarks/oracle_idm.py --suite metaworld-11-avdc --seeds 100-101 --plans data/oracle-plans

A suite with cameras of its own (metaworld-11-avdc) shows each of its layouts through each of them, the whole image
squeezed into the square of the plan.
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
from cascade.contracts import EeReadout, ImageTransform, VideoPlan
from cascade.contracts.keyframes import keyframe_indices
from cascade.contracts.plan_file import load_plan, save_plan
from cascade.follower import follow
from cascade.plugins import build_plugin
from cascade.suites import Suite, find_suite

READINGS = {"pixels": "pixels", "truth": "latents", "latents": "latents", "both": "variance"}


def rig_options(suite: Suite) -> dict[str, Any]:
    """The shipped simulated rig under the suite's conditions."""
    return {**load_rig("sim").options, "cameras": ["corner"], **suite.rig.get("options", {})}


def main() -> None:
    """Run and print one line per episode and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="100-104", help="first-last")
    parser.add_argument("--suite", default="metaworld-11")
    parser.add_argument("--tasks", help="some of the suite's, separated by commas")
    parser.add_argument("--cameras", help="some of the suite's, separated by commas")
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
    suite = find_suite(args.suite)
    args.wide = bool(suite.cameras)
    cameras = args.cameras.split(",") if args.cameras else list(suite.cameras) or ["corner"]
    rows = []
    with build_plugin("rig", "sim", {**rig_options(suite), "cameras": cameras}) as rig:
        for seed in range(first, last + 1):
            for task in args.tasks.split(",") if args.tasks else suite.tasks:
                for camera in cameras:
                    rows.append(episode(rig, oracle, planner, extractor, task, seed, camera, args))
                    print(json.dumps(rows[-1]), flush=True)
                    if args.log:
                        with args.log.open("a") as file:
                            file.write(json.dumps(rows[-1]) + "\n")
    print_table(rows, cameras)


def print_table(rows: list[dict[str, Any]], cameras: list[str]) -> None:
    """Successes per task and camera, with the error of the reading."""

    def cell(chosen: list[dict[str, Any]]) -> str:
        error = np.mean([row["error_mm"] for row in chosen]) if chosen else 0.0
        return f"{sum(row['success'] for row in chosen)}/{len(chosen)} {error:4.1f} mm"

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    print(f"{'':22s}" + "".join(f"{name:>16s}" for name in (*cameras, "all")))
    for task in [*tasks, None]:
        part = [row for row in rows if task in (None, row["task"])]
        cells = [cell([row for row in part if row["camera"] == camera]) for camera in cameras]
        print(f"{task or 'all':22s}" + "".join(f"{text:>16s}" for text in (*cells, cell(part))))
    print(f"all: {100 * np.mean([row['success'] for row in rows]):.1f} %")


def oracle_plan(oracle: Any, rig: Any, task: str, seed: int, camera: str, args: argparse.Namespace) -> VideoPlan:
    """The expert's keyframes, from the folder when they were made before."""
    name = f"avdc-{camera}-{task}-{seed}-{args.frames}" if args.wide else f"{task}-{seed}-{args.frames}"
    folder = None if args.plans is None else args.plans / name
    if folder is not None and (folder / "plan.safetensors").is_file():
        return load_plan(folder)
    if args.wide:
        plans = whole_plans(rig, task, seed, args.frames)
        for other, seen in plans.items():
            if args.plans is not None:
                save_plan(seen, args.plans / f"avdc-{other}-{task}-{seed}-{args.frames}")
        rig.reset(task=task, seed=seed)
        return plans[camera]
    oracle.begin(task=task, seed=seed)
    plan: VideoPlan = oracle.plan(rig.observe(), task, seed=seed)[0]
    if folder is not None:
        save_plan(plan, folder)
    return plan


def whole_plans(rig: Any, task: str, seed: int, frames: int) -> dict[str, VideoPlan]:
    """The expert's keyframes through every camera of the rig, which it moves: whole images squeezed to 128 x 128."""
    expert = build_plugin("demonstrator", "expert")
    steps = list(expert.demonstrate(rig, task=task, seed=seed, every=2))
    success = any(step.success for step in steps)
    steps = [step for step in steps if step.observation is not None]
    position = np.array([step.state.position_m for step in steps])
    opening = np.array([step.state.gripper_opening for step in steps])
    chosen = keyframe_indices(position, opening, frames)
    truth = EeReadout(
        position_m=position[chosen],
        opening=opening[chosen],
        position_std_m=np.full(len(chosen), 1e-3),
        opening_std=np.full(len(chosen), 1e-2),
        progress=np.linspace(0.0, 1.0, len(chosen)),
        source="oracle",
    )
    plans = {}
    for camera in rig.cameras:
        images = [steps[index].observation.image(camera).rgb for index in chosen]
        height, width = images[0].shape[:2]
        whole = ImageTransform(crop_px=(0.0, 0.0, float(width), float(height)), size_px=(128, 128))
        plans[camera] = VideoPlan(
            instruction="",
            camera=camera,
            transform=whole,
            frames=np.stack([whole.apply(image) for image in images]),
            readout=truth,
            seed=seed,
            provenance={"planner": "oracle", "task": task, "layout_seed": seed, "expert_succeeded": success},
        )
    return plans


def episode(
    rig: Any, oracle: Any, planner: Any, extractor: Any, task: str, seed: int, camera: str, args: argparse.Namespace
) -> dict[str, Any]:
    """One plan, followed to its end; how well it was read and whether the task succeeded."""
    rig.reset(task=task, seed=seed)
    plan = oracle_plan(oracle, rig, task, seed, camera, args)
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
        "camera": camera,
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
