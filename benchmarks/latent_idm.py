"""Latents against pixels: the same planner weights and layouts; success, and milliseconds from picture to targets.

    python benchmarks/latent_idm.py -o runs/latent-idm              # all arms; goes on where it was stopped
    python benchmarks/latent_idm.py -o runs/latent-idm --arms vpp --layouts 2
    python benchmarks/latent_idm.py -o runs/latent-idm --table      # only the table, from what is there
    python benchmarks/latent_idm.py -o runs/latent-idm --write      # ... and into docs/latents.md

Layouts are those of metaworld-11 from seed 100 on; nothing was trained on them. Times are of one thread: the processor
time of planning and extracting, which does not depend on what else the machine does, and the wall time beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cascade.compose import compose
from cascade.config import RunConfig
from cascade.evaluate import Evaluation, run_evaluation
from cascade.pipeline import build_stages
from cascade.plugins import build_plugin
from cascade.statistics import wilson
from cascade.suites import find_suite, suite_settings

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "latents.md"
BEGIN, END = "<!-- benchmarks/latent_idm.py writes from here -->", "<!-- to here -->"
# name -> recipe and what is set on top
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pixels": ("unipi", ()),
    "readout": ("unipi", ("extractor.options.fuse=latents", "gate.first_frame=false", "gate.motion=false")),
    "vpp": ("vpp", ()),
    "mimic-video": ("mimic-video", ()),
}
REPEATS = 15
LINES = "episodes.jsonl"


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--layouts", type=int, default=5, help="per task")
    parser.add_argument("--seed", type=int, default=100, help="first layout")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--write", action="store_true", help="measure nothing; the table goes into docs/latents.md")
    options = parser.parse_args()
    if not (options.table or options.write):
        for name in options.arms:
            measure(name, options.output / name, options.layouts, options.seed)
    text = table(options.output)
    print(text)
    if options.write:
        page = PAGE.read_text()
        head, rest = page.split(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def measure(name: str, folder: Path, layouts: int, seed: int) -> None:
    """Run the episodes of one arm that are missing, and time its planning."""
    suite = find_suite("metaworld-11")
    recipe, settings = ARMS[name]
    run, _ = compose(
        instruction="",
        task=None,
        seed=seed,
        rig="sim",
        recipe=recipe,
        planner=None,
        overrides=[*suite_settings(suite), *settings],
    )
    if not (folder / "times.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "times.json").write_text(json.dumps(times(run), indent=2) + "\n")
    evaluation = Evaluation(
        suite="metaworld-11", tasks=suite.tasks, rig=run.rig, recipe=run.recipe, episodes=layouts, seed=seed
    )
    episodes = folder / "episodes"
    run_evaluation(evaluation, episodes, resume=episodes.is_dir(), on_row=lambda row: tell(name, row))


def tell(name: str, row: dict[str, Any]) -> None:
    """Print one line per episode."""
    print(name, row["task"], row["seed"], "success" if row["success"] else "failure", flush=True)


def times(run: RunConfig) -> dict[str, Any]:
    """Plan and extract again and again from one picture; milliseconds of each call."""
    import torch

    torch.set_num_threads(1)
    stages = build_stages(run.recipe)
    with build_plugin("rig", run.rig.plugin, run.rig.options) as rig:
        rig.reset(task="door-open", seed=run.seed)
        observation = rig.observe()
    wall, processor, decoded = [], [], False
    for number in range(REPEATS + 3):
        began, spent = time.perf_counter(), time.process_time()
        plan = stages.planner.plan(observation, "open the door", seed=number)[0]
        stages.extractor.extract(plan, observation)
        if number >= 3:  # the first ones warm up
            wall.append((time.perf_counter() - began) * 1e3)
            processor.append((time.process_time() - spent) * 1e3)
        decoded = plan.decoded
    return {
        "wall_ms": wall,
        "processor_ms": processor,
        "decoded": decoded,
        "load": os.getloadavg()[0],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores ({platform.machine()})",
        "planner": plan.provenance.get("weights"),
    }


def commit() -> str:
    """Short hash of the checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def table(output: Path) -> str:
    """Return the Markdown table of the arms that have been measured."""
    rows = {name: lines(output / name / "episodes" / LINES) for name in ARMS}
    rows = {name: found for name, found in rows.items() if found}
    if not rows:
        return "Nothing measured yet."
    facts = {name: json.loads((output / name / "times.json").read_text()) for name in rows}
    tasks = find_suite("metaworld-11").tasks
    out = ["| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for task in tasks:
        out.append(
            f"| {task} | " + " | ".join(share([r for r in rows[name] if r["task"] == task]) for name in rows) + " |"
        )
    out.append("| **all** | " + " | ".join(rate(found) for found in rows.values()) + " |")
    spent = {name: np.percentile(facts[name]["processor_ms"], [50, 10, 90]) for name in rows}
    cells = [f"**{m:.0f}** ({lo:.0f} to {hi:.0f})" for m, lo, hi in spent.values()]
    out.append("| plan and targets, processor time [ms] | " + " | ".join(cells) + " |")
    cells = [f"{np.median(facts[name]['wall_ms']):.0f}" for name in rows]
    out.append("| the same, wall time on the busy machine [ms] | " + " | ".join(cells) + " |")
    out.append(
        "| frames decoded for control | " + " | ".join("yes" if f["decoded"] else "no" for f in facts.values()) + " |"
    )
    if not facts:
        return "Nothing measured yet."
    one = next(iter(facts.values()))
    load = ", ".join(f"{f['load']:.0f}" for f in facts.values())
    out += [
        "",
        f"Measured {one['date']} at commit {one['commit']} on {one['machine']}, no GPU, planner weights "
        f"{one['planner']}. "
        f"Times: median and 10th to 90th percentile of {REPEATS} calls, one thread; load average while timing: {load}.",
    ]
    return "\n".join(out)


def lines(path: Path) -> list[dict[str, Any]]:
    """Read episodes."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def share(rows: list[dict[str, Any]]) -> str:
    """Successes of episodes."""
    return f"{sum(bool(r['success']) for r in rows)}/{len(rows)}"


def rate(rows: list[dict[str, Any]]) -> str:
    """Rate with Wilson's interval."""
    hits, n = sum(bool(r["success"]) for r in rows), len(rows)
    low, high = wilson(hits, n)
    return f"**{hits}/{n}**, {100 * hits / n:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


if __name__ == "__main__":
    main()
