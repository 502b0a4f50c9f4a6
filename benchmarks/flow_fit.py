"""How long the joint 3-D fit over a whole plan takes, beside the steps before and after it.

    python benchmarks/flow_fit.py [--plans data/oracle-plans] [--repeat 3] [--cameras corner,corner2,corner3]

Plans kept by `benchmarks/oracle_idm.py --suite metaworld-11-avdc --plans ...` are used where they are there; without
any, the expert's are made afresh. CPU time of one thread [ms], tracks checked forward and backward. One line per step:
the fit of every model at once (`fit`), dense flow and its check (`flow`, `tracks`), and the search for joints by
appearance (`search`), which only pushes need.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, and no threads that spin
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from cascade.config import load_rig
from cascade.contracts import CascadeError, Observation, VideoPlan
from cascade.contracts.plan_file import load_plan
from cascade.plugins import build_plugin
from cascade.suites import find_suite
from flowact.following import follow_hand, follow_object
from flowact.joint_fitting import fit_models
from flowact.motions import joint_of
from flowact.robot import gripper_of
from flowact.scene import base_pose, object_mask, to_plan, view_object
from flowact.tracking import TrackSettings, dense_flow

SUITE = "metaworld-11-avdc"
NAME = re.compile(r"avdc-(?P<camera>corner\d?)-(?P<task>.+)-(?P<seed>\d+)-16")


def kept(folder: Path, cameras: list[str], seeds: int) -> Iterator[tuple[VideoPlan, Observation]]:
    """Yield kept plans with what their first frame was made from."""
    chosen: dict[tuple[str, int], list[tuple[str, Path]]] = {}
    for path in sorted(folder.glob("avdc-*-16")):
        if (found := NAME.fullmatch(path.name)) and found["camera"] in cameras:
            chosen.setdefault((found["task"], int(found["seed"])), []).append((found["camera"], path))
    first = sorted({seed for _, seed in chosen})[:seeds]
    options = {**load_rig("sim").options, **find_suite(SUITE).rig["options"], "cameras": cameras}
    options["limits"] = {**load_rig("sim").options["limits"], **find_suite(SUITE).rig["limits"]}
    with build_plugin("rig", "sim", options) as rig:
        for (task, seed), paths in chosen.items():
            if seed in first:
                rig.reset(task=task, seed=seed)
                seen = rig.observe()
                for _, path in paths:
                    yield load_plan(path), seen


def fresh(tasks: tuple[str, ...], seeds: int) -> Iterator[tuple[VideoPlan, Observation]]:
    """Yield the expert's plans of a few layouts, made now."""
    sys.path.insert(0, str(Path(__file__).parent))
    oracle_flow = import_module("oracle_flow")
    expert = build_plugin("demonstrator", "expert")
    with build_plugin("rig", "sim", oracle_flow.rig_options()) as rig:
        for task in tasks:
            for seed in range(100, 100 + seeds):
                plan = oracle_flow.oracle_plan(rig, expert, task, seed)
                rig.reset(task=task, seed=seed)
                yield plan, rig.observe()


def timed(times: list[float], call: Callable[[], Any]) -> Any:
    """Return what a call returns; its CPU time [ms] is added to `times`."""
    begun = process_time()
    result = call()
    times.append((process_time() - begun) * 1000)
    return result


def measure(plan: VideoPlan, seen: Observation, times: dict[str, list[float]], repeat: int) -> None:
    """Time the steps on one plan."""
    image, settings = seen.image(plan.camera), TrackSettings()
    K, T = plan.transform.intrinsics(image.K), base_pose(image)
    mask = object_mask(image, "object")
    field = timed(times["flow"], lambda: dense_flow(plan.frames, settings.working_px))
    tracks = timed(times["tracks"], lambda: follow_object(plan, image, mask, settings, field))
    for _ in range(repeat):
        models = timed(times["fit"], lambda: fit_models(tracks, K, T))
    view = view_object(image, mask)
    gripper = gripper_of(image, np.array(seen.arm.position_m), by_segment=True)
    hand_px = follow_hand(plan, gripper, settings, field)
    in_plan = to_plan(mask, plan.transform)
    timed(times["search"], lambda: joint_of(plan, in_plan, view, models, tracks, K, image, hand_px))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=Path, default=Path("data/oracle-plans"))
    parser.add_argument("--cameras", default="corner,corner2,corner3")
    parser.add_argument("--seeds", type=int, default=1, help="layouts per task")
    parser.add_argument("--repeat", type=int, default=3, help="fits per plan")
    options = parser.parse_args()
    if any(options.plans.glob("avdc-*-16")):
        source, plans = str(options.plans), kept(options.plans, options.cameras.split(","), options.seeds)
    else:
        source, plans = "made afresh", fresh(find_suite(SUITE).tasks, options.seeds)
    times: dict[str, list[float]] = {"fit": [], "flow": [], "tracks": [], "search": []}
    count = lost = 0
    for plan, seen in plans:
        count += 1
        try:
            measure(plan, seen, times, options.repeat)
        except CascadeError as error:
            lost += 1
            print(f"# {plan.instruction}, {plan.camera}: {error}", flush=True)
    print(f"{count} plans ({source}), {lost} of them lost; ms of CPU time, one thread")
    for name, ms in times.items():
        p50, p95 = np.percentile(ms, [50, 95])
        print(f"{name:7s} n {len(ms):4d}   p50 {p50:7.1f}   p95 {p95:7.1f}   max {max(ms):7.1f}")


if __name__ == "__main__":
    main()
