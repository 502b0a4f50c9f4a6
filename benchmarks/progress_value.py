"""Does the learned value put whole plans before unfinished and wrong ones, and does it tell which ones succeed?

python benchmarks/progress_value.py plans --episodes 4            # good plans and the same spoiled, on unseen layouts
python benchmarks/progress_value.py trials runs/executability     # plans that `executability.py run` has followed
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.calibration_gate.trials import read_rows
from cascade.config import load_recipe, load_rig
from cascade.contracts import Candidate
from cascade.metrics.discrimination import auroc, bootstrap
from cascade.plugins import build_plugin
from cascade.statistics import wilson
from cascade.suites import find_suite
from cascade.testing.spoiled import SpoiledPlanner
from cascade.testing.spoils import Spoil
from cascade.value.model import SHIPPED, ValueModel

SPOILS = (
    (Spoil.FROZEN, 1.0),
    (Spoil.EARLY_STOP, 0.5),
    (Spoil.EARLY_STOP, 1.0),
    (Spoil.OTHER_TASK, 1.0),
    (Spoil.WRONG_GOAL, 1.0),
    (Spoil.TELEPORT, 1.0),
)
Row = dict[str, Any]


def plans(first: int, episodes: int, weights: Path) -> Iterator[Row]:
    """Yield the value of every plan: one good one per layout, and the same one spoiled in every way."""
    rig = load_rig("sim")
    planner = load_recipe("unipi").planner
    spoiler = SpoiledPlanner(build_plugin("planner", planner.name, planner.options))
    scorer = build_plugin("scorer", "value", {"weights": str(weights)})
    tasks = find_suite("metaworld-11").tasks
    with build_plugin("rig", rig.plugin, {**rig.options, "arm_process": False}) as world:
        for seed in range(first, first + episodes):
            for number, task in enumerate(tasks):
                world.reset(task=tasks[(number + 1 + seed) % len(tasks)], seed=seed)
                spoiler.other_instruction = world.monitor.instruction
                world.reset(task=task, seed=seed)
                spoiler.begin(task=task, seed=seed)
                observation = world.observe()
                for kind, strength in ((Spoil.NONE, 0.0), *SPOILS):
                    spoiler.kind, spoiler.strength = kind, strength
                    plan = spoiler.plan(observation, world.monitor.instruction, seed=seed)[0]
                    value = scorer.score([Candidate(plan=plan, chunk=None)], observation)[0]
                    yield {"task": task, "seed": seed, "kind": kind.value, "strength": strength, "value": value}
    spoiler.close()


def print_plans(rows: Sequence[Row]) -> None:
    """Print one line per way of spoiling."""
    good = {(row["task"], row["seed"]): row["value"] for row in rows if row["kind"] == "none"}
    print(f"{len(good)} layouts; value of good plans, median {np.median(list(good.values())):.2f}\n")
    print("| plan | value, median | AUROC, good against it | the good one of the pair comes first |\n|---|---|---|---|")
    for kind, strength in SPOILS:
        mine = [row for row in rows if (row["kind"], row["strength"]) == (kind.value, strength)]
        bad = np.array([row["value"] for row in mine])
        paired = np.array([good[row["task"], row["seed"]] for row in mine])
        values = np.concatenate([paired, bad])
        is_good = np.arange(len(values)) < len(paired)
        wins = int((paired > bad).sum())
        low, high = wilson(wins, len(bad))
        print(
            f"| `{kind.value}`, strength {strength:g} | {np.median(bad):.2f} | {auroc(values, is_good):.2f} | "
            f"{wins} of {len(bad)} ({100 * low:.0f} to {100 * high:.0f} %) |"
        )


def print_trials(folder: Path, weights: Path) -> None:
    """Print how well the value tells followed plans that reached the goal from others, in all and per kind."""
    model = ValueModel.load(weights)
    found: list[tuple[str, bool, float, str]] = []
    for row in read_rows(folder / "trials.jsonl"):
        path = folder / f"{row['key']}.npz"
        if row["error"] or not path.is_file():
            continue
        with np.load(path) as evidence:
            progress = model.progress(row["instruction"], evidence["frames"])
        if progress is not None:
            scene = f"{row['task']}-{row['seed']}"
            found.append((row["kind"], bool(row["success"]), float(progress[-3:].mean()), scene))
    kinds, hits, values, scenes = (np.array(column) for column in zip(*found, strict=True))
    all_of_them = bootstrap(lambda part: auroc(values[part], hits[part]), list(scenes))
    print(f"{len(found)} plans, {hits.sum()} successes: AUROC {all_of_them}\n")
    print("| plan | plans | successes | value, median | AUROC within |\n|---|---|---|---|---|")
    for kind in sorted(set(kinds)):
        mine = kinds == kind
        both = 0 < hits[mine].sum() < mine.sum()
        within = f"{auroc(values[mine], hits[mine]):.2f}" if both else "-"
        print(f"| `{kind}` | {mine.sum()} | {hits[mine].sum()} | {np.median(values[mine]):.2f} | {within} |")


def main() -> None:
    """Print the tables of docs/choosing-plans.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parts = parser.add_subparsers(dest="part", required=True)
    made = parts.add_parser("plans")
    made.add_argument("--seed", type=int, default=100, help="first layout")
    made.add_argument("--episodes", type=int, default=4, help="layouts of each task")
    made.add_argument("-o", "--output", type=Path, help="file for the values, one line each")
    followed = parts.add_parser("trials")
    followed.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.part == "trials":
        print_trials(args.folder, args.weights)
        return
    rows = list(plans(args.seed, args.episodes, args.weights))
    if args.output:
        args.output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print_plans(rows)


if __name__ == "__main__":
    main()
