"""Measuring a recipe on a suite: episodes in a process pool, one line per episode, intervals beside every rate.

The control condition `wrong-layout` makes every plan from the first frame of another layout of the same task. Many
tasks forgive a plan that never saw the scene, so only the difference to the control tells what seeing was worth.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.config import RecipeConfig, RigConfig
from cascade.contracts.errors import CascadeError, ConfigError
from cascade.contracts.interfaces import Rig
from cascade.contracts.records import ActionChunk, VideoPlan
from cascade.events import NoRecord, weights_of
from cascade.pipeline import Stages, build_stages
from cascade.plugins import build_plugin
from cascade.recorder import versions
from cascade.runtime import run_episode
from cascade.statistics import percentiles, wilson

SCHEMA_VERSION = 1
WRONG_LAYOUT = "wrong-layout"
WRONG_LAYOUT_OFFSET = 1000  # added to an episode's seed: far outside the seeds of any evaluation
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
Row = dict[str, Any]


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
    """

    suite: str
    tasks: tuple[str, ...]
    rig: RigConfig
    recipe: RecipeConfig
    episodes: int = 5
    seed: int = 200
    cameras: tuple[str, ...] = ()
    control: str | None = None

    def jobs(self) -> list[Job]:
        """All episodes, layout by layout, so that a short run already has something of every task."""
        layouts = range(self.seed, self.seed + self.episodes)
        cameras: tuple[str | None, ...] = self.cameras or (None,)
        return [
            Job(task=task, seed=seed, camera=camera) for camera in cameras for seed in layouts for task in self.tasks
        ]

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
        resume: continue what an interrupted evaluation left in `output`.
        on_row: called with every finished episode, those of earlier runs first.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
        CascadeError: stages cannot be built or do not fit the rig; errors within episodes are counted instead.
    """
    rows = _open_output(evaluation, output, resume=resume)
    for row in rows:
        on_row(row)
    done = {(row["task"], row["seed"], row["camera"]) for row in rows}
    missing = [job for job in evaluation.jobs() if job.key not in done]
    with (output / "episodes.jsonl").open("a", encoding="utf-8") as file:
        for row in _run_jobs(evaluation, missing, jobs):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            on_row(row)
    result = summarise(evaluation, rows) | {"jobs": jobs, "output": str(output)}
    (output / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
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


def _open_output(evaluation: Evaluation, output: Path, *, resume: bool) -> list[Row]:
    """Make the folder, or check that it holds the same evaluation; return the episodes it has."""
    header, lines = output / "evaluation.json", output / "episodes.jsonl"
    try:
        if not header.exists():
            output.mkdir(parents=True, exist_ok=True)
            header.write_text(json.dumps(evaluation.values(), indent=2) + "\n", encoding="utf-8")
            lines.write_text("", encoding="utf-8")
            return []
        found = json.loads(header.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{output}: cannot be used for results ({error}).", "Choose another folder with -o."
        ) from error
    if not resume:
        raise ConfigError(
            f"{output}: expected a new folder, found an evaluation.",
            "Add --resume to go on with it.",
        )
    if found != json.loads(json.dumps(evaluation.values())):
        differs = [key for key, value in evaluation.values().items() if found.get(key) != json.loads(json.dumps(value))]
        raise ConfigError(
            f"{output}: holds another evaluation (different: {', '.join(differs)}).", "Choose another folder with -o."
        )
    return _read_rows(lines)


def _read_rows(path: Path) -> list[Row]:
    """Read finished episodes; a last line cut off by a kill is dropped from the file."""
    if not path.is_file():
        return []
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def _run_jobs(evaluation: Evaluation, jobs: Sequence[Job], processes: int) -> Iterator[Row]:
    """Yield finished episodes in the order they finish."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with (
        _one_thread_each(),
        ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_ignore_interrupts) as pool,
    ):
        futures: list[Future[Row]] = [pool.submit(_episode, evaluation, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise CascadeError(
                "A worker process died, perhaps for want of memory.", "Use fewer --jobs and go on with --resume."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let child processes start with one thread each; more only get in each other's way."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _ignore_interrupts() -> None:
    """Workers finish their episode on Ctrl-C; the parent decides what comes after."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_built: dict[str | None, tuple[Rig, Stages]] = {}  # per worker process: what is built once and used for all episodes


def _episode(evaluation: Evaluation, job: Job) -> Row:
    """Run one episode in a worker process."""
    if job.camera not in _built:
        _built[job.camera] = _build(evaluation, job.camera)
    rig, stages = _built[job.camera]
    notes = _Notes()
    layout = job.seed + WRONG_LAYOUT_OFFSET if evaluation.control == WRONG_LAYOUT else None
    result = run_episode(
        rig, stages, instruction=None, task=job.task, seed=job.seed, recorder=notes, plan_layout=layout
    )
    return {
        "task": job.task,
        "seed": job.seed,
        "camera": job.camera,
        "success": bool(result.success),
        "outcome": result.outcome,
        "failure_stage": result.failure_stage,
        "verdict": result.verdict,
        "steps": result.steps,
        "plans": result.plans,
        "stage_ms": {stage: [round(ms, 3) for ms in values] for stage, values in result.stage_ms.items()},
        "plan": notes.facts,
        "weights": notes.weights,
        "error": str(result.error) if result.error else None,
    }


def _build(evaluation: Evaluation, camera: str | None) -> tuple[Rig, Stages]:
    rig, recipe = evaluation.rig, evaluation.recipe
    if camera is not None:
        rig = rig.model_copy(update={"options": rig.options | {"cameras": [camera]}})
        planner = recipe.planner.model_copy(update={"options": recipe.planner.options | {"camera": camera}})
        recipe = recipe.model_copy(update={"planner": planner})
    built: Rig = build_plugin("rig", rig.plugin, rig.options)
    return built.__enter__(), build_stages(recipe)


class _Notes(NoRecord):
    """Keeps what the result says about plans: facts of the first one, and weights (a Recorder)."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.weights: dict[str, str] = {}

    def plan(self, index: int, plan: VideoPlan) -> None:
        """Note the scalar facts of its provenance."""
        if index == 0:
            scalars = (bool, int, float, str)
            self.facts = {key: value for key, value in plan.provenance.items() if isinstance(value, scalars)}
        self.weights |= weights_of(plan.provenance)

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        """Note the weights it was read with."""
        self.weights |= weights_of(chunk.provenance)
