"""Measuring a recipe on a suite: episodes in a process pool, one line per episode, intervals beside every rate.

The control condition `wrong-layout` makes every plan from the first frame of another layout of the same task. Many
tasks forgive a plan that never saw the scene, so only the difference to the control tells what seeing was worth.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from cascade.config import RecipeConfig, RigConfig
from cascade.contracts.errors import CascadeError
from cascade.contracts.interfaces import Rig
from cascade.episodes import LINES, Row, episode_row, ignore_interrupts, one_thread_each, open_log
from cascade.failures import Examiner, Witness, write_failures
from cascade.pipeline import Stages, build_stages
from cascade.plugins import build_plugin
from cascade.recorder import commit, versions
from cascade.statistics import percentiles, wilson

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One episode to run; `camera` None leaves the views as the recipe has them."""

    task: str
    seed: int
    camera: str | None = None

    @property
    def key(self) -> tuple[str, int, str | None]:
        """What tells it from the other episodes of its evaluation."""
        return self.task, self.seed, self.camera


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is measured.

    Attributes:
        suite: its name; tasks: its tasks.
        episodes: layouts per task, with seeds seed, seed + 1, ...
        cameras: views to plan through, one after the other; empty: as the recipe has them.
        control: None or 'wrong-layout'.
        diagnose: whether failed episodes are looked into, which takes some seconds each and slows motion down.
    """

    suite: str
    tasks: tuple[str, ...]
    rig: RigConfig
    recipe: RecipeConfig
    episodes: int = 5
    seed: int = 200
    cameras: tuple[str, ...] = ()
    control: str | None = None
    diagnose: bool = False

    def jobs(self) -> list[Job]:
        """All episodes, layout by layout, so that a short run already has something of every task and camera."""
        layouts = range(self.seed, self.seed + self.episodes)
        cameras: tuple[str | None, ...] = self.cameras or (None,)
        return [
            Job(task=task, seed=seed, camera=camera) for seed in layouts for camera in cameras for task in self.tasks
        ]

    def facts(self) -> dict[str, Any]:
        """What every row says of where it comes from, so that rows of several evaluations can be told apart."""
        return {
            "suite": self.suite,
            "recipe": self.recipe.name,
            "recipe_digest": _digest(self.recipe.model_dump(mode="json")),
            "rig_digest": _digest(self.rig.model_dump(mode="json")),
            "planner": self.recipe.planner.name,
            "extractor": self.recipe.extractor.name,
            "control": self.control,
            "diagnose": self.diagnose,
            "versions": versions(),
            "commit": commit(),
        }

    def values(self) -> dict[str, Any]:
        """As JSON values; two evaluations with equal values may be continued by each other."""
        return {
            "suite": self.suite,
            "tasks": list(self.tasks),
            "rig": self.rig.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "episodes": self.episodes,
            "seed": self.seed,
            "cameras": list(self.cameras),
            "control": self.control,
            **({"diagnose": True} if self.diagnose else {}),
        }


def run_evaluation(
    evaluation: Evaluation,
    output: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    on_row: Callable[[Row], None] = lambda row: None,
) -> dict[str, Any]:
    """Run what is missing, write `episodes.jsonl` and `result.json` into `output`, and return the result document.

    Args:
        evaluation: what is measured.
        output: folder; its `evaluation.json` says what it holds.
        jobs: processes, each with a rig and stages of its own and one thread.
        resume: continue what an interrupted evaluation left in `output`, or one of fewer episodes per task.
        on_row: called with every finished episode, those of earlier runs first.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
        CascadeError: stages cannot be built or do not fit the rig; errors within episodes are counted instead.
    """
    rows = open_log(evaluation.values(), output, kind="evaluation", resume=resume, grows="episodes")
    for row in rows:
        on_row(row)
    done = {(row["task"], row["seed"], row["camera"]) for row in rows}
    missing = [job for job in evaluation.jobs() if job.key not in done]
    facts = evaluation.facts()
    with (output / LINES).open("a", encoding="utf-8") as file:
        for finished in _run_jobs(evaluation, missing, jobs, output):
            row = finished | facts
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            on_row(row)
    result = summarise(evaluation, rows) | {"jobs": jobs, "output": str(output)}
    (output / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if evaluation.diagnose:
        write_failures(rows, output, f"{evaluation.suite}, recipe {evaluation.recipe.name}")
    return result


def summarise(evaluation: Evaluation, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the result document of finished episodes."""
    by_task = {task: [bool(row["success"]) for row in rows if row["task"] == task] for task in evaluation.tasks}
    latencies: dict[str, list[float]] = {}
    weights: dict[str, str] = {}
    for row in rows:
        for stage, values in row["stage_ms"].items():
            latencies.setdefault(stage, []).extend(values)
        weights.update(row.get("weights") or {})
    recipe = evaluation.recipe
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": evaluation.suite,
        "recipe": recipe.name,
        "planner": recipe.planner.name,
        "extractor": recipe.extractor.name,
        "reader": recipe.reader.name if recipe.reader else None,
        "rig": evaluation.rig.name,
        "control": evaluation.control,
        "cameras": list(evaluation.cameras),
        "episodes": len(rows),
        "seeds": [evaluation.seed, evaluation.seed + evaluation.episodes - 1],
        "success": _rate([success for successes in by_task.values() for success in successes]),
        "tasks": {task: _rate(successes) for task, successes in by_task.items()},
        "by_camera": {camera: _of_camera(evaluation, rows, camera) for camera in evaluation.cameras},
        "latency_ms": {stage: percentiles(values) for stage, values in latencies.items()},
        "failures": dict(Counter(row["failure_stage"] for row in rows if not row["success"])),
        "diagnoses": dict(Counter(row["diagnosis"]["class"] for row in rows if row.get("diagnosis"))),
        "errors": sorted({row["error"] for row in rows if row["error"]}),
        "weights": weights,
        "versions": versions(),
    }


def _of_camera(evaluation: Evaluation, rows: Sequence[Mapping[str, Any]], camera: str) -> dict[str, Any]:
    """Return the rates of the episodes that were planned through one camera."""
    mine = [row for row in rows if row["camera"] == camera]
    tasks = {task: [bool(row["success"]) for row in mine if row["task"] == task] for task in evaluation.tasks}
    return {
        "success": _rate([bool(row["success"]) for row in mine]),
        "tasks": {task: _rate(successes) for task, successes in tasks.items()},
    }


def _rate(successes: Sequence[bool]) -> dict[str, Any]:
    n, hits = len(successes), sum(successes)
    return {"rate": round(hits / n, 4) if n else 0.0, "ci95": [round(v, 4) for v in wilson(hits, n)], "n": n}


def _run_jobs(evaluation: Evaluation, jobs: Sequence[Job], processes: int, output: Path) -> Iterator[Row]:
    """Yield finished episodes in the order they finish."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with (
        one_thread_each(),
        ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=ignore_interrupts) as pool,
    ):
        futures: list[Future[Row]] = [pool.submit(_episode, evaluation, job, output) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise CascadeError(
                "A worker process died, perhaps for want of memory.", "Use fewer --jobs and go on with --resume."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """What a worker builds once for a camera and uses for all its episodes."""

    rig: Rig
    stages: Stages
    examiner: Examiner | None


_built: dict[str | None, _Built] = {}  # by camera, in a worker process


def _episode(evaluation: Evaluation, job: Job, output: Path) -> Row:
    """Run one episode in a worker process; pictures of what failed go into `output`."""
    if job.camera not in _built:
        _built[job.camera] = _build(evaluation, job.camera)
    built = _built[job.camera]
    witness = Witness(built.rig) if built.examiner is not None else None
    began_s = perf_counter()
    row = episode_row(
        built.rig, built.stages, task=job.task, seed=job.seed, control=evaluation.control, recorder=witness
    )
    row |= {"camera": job.camera, "wall_s": round(perf_counter() - began_s, 3), "load": round(os.getloadavg()[0], 2)}
    if built.examiner is not None and witness is not None and not row["success"]:
        row["diagnosis"] = built.examiner.examine(witness.account, row, output)
    return row


def _build(evaluation: Evaluation, camera: str | None) -> _Built:
    rig, recipe = evaluation.rig, evaluation.recipe
    if camera is not None:
        rig = rig.model_copy(update={"options": rig.options | {"cameras": [camera]}})
        planner = recipe.planner.model_copy(update={"options": recipe.planner.options | {"camera": camera}})
        recipe = recipe.model_copy(update={"planner": planner})
    made: Rig = build_plugin("rig", rig.plugin, rig.options)
    connected = made.__enter__()
    examiner = Examiner(connected, rig, recipe) if evaluation.diagnose else None
    return _Built(rig=connected, stages=build_stages(recipe), examiner=examiner)


def _digest(values: Mapping[str, Any]) -> str:
    """Return a short name of JSON values, the same for equal ones."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
