"""How punctual the arm process is while every core runs the embedded planner.

    python benchmarks/control_loop.py [--seconds 8] [--load 2] [--json out.json]

The arm is the virtual one (no hardware), the chain in front of it the real one: target checks, limiter, watches, shared
memory. Lateness is how long after its deadline a control cycle began. p50 and p99 are medians over windows of a second,
'worst p99' is that of the worst second, 'max' the latest cycle of the run. The load is the real planner in processes of
its own, at normal priority. A row per scheduling: SCHED_FIFO, niceness -15, and neither (100 Hz at most, by design).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CELLS = (*(("fifo", rate) for rate in (125, 250, 500)), *(("nice", rate) for rate in (125, 250, 500)), ("plain", 100))
VIRTUAL = "robot_io.arms.plugins:VIRTUAL"
LOAD_STARTS_S = 90.0


def main() -> None:
    """Start the load, measure every cell, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="measured per cell")
    parser.add_argument("--load", type=int, default=os.cpu_count() or 2, help="planner processes")
    parser.add_argument("--json", type=Path, help="file for everything that was measured")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ended, ready = spawn.Event(), [spawn.Event() for _ in range(options.load)]
    plans = [spawn.Value("q", 0) for _ in range(options.load)]
    load = [spawn.Process(target=plan_for_ever, args=(ended, r, p)) for r, p in zip(ready, plans, strict=True)]
    for process in load:
        process.start()
    try:
        if not all(event.wait(LOAD_STARTS_S) for event in ready):
            raise SystemExit("The planner did not start: nothing was measured.")
        before, began_s = sum(p.value for p in plans), time.monotonic()
        rows = [measure(scheduling, rate, options.seconds) for scheduling, rate in CELLS]
        rate = (sum(p.value for p in plans) - before) / (time.monotonic() - began_s)
    finally:
        ended.set()
        for process in load:
            process.join(30)
            process.kill()
    document = {
        "benchmark": "control_loop",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "planner_processes": options.load,
        "plans_per_second": round(rate, 2),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "rows": rows,
    }
    show(document)
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")


def plan_for_ever(ended: Event, ready: Event, plans: Any) -> None:
    """Run the embedded planner on the simulated rig's first image until told to end."""
    import torch

    from cascade.config import RigConfig, find_config, load_yaml
    from cascade.plugins import build_plugin

    torch.set_num_threads(1)
    config = RigConfig.model_validate(load_yaml(find_config("rigs", "sim")).values)
    with build_plugin("rig", config.plugin, {**config.options, "arm_process": False}) as rig:
        rig.reset(task="door-open", seed=0)
        observation = rig.observe()
    planner = build_plugin("planner", "embedded", {})
    while not ended.is_set():
        planner.plan(observation, "open the door", seed=plans.value)[0].frames  # noqa: B018  (decoding is part of it)
        plans.value += 1
        ready.set()


def measure(scheduling: str, rate_hz: float, seconds: float) -> dict[str, Any]:
    """Run the arm process at a rate, a target every 50 ms, and return its lateness in ms."""
    from cascade.contracts import Limits
    from robot_io.process.arm_process import ArmProcess
    from robot_io.process.poses import pose_of
    from robot_io.process.settings import ProcessSettings

    limits = Limits(
        workspace_m=np.array([[0.0, -0.5, 0.0], [0.8, 0.5, 0.8]]),
        max_speed_m_s=0.25,
        max_acceleration_m_s2=1.0,
        max_jerk_m_s3=10.0,
        max_step_m=0.3,
        max_rotation_rad=0.3,
    )
    settings = ProcessSettings(rate_hz=rate_hz, scheduling=scheduling, ttl_s=1.0, caller_s=5.0)
    windows: list[tuple[float, float]] = []
    with ArmProcess(VIRTUAL, {"rate_hz": rate_hz}, limits, settings=settings) as arm:
        arm.arm()
        target = pose_of(arm.last_known().T_base_ee)
        began_s = seen_s = time.monotonic()
        while time.monotonic() - began_s < seconds + 1:
            angle = time.monotonic()
            arm.send_checked(target + np.array([0, 0.05 * np.sin(angle), 0.03 * np.cos(angle), 0, 0, 0, 0]), 1.0)
            time.sleep(0.05)
            if time.monotonic() - seen_s >= 1.0:
                seen_s += 1.0
                late = arm.lateness()
                windows.append((late.p50_ms, late.p99_ms))
        late = arm.lateness()
    p50, p99 = np.median(windows[1:], axis=0)
    return {
        "scheduling": late.scheduling,
        "rate_hz": late.rate_hz,
        "cycles": late.cycles,
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "worst_p99_ms": round(max(window[1] for window in windows[1:]), 3),
        "max_ms": round(late.worst_ms, 3),
        "overruns_20ms": late.overruns,
    }


def commit() -> str:
    """Return the commit that is measured, marked when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def show(document: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{document['when']}  commit {document['commit']}  {document['cores']} cores  {document['system']}")
    print(
        f"{document['planner_processes']} planner processes, {document['plans_per_second']} plans/s together, ", end=""
    )
    print(f"load {document['load_average_1min']}\nlateness of control cycles in ms\n")
    names = ("scheduling", "rate_hz", "cycles", "p50_ms", "p99_ms", "worst_p99_ms", "max_ms", "overruns_20ms")
    print("".join(f"{name:>14}" for name in names))
    for row in document["rows"]:
        print("".join(f"{row[name]:>14}" for name in names))


if __name__ == "__main__":
    main()
