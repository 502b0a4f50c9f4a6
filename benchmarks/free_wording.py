"""Whether wordings that were never trained on plan the same task.

For every task, layout and held-out wording the imagined hand path is compared with the paths that the canonical
sentences of all eleven tasks imagine in the same scene. The wording plans the same task when its own task's path is the
nearest and lies closer than half the distance to the next. With --execute the wordings also drive the arm.

    python benchmarks/free_wording.py
    python benchmarks/free_wording.py --layouts 5 --execute --json runs/free_wording.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cascade.compose import compose
from cascade.contracts import Observation, Planner, Rig
from cascade.plugins import build_plugin
from cascade.runtime import Stages, build_stages, run_episode
from planner.phrases import TASKS, TEST_PHRASES
from robot_io.sim.tasks import INSTRUCTIONS

FIRST_SEED = 200


def hand_path(planner: Planner, observation: Observation, sentence: str) -> np.ndarray:
    """(T, 3) imagined hand positions [m]."""
    readout = planner.plan(observation, sentence, seed=0)[0].readout
    if readout is None:
        raise SystemExit("these weights read no hand path from their plans: nothing to compare")
    return np.asarray(readout.position_m)


def distance_m(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square distance of two paths of T frames [m]."""
    return float(np.sqrt(np.mean(np.sum((a - b) ** 2, axis=1))))


def judge(planner: Planner, observation: Observation, task: str, phrase: str) -> dict[str, Any]:
    """Compare one wording with the canonical sentences of all tasks in one scene."""
    asked = hand_path(planner, observation, phrase)
    away = {other: distance_m(asked, hand_path(planner, observation, INSTRUCTIONS[other])) for other in TASKS}
    own = away.pop(task)
    rival = min(away, key=lambda other: away[other])
    return {
        "task": task,
        "phrase": phrase,
        "own_mm": own * 1000,
        "rival": rival,
        "rival_mm": away[rival] * 1000,
        "same": own < 0.5 * away[rival],
    }


def main() -> None:
    """Run and print one line per wording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", type=int, default=2, help="layouts per task")
    parser.add_argument("--weights", type=Path, help="folder of planner weights instead of the shipped ones")
    parser.add_argument("--execute", action="store_true", help="also let each wording drive the arm")
    parser.add_argument("--json", type=Path, help="file for all rows")
    args = parser.parse_args()
    overrides = [f"planner.options.weights={args.weights}"] if args.weights else []
    config, _ = compose(
        instruction="open the door", task="door-open", seed=0, rig="sim", recipe="unipi", overrides=overrides
    )
    stages: Stages = build_stages(config.recipe)
    rig: Rig = build_plugin("rig", config.rig.plugin, config.rig.options)
    rows: list[dict[str, Any]] = []
    console = Console(stderr=True)
    with rig:
        for task in track(TASKS, description="tasks", console=console):
            for seed in range(FIRST_SEED, FIRST_SEED + args.layouts):
                for phrase in TEST_PHRASES[task]:
                    rig.reset(task=task, seed=seed)
                    row = judge(stages.planner, rig.observe(), task, phrase) | {"seed": seed}
                    if args.execute:
                        row["success"] = run_episode(rig, stages, instruction=phrase, task=task, seed=seed).success
                    rows.append(row)
    stages.close()
    report(rows, console)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"schema_version": 1, "rows": rows}, indent=1) + "\n")


def report(rows: list[dict[str, Any]], console: Console) -> None:
    """Print a table, one line per wording."""
    table = Table(title="Wordings never trained on")
    for name in ("task", "wording", "same plan", "own mm", "nearest other"):
        table.add_column(name, justify="left" if name in ("task", "wording", "nearest other") else "right")
    for task, phrase in dict.fromkeys((r["task"], r["phrase"]) for r in rows):
        mine = [r for r in rows if r["phrase"] == phrase and r["task"] == task]
        same = sum(r["same"] for r in mine)
        rival = min(mine, key=lambda r: r["rival_mm"])
        own = statistics.median(r["own_mm"] for r in mine)
        table.add_row(task, phrase, f"{same}/{len(mine)}", f"{own:.0f}", f"{rival['rival']} {rival['rival_mm']:.0f} mm")
    console.print(table)
    console.print(f"same task: {sum(r['same'] for r in rows)} of {len(rows)}")
    if "success" in rows[0]:
        console.print(f"executed with success: {sum(bool(r['success']) for r in rows)} of {len(rows)}")


if __name__ == "__main__":
    main()
