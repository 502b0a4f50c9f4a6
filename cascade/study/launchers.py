"""Where the episodes of a study run: processes of this machine, Ray, or Slurm, behind one switch.

Episodes do not depend on each other and a row is written when it comes back, so a launcher only has to call
`run_job` somewhere and hand back rows in any order.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cascade.contracts.errors import CascadeError, ConfigError
from cascade.episodes import THREAD_VARIABLES, Row, ignore_interrupts, one_thread_each
from cascade.study.jobs import Arm, StudyJob, run_job, run_jobs

Work = tuple[Arm, StudyJob]
Launch = Callable[[Sequence[Work], int, Mapping[str, Any], Path], Iterator[Row]]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolOptions(_Options):
    """The process pool has no options."""


class RayOptions(_Options):
    """Options of the launcher `ray`."""

    address: str | None = Field(None, description="Address of a running cluster; default: start one on this machine.")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPUs that each worker asks for.")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs that each worker asks for.")


class SlurmOptions(_Options):
    """Options of the launcher `slurm`, which submits through submitit."""

    cluster: Literal["slurm", "local", "debug"] = Field(
        "slurm", description="slurm; local: jobs as processes of this machine; debug: in this process."
    )
    partition: str | None = Field(None, description="Slurm partition.")
    timeout_min: int = Field(60, ge=1, description="Most minutes of one Slurm job.")
    mem_gb: float = Field(4.0, gt=0, description="Memory of one Slurm job [GB].")
    episodes_per_job: int = Field(32, ge=1, description="Episodes that one Slurm job runs; a killed job loses its own.")


def launch(name: str, work: Sequence[Work], *, workers: int, options: Mapping[str, Any], folder: Path) -> Iterator[Row]:
    """Run episodes with a launcher and yield rows in the order in which they are finished.

    Args:
        name: pool, ray or slurm.
        work: what to run.
        workers: processes at the same time; of Slurm, jobs.
        options: of the launcher.
        folder: where a launcher may keep its logs.

    Raises:
        ConfigError: an unknown launcher or option, or a missing package.
        CascadeError: an arm cannot be built, or a worker died.
    """
    if name not in LAUNCHERS:
        raise ConfigError(f"launcher {name!r}: expected one of {', '.join(LAUNCHERS)}.", "Choose one of these.")
    model, run = LAUNCHERS[name]
    unknown = sorted(set(options) - set(model.model_fields))
    if unknown:
        known = ", ".join(model.model_fields) or "none"
        raise ConfigError(f"launcher {name!r}: has no option {unknown[0]!r}.", f"Its options: {known}.")
    if work:
        yield from run(work, min(workers, len(work)), options, folder)


def _pool(work: Sequence[Work], workers: int, options: Mapping[str, Any], folder: Path) -> Iterator[Row]:
    context = multiprocessing.get_context("spawn")
    with (
        one_thread_each(),
        ProcessPoolExecutor(workers, mp_context=context, initializer=ignore_interrupts) as pool,
    ):
        futures: list[Future[Row]] = [pool.submit(run_job, arm, job) for arm, job in work]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise CascadeError(
                "A worker process died, perhaps for want of memory.", "Use fewer --jobs and go on with --resume."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _ray(work: Sequence[Work], workers: int, options: Mapping[str, Any], folder: Path) -> Iterator[Row]:
    ray = _package("ray", "ray")
    chosen = RayOptions(**options)
    own = chosen.address is None
    variables = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
    with one_thread_each():
        ray.init(
            address=chosen.address,
            num_cpus=max(1, round(workers * chosen.cpus_per_worker)) if own else None,
            include_dashboard=False if own else None,
            log_to_driver=False,
            runtime_env=variables,
        )
    try:
        worker = ray.remote(num_cpus=chosen.cpus_per_worker, num_gpus=chosen.gpus_per_worker)(_Worker)
        idle = [worker.remote() for _ in range(workers)]
        waiting = list(reversed(work))
        running: dict[Any, Any] = {}
        while waiting or running:
            while waiting and idle:
                actor = idle.pop()
                arm, job = waiting.pop()
                running[actor.run.remote(arm, job)] = actor
            done, _ = ray.wait(list(running), num_returns=1)
            idle.append(running.pop(done[0]))
            yield _result(ray, done[0])
    finally:
        ray.shutdown()


class _Worker:
    """What a Ray actor is made of: one process with its rigs and stages."""

    def run(self, arm: Arm, job: StudyJob) -> Row:
        """Run one episode."""
        return run_job(arm, job)


def _result(ray: Any, reference: Any) -> Row:
    """Return a row; an error of ours comes out as itself."""
    try:
        row: Row = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CascadeError):
            raise error.cause from error
        raise CascadeError(f"A Ray worker failed: {error.cause}", "Run with --launcher pool to see why.") from error
    except ray.exceptions.RayActorError as error:
        raise CascadeError(
            "A Ray worker died, perhaps for want of memory.", "Use fewer --jobs and go on with --resume."
        ) from error
    return row


def _slurm(work: Sequence[Work], workers: int, options: Mapping[str, Any], folder: Path) -> Iterator[Row]:
    submitit = _package("submitit", "slurm")
    chosen = SlurmOptions(**options)
    executor = submitit.AutoExecutor(folder=folder / "slurm", cluster=chosen.cluster)
    executor.update_parameters(timeout_min=chosen.timeout_min, mem_gb=chosen.mem_gb, cpus_per_task=1)
    if chosen.cluster == "slurm":
        executor.update_parameters(slurm_array_parallelism=workers, slurm_partition=chosen.partition)
    size = chosen.episodes_per_job
    parts = [list(work[start : start + size]) for start in range(0, len(work), size)]
    # Only Slurm queues by itself; elsewhere no more jobs are started than there are workers.
    at_once = len(parts) if chosen.cluster == "slurm" else workers
    running: list[Any] = []
    try:
        with one_thread_each():
            while parts or running:
                begun, parts = parts[: at_once - len(running)], parts[at_once - len(running) :]
                running += executor.map_array(run_jobs, begun) if begun else []
                finished = next(iter(submitit.helpers.as_completed(running)))
                running.remove(finished)
                yield from _rows(submitit, finished)
    finally:
        for job in running:
            job.cancel()


def _rows(submitit: Any, job: Any) -> list[Row]:
    """Return the rows of a finished Slurm job; its own account of what went wrong, if it failed."""
    try:
        rows: list[Row] = job.result()
    except submitit.core.utils.FailedJobError as error:
        # Its message is the worker's traceback, in which the line that says what happened is the last of its kind.
        told = [line for line in str(error).splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
        reason = told[-1] if told else "no traceback"
        raise CascadeError(f"Slurm job {job.job_id} failed: {reason}", f"See {job.paths.stderr}.") from error
    except submitit.core.utils.UncompletedJobError as error:
        raise CascadeError(f"Slurm job {job.job_id} did not finish.", f"See {job.paths.stderr}.") from error
    return rows


def _package(name: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"launcher: expected the package {name!r}, found none.", f"pip install 'cascade-wam[{extra}]'"
        ) from error


LAUNCHERS: dict[str, tuple[type[_Options], Launch]] = {
    "pool": (PoolOptions, _pool),
    "ray": (RayOptions, _ray),
    "slurm": (SlurmOptions, _slurm),
}
