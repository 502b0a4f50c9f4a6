"""Best of N against one plan: the same layouts, each under several arms, success and time with intervals.

    python benchmarks/best_of_n.py -o runs/best-of-n [--layouts 5] [--seed 100] [--resume]
    python benchmarks/best_of_n.py -o runs/best-of-n --table

Every arm runs every layout of the suite, the arms taking turns within a layout, so that a disturbance of the machine
meets all of them alike. Success carries Wilson's interval, pairs are compared by McNemar's exact test, and times are
medians with a bootstrap interval. One line per episode goes to OUTPUT/episodes.jsonl as it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cascade.compose import compose
from cascade.config import RunConfig
from cascade.pipeline import build_stages
from cascade.plugins import build_plugin
from cascade.runtime import run_episode
from cascade.statistics import mcnemar_exact, wilson
from cascade.suites import find_suite, suite_settings

ROOT = Path(__file__).resolve().parents[1]
# name -> recipe and what is set on top; the first one is what the others are compared with.
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "N=1, 1 step": ("unipi", ()),
    "N=1, 4 steps": ("unipi", ("planner.options.steps=4",)),
    "N=4, 4 steps": ("best-of-n", ()),
    "vlp": ("vlp", ()),
    "one view": ("unipi", ("extractor.options.fuse=latents",)),
    "three views": ("vidar", ("planner.options.options={}", "sampling.samples=1", "sampling.scorers=[]")),
    "vidar": ("vidar", ()),
}
DEFAULT_ARMS = ("N=1, 1 step", "N=1, 4 steps", "N=4, 4 steps")
PLAN_STAGES = ("plan", "decode", "readout", "choose", "extract")  # from a picture to targets


def main() -> None:
    """Run what is missing, then print the tables."""
    options = parse()
    output: Path = options.output
    arms = {name: ARMS[name] for name in (options.arms or DEFAULT_ARMS)}
    if not options.table:
        output.mkdir(parents=True, exist_ok=True)
        if (output / "episodes.jsonl").exists() and not options.resume:
            raise SystemExit(f"{output}: holds episodes already; add --resume to go on, or choose another folder.")
        measure(arms, options, output)
    rows = [json.loads(line) for line in (output / "episodes.jsonl").read_text().splitlines()]
    show(rows, list(arms), output)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--suite", default="metaworld-11")
    parser.add_argument("--tasks", help="only these, separated by commas")
    parser.add_argument("--layouts", type=int, default=5, help="layouts of each task")
    parser.add_argument("--seed", type=int, default=100, help="first layout")
    parser.add_argument("--arms", nargs="*", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="for every arm, key=value")
    parser.add_argument("--resume", action="store_true", help="go on with what OUTPUT holds")
    parser.add_argument("--table", action="store_true", help="only print the tables of OUTPUT")
    return parser.parse_args()


def measure(arms: dict[str, tuple[str, tuple[str, ...]]], options: argparse.Namespace, output: Path) -> None:
    """Run every arm on every layout that has no line yet."""
    path = output / "episodes.jsonl"
    done = set()
    if path.exists():
        done = {(row["task"], row["seed"], row["arm"]) for row in map(json.loads, path.read_text().splitlines())}
    suite = find_suite(options.suite)
    runs = {name: run_of(arm, [*suite_settings(suite), *options.settings]) for name, arm in arms.items()}
    stages = {name: build_stages(run.recipe) for name, run in runs.items()}
    (output / "facts.json").write_text(json.dumps(facts(options), indent=2) + "\n")
    first = next(iter(runs.values()))
    with build_plugin("rig", first.rig.plugin, first.rig.options) as rig, path.open("a") as file:
        for turn, (task, seed) in enumerate(layouts(options, suite.tasks)):
            names = list(arms)[turn % len(arms) :] + list(arms)[: turn % len(arms)]
            for name in names:
                if (task, seed, name) in done:
                    continue
                result = run_episode(rig, stages[name], instruction=None, task=task, seed=seed)
                row = {
                    "task": task,
                    "seed": seed,
                    "arm": name,
                    "success": bool(result.success),
                    "outcome": result.outcome,
                    "failure_stage": result.failure_stage,
                    "plans": result.plans,
                    "steps": result.steps,
                    "stage_ms": {stage: [round(ms, 2) for ms in times] for stage, times in result.stage_ms.items()},
                    "load": round(os.getloadavg()[0], 2),
                    "error": str(result.error or ""),
                }
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(f"{task} {seed} {name}: {result.outcome}", file=sys.stderr)


def layouts(options: argparse.Namespace, tasks: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Layout by layout, so that a short run has something of every task."""
    chosen = options.tasks.split(",") if options.tasks else tasks
    for seed in range(options.seed, options.seed + options.layouts):
        for task in chosen:
            yield task, seed


def run_of(arm: tuple[str, tuple[str, ...]], settings: list[str]) -> RunConfig:
    """Return the configuration of an arm under the suite's conditions."""
    recipe, overrides = arm
    run, _ = compose(instruction="", task=None, seed=0, rig="sim", recipe=recipe, overrides=[*settings, *overrides])
    return run


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured, where and when."""
    done = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
    )
    return {
        "suite": options.suite,
        "settings": options.settings,
        "seeds": [options.seed, options.seed + options.layouts - 1],
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": done.stdout.strip() or "unknown",
        "cores": os.cpu_count(),
    }


def median(values: list[float]) -> tuple[float, float, float]:
    """Return the median and its 95 % bootstrap interval (2000 draws, fixed seed)."""
    sample = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).choice(sample, (2000, len(sample)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(sample)), float(low), float(high)


def first_plan_ms(row: dict[str, Any]) -> float:
    """Time from a picture to targets, of an episode's first plan [ms]."""
    return float(sum(row["stage_ms"][stage][0] for stage in PLAN_STAGES if row["stage_ms"].get(stage)))


def show(rows: list[dict[str, Any]], arms: list[str], output: Path) -> None:
    """Print the tables as Markdown, of the layouts that every arm has run."""
    by_arm = {arm: {(r["task"], r["seed"]): r for r in rows if r["arm"] == arm} for arm in arms}
    common = sorted(set.intersection(*(set(found) for found in by_arm.values())))
    if not common:
        raise SystemExit("No layout has been run under every arm yet.")
    print(f"{len(common)} layouts under every arm; {(output / 'facts.json').read_text().strip()}\n")
    print("| task | " + " | ".join(arms) + " |\n|---" + "|---" * len(arms) + "|")
    for task in dict.fromkeys(task for task, _ in common):
        mine = [key for key in common if key[0] == task]
        cells = [f"{sum(by_arm[arm][key]['success'] for key in mine)}/{len(mine)}" for arm in arms]
        print(f"| {task} | " + " | ".join(cells) + " |")
    rates = [[bool(by_arm[arm][key]["success"]) for key in common] for arm in arms]
    cells = []
    for hits in rates:
        low, high = wilson(sum(hits), len(hits))
        cells.append(f"**{100 * sum(hits) / len(hits):.0f} %** ({100 * low:.0f} to {100 * high:.0f})")
    print("| all | " + " | ".join(cells) + " |")
    cells = ["-"]
    for hits in rates[1:]:
        only_first = sum(a and not b for a, b in zip(rates[0], hits, strict=True))
        only_other = sum(b and not a for a, b in zip(rates[0], hits, strict=True))
        cells.append(f"{only_other} to {only_first}, p = {mcnemar_exact(only_first, only_other):.2f}")
    print(f"| won and lost against {arms[0]} | " + " | ".join(cells) + " |")
    times = [median([first_plan_ms(by_arm[arm][key]) for key in common]) for arm in arms]
    print("| picture to targets, ms | " + " | ".join(f"{m:.0f} ({a:.0f} to {b:.0f})" for m, a, b in times) + " |")
    loads = [by_arm[arm][key]["load"] for arm in arms for key in common]
    print(f"\nload of the machine: median {np.median(loads):.1f}")


if __name__ == "__main__":
    main()
