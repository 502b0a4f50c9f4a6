"""How long one replan takes on this machine: what is seen now to the next targets, at several step counts.

    python benchmarks/replan_latency.py [--threads 2] [--repeats 30] [--steps 1,2,4,8] [--json out.json]

A replan is: look up the sentence, encode the current image, denoise, decode 16 frames, read the hand in every frame and
extract targets. Step counts take turns within each round, so that a disturbance of the machine meets all of them alike.
The first rounds warm up and are not counted. The table goes to stdout, everything measured to the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cascade.config import RigConfig, find_config, load_yaml
from cascade.contracts import ActionExtractor, Observation, Planner
from cascade.plugins import build_plugin

ROOT = Path(__file__).resolve().parents[1]
SCENES = {"door-open": "open the door", "button-press": "press the button", "drawer-open": "open the drawer"}
NEW_WORDS = "please pull that door towards you"
STAGES = ("text", "encode", "denoise", "readout", "decode", "extract", "total")
WARM_UP = 3


def main() -> None:
    """Measure, print a table, write the JSON file where asked."""
    options = parse()
    import torch

    torch.set_num_threads(options.threads)
    steps = [int(word) for word in options.steps.split(",")]
    planners = {count: planner_of(options, count) for count in steps}
    extractor = build_plugin("extractor", options.extractor, chosen(weights=options.extractor_weights))
    observations = observe()
    first_words = first_sentence_ms(next(iter(planners.values())), observations)
    samples = measure(planners, extractor, observations, options.repeats)
    document = {
        "benchmark": "replan_latency",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(options.threads),
        "planner": {count: facts(planner, observations) for count, planner in planners.items()},
        "extractor": options.extractor,
        "repeats": options.repeats,
        "text_first_time_ms": first_words,
        "ms": {count: {stage: spread(values) for stage, values in rows.items()} for count, rows in samples.items()},
    }
    show(document)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--repeats", type=int, default=30, help="counted replans per step count")
    parser.add_argument("--steps", default="1,2,4,8", help="denoising steps to compare")
    parser.add_argument("--weights", type=Path, help="planner weights instead of the shipped ones")
    parser.add_argument("--extractor", default="idm", help="extractor plug-in")
    parser.add_argument("--extractor-weights", type=Path, help="extractor weights instead of the shipped ones")
    parser.add_argument("--json", type=Path, help="file for everything that was measured")
    return parser.parse_args()


def chosen(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def planner_of(options: argparse.Namespace, steps: int) -> Planner:
    """Load the embedded planner for a number of denoising steps."""
    planner: Planner = build_plugin("planner", "embedded", {"steps": steps, **chosen(weights=options.weights)})
    return planner


def observe() -> dict[str, Observation]:
    """Return sentence -> the first observation of a task that it belongs to."""
    config = RigConfig.model_validate(load_yaml(find_config("rigs", "sim")).values)
    seen = {}
    with build_plugin("rig", config.plugin, config.options) as rig:
        for seed, (task, sentence) in enumerate(SCENES.items()):
            rig.reset(task=task, seed=seed)
            seen[sentence] = rig.observe()
    return seen


@contextmanager
def timed(into: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall time of the block to `into` [ms]."""
    began = time.perf_counter()
    yield
    into[stage] = (time.perf_counter() - began) * 1000


def replan(
    planner: Planner, extractor: ActionExtractor, observation: Observation, sentence: str, seed: int
) -> dict[str, float]:
    """Do one replan and return milliseconds per stage."""
    ms: dict[str, float] = {}
    whole: dict[str, float] = {}
    with timed(whole, "total"):
        plan = planner.plan(observation, sentence, seed=seed)[0]
        with timed(ms, "decode"):
            frames = plan.frames
        with timed(ms, "extract"):
            chunk = extractor.extract(plan, observation)
    if len(frames) < 2 or not len(chunk):
        raise SystemExit("The plan or the chunk is empty: there is nothing to measure.")
    return {**plan.provenance["ms"], **ms, **whole}


def measure(
    planners: dict[int, Planner], extractor: ActionExtractor, observations: dict[str, Observation], repeats: int
) -> dict[int, dict[str, list[float]]]:
    """Return step count -> stage -> milliseconds of every counted replan."""
    samples: dict[int, dict[str, list[float]]] = {count: {stage: [] for stage in STAGES} for count in planners}
    sentences = list(observations)
    for turn in range(WARM_UP + repeats):
        sentence = sentences[turn % len(sentences)]
        for count, planner in planners.items():
            row = replan(planner, extractor, observations[sentence], sentence, turn)
            if turn >= WARM_UP:
                for stage in STAGES:
                    samples[count][stage].append(row.get(stage, 0.0))
    return samples


def first_sentence_ms(planner: Planner, observations: dict[str, Observation]) -> float:
    """Return how long a sentence takes that was never seen before, the encoder being loaded already [ms]."""
    sentence, observation = next(iter(observations.items()))
    planner.plan(observation, sentence, seed=0)
    plan = planner.plan(observation, NEW_WORDS, seed=0)[0]
    return float(plan.provenance["ms"]["text"])


def facts(planner: Planner, observations: dict[str, Observation]) -> dict[str, Any]:
    """Return what a plan says of its maker."""
    sentence, observation = next(iter(observations.items()))
    provenance = planner.plan(observation, sentence, seed=0)[0].provenance
    return {name: provenance[name] for name in ("weights", "steps", "dtype", "text_source") if name in provenance}


def spread(values: list[float]) -> dict[str, float]:
    """Return percentiles [ms]."""
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "max": round(max(values), 2)}


def machine(threads: int) -> dict[str, Any]:
    """Say where this was measured, how busy it was included."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "load_average_1min": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def commit() -> str:
    """Return the commit that is measured, marked when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def show(document: dict[str, Any]) -> None:
    """Print the table."""
    where = document["machine"]
    print(f"{document['when']}  commit {document['commit']}")
    print(
        f"{where['processor']}, {where['cores']} cores, {where['threads']} threads, load {where['load_average_1min']}, "
        f"torch {where['torch']}"
    )
    if where["load_average_1min"] > where["cores"]:
        print("The machine was busy with other things: these figures are not worth quoting.")
    print(f"p50 / p95 in ms of {document['repeats']} replans each")
    print(f"a sentence never seen before adds {document['text_first_time_ms']:.1f} ms, once\n")
    print("steps  " + "".join(f"{stage:>16}" for stage in STAGES))
    for count, rows in document["ms"].items():
        cells = "".join(f"{rows[stage]['p50']:>8.1f} /{rows[stage]['p95']:>6.1f}" for stage in STAGES)
        print(f"{count:>5}  {cells}")


if __name__ == "__main__":
    main()
