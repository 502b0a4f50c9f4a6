"""How long the joint 3-D fit over a whole plan takes, beside the steps before and after it.

    python benchmarks/flow_fit.py [--plans data/oracle-plans] [--most 11] [--seconds 40] [--cameras corner]

Plans kept by `benchmarks/oracle_idm.py --suite metaworld-11-avdc --plans ...` are used where they are there, spread
over the tasks; without any, two of the expert's are made afresh. No plan is begun that would end after `--seconds`, if
it took as long as the one before. CPU time of one thread [ms], tracks checked forward and backward. One line per step:
the fit of every model at once, as the extractor asks for it (`fit`) and with axes free to turn as well (`axes`), dense
flow and its check (`flow`, `tracks`), and the search for joints by appearance (`search`), which only pushes need.
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
from time import monotonic, process_time
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


def chosen(folder: Path, cameras: list[str], most: int) -> list[tuple[str, int, Path]]:
    """Return (task, seed, path) of at most so many kept plans, every task once before any is there twice."""
    found = [(match, path) for path in sorted(folder.glob("avdc-*-16")) if (match := NAME.fullmatch(path.name))]
    turns: dict[str, int] = {}
    ordered = []
    for match, path in found:
        if match["camera"] in cameras:
            turns[match["task"]] = turns.get(match["task"], 0) + 1
            ordered.append((turns[match["task"]], match["task"], int(match["seed"]), path))
    return [entry[1:] for entry in sorted(ordered)[:most]]


def kept(plans: list[tuple[str, int, Path]], cameras: list[str]) -> Iterator[tuple[str, VideoPlan, Observation]]:
    """Yield names and kept plans with what their first frame was made from."""
    options = {**load_rig("sim").options, **find_suite(SUITE).rig["options"], "cameras": cameras}
    options["limits"] = {**load_rig("sim").options["limits"], **find_suite(SUITE).rig["limits"]}
    with build_plugin("rig", "sim", options) as rig:
        for task, seed, path in plans:
            rig.reset(task=task, seed=seed)
            yield path.name, load_plan(path), rig.observe()


def fresh(tasks: tuple[str, ...]) -> Iterator[tuple[str, VideoPlan, Observation]]:
    """Yield names and the expert's plans of one layout of each task, made now."""
    sys.path.insert(0, str(Path(__file__).parent))
    oracle_flow = import_module("oracle_flow")
    expert = build_plugin("demonstrator", "expert")
    with build_plugin("rig", "sim", oracle_flow.rig_options()) as rig:
        for task in tasks:
            plan = oracle_flow.oracle_plan(rig, expert, task, 100)
            rig.reset(task=task, seed=100)
            yield task, plan, rig.observe()


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
        models = timed(times["fit"], lambda: fit_models(tracks, K, T, free_axes=False))
        timed(times["axes"], lambda: fit_models(tracks, K, T))
    view = view_object(image, mask)
    gripper = gripper_of(image, np.array(seen.arm.position_m), by_segment=True)
    hand_px = follow_hand(plan, gripper, settings, field)
    in_plan = to_plan(mask, plan.transform)
    timed(times["search"], lambda: joint_of(plan, in_plan, view, models, tracks, K, image, hand_px))


def table(times: dict[str, list[float]]) -> list[str]:
    """Return a line for each step that was timed [ms]."""
    lines = []
    for name, ms in times.items():
        if ms:
            p50, p95 = np.percentile(ms, [50, 95])
            lines.append(f"{name:7s} n {len(ms):4d}   p50 {p50:7.1f}   p95 {p95:7.1f}   max {max(ms):7.1f}")
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=Path, default=Path("data/oracle-plans"))
    parser.add_argument("--cameras", default="corner", help="views of the kept plans, separated by commas")
    parser.add_argument("--most", type=int, default=11, help="plans at most")
    parser.add_argument("--seconds", type=float, default=40.0, help="no plan is begun that would end later")
    parser.add_argument("--repeat", type=int, default=3, help="fits per plan")
    options = parser.parse_args()
    begun, cameras = monotonic(), options.cameras.split(",")
    found = chosen(options.plans, cameras, options.most)
    source = str(options.plans) if found else "made afresh"
    tasks = find_suite(SUITE).tasks
    plans = kept(found, cameras) if found else fresh(tasks[: min(2, options.most)])
    times: dict[str, list[float]] = {"fit": [], "axes": [], "flow": [], "tracks": [], "search": []}
    count = lost = 0
    for name, plan, seen in plans:
        count, started = count + 1, monotonic()
        try:
            measure(plan, seen, times, options.repeat)
        except CascadeError as error:
            lost += 1
            print(f"# {name}: {error}", flush=True)
        fit = f"{times['fit'][-1]:.1f} ms" if times["fit"] else "none yet"
        now = monotonic()
        print(f"{count:3d}  {now - begun:5.1f} s  {name}: last fit {fit}", flush=True)
        if 2 * now - started - begun > options.seconds:
            break
    print(f"{count} plans ({source}), {lost} of them lost; ms of CPU time, one thread")
    print("\n".join(table(times)))


if __name__ == "__main__":
    main()
