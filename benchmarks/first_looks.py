"""Many layouts cheaply: experts play without a film, a few looks on the way, and the hand's path from there on.

Where a task's hand will go is learnt from first images and paths alone, and an image costs a hundred times what a
control step costs. So this makes an episode in a tenth of the time that `cascade record` needs.

    python benchmarks/first_looks.py --episodes 100 --seed 40000 -o data/looks.npz
    cascade train planner data/expert -o train/planner --set looks=[data/looks.npz] --set minutes.sketch=20
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np

from cascade.config import load_rig
from cascade.contracts import ConfigError, DemoStep
from cascade.contracts.keyframes import keyframe_indices
from cascade.plugins import build_plugin
from cascade.suites import find_suite, suite_settings, suite_tasks
from planner.frames import plan_transform
from planner.training.data import project

SIZE_PX, FRAMES = 128, 16
LEAST_LEFT = 16  # control steps from a look to the end
Row = dict[str, Any]
_built: list[Any] = []


def main() -> None:
    """Write frames, path, uv, camera, task and seed of all looks of the episodes that succeeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="metaworld-11-avdc")
    parser.add_argument("--tasks", help="only these tasks of the suite, separated by commas")
    parser.add_argument("--episodes", type=int, default=100, help="of each task")
    parser.add_argument("--seed", type=int, default=40000, help="first seed; evaluate on others")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    try:
        tasks = suite_tasks(args.suite, args.tasks)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    jobs = [(args.suite, task, seed) for seed in range(args.seed, args.seed + args.episodes) for task in tasks]
    rows: list[Row] = []
    if args.jobs == 1:
        for number, job in enumerate(jobs):
            rows += episode(job)
            if number % 110 == 109:
                print(f"{number + 1} of {len(jobs)} episodes, {len(rows)} looks", flush=True)
    else:
        with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
            for found in pool.imap(episode, jobs, chunksize=11):
                rows += found
    args.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.output, **{key: np.stack([row[key] for row in rows]) for key in rows[0]})


def episode(job: tuple[str, str, int]) -> list[Row]:
    """Play one episode; return its looks, none if it failed."""
    name, task, seed = job
    suite = find_suite(name)
    if not _built:
        settings = [text.removeprefix("rig.") for text in suite_settings(suite) if text.startswith("rig.")]
        rig = load_rig("sim", settings)
        options = {**rig.options, "cameras": list(suite.cameras), "depth": False, "segmentation": False}
        _built.extend([build_plugin("rig", rig.plugin, options).__enter__(), build_plugin("demonstrator", "expert")])
    rig, expert = _built
    every = 17 + seed % 24  # not in step with what happens
    steps = list(expert.demonstrate(rig, task=task, seed=seed, every=every))
    if not steps[-1].success:
        return []
    position = np.array([step.state.position_m for step in steps])
    opening = np.clip([step.state.gripper_opening for step in steps], 0, 1)
    rows = []
    for start, step in enumerate(steps):
        if step.observation is not None and len(steps) - start >= LEAST_LEFT:
            rows += looks(step, position[start::2], opening[start::2], suite.cameras, task, seed, start)
    return rows


def looks(
    step: DemoStep,
    position: np.ndarray,
    opening: np.ndarray,
    cameras: tuple[str, ...],
    task: str,
    seed: int,
    start: int,
) -> list[Row]:
    """Return one row per camera: plan pixels, path (17, 4) and where it runs in the image (17, 2)."""
    assert step.observation is not None
    chosen = keyframe_indices(position, opening, FRAMES)
    path = np.concatenate([position[chosen], opening[chosen, None]], axis=1)
    rows = []
    for camera in cameras:
        image = step.observation.image(camera)
        assert image.T_base_cam is not None
        height, width = image.rgb.shape[:2]
        transform = plan_transform(width, height, SIZE_PX, "whole")
        uv = project(path[:, :3], transform.intrinsics(image.K), image.T_base_cam) * (2 / SIZE_PX) - 1
        rows.append(
            {
                "frames": transform.apply(image.rgb),
                "path": path.astype(np.float32),
                "uv": np.clip(uv, -1.5, 1.5).astype(np.float32),
                "camera": np.array(camera),
                "task": np.array(task),
                "seed": np.int64(seed),
                "start": np.int64(start),
            }
        )
    return rows


if __name__ == "__main__":
    main()
