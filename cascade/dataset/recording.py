"""Recording sets of demonstrations: one worker per process, each with a rig of its own, one episode in memory each."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from cascade.contracts import DataError, Demonstrator, DeviceError, OperatorStop, Rig
from cascade.dataset.assemble import assemble
from cascade.dataset.entries import write_json
from cascade.dataset.manifest import HEADER, read_header, versions
from cascade.dataset.merge import all_entries, finalize, settle
from cascade.dataset.staging import write_episode
from cascade.plugins import build_plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPlan:
    """How the episodes of one set are made; all of them alike.

    Attributes:
        kind: demonstrator plug-in, 'expert' or 'play'.
        rig: rig plug-in; rig_options: its options.
        cameras: views that are kept.
        every: control steps per image.
    """

    kind: str
    rig: str
    rig_options: Mapping[str, Any]
    cameras: tuple[str, ...]
    every: int

    def header(self) -> dict[str, Any]:
        """Return the part of a set's header that is known before the rig is built."""
        return {"kind": self.kind, "rig": self.rig, "cameras": list(self.cameras), "every": self.every}


@dataclass(frozen=True, slots=True)
class Job:
    """One episode to record."""

    task: str
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One episode that has been recorded."""

    task: str
    seed: int
    success: bool
    length: int
    seconds: float


class Recorder:
    """A rig and a demonstrator that write episodes into the set at `root`."""

    def __init__(self, plan: RecordingPlan, root: Path) -> None:
        self._plan, self._root = plan, root
        self._demonstrator: Demonstrator = build_plugin("demonstrator", plan.kind)
        self._rig: Rig = build_plugin("rig", plan.rig, plan.rig_options).__enter__()

    def header(self) -> dict[str, Any]:
        """Return what is written once per set and must be the same when it is continued."""
        return {
            **self._plan.header(),
            "robot": self._rig.arm.spec.name,
            "control_hz": self._rig.arm.spec.control_hz,
            "description": {k: v for k, v in self._rig.describe().items() if k not in ("task", "seed")},
            "versions": versions(),
        }

    def record(self, job: Job) -> Outcome:
        """Record one episode and stage it."""
        begun = time.perf_counter()
        plan = self._plan
        steps = self._demonstrator.demonstrate(self._rig, task=job.task, seed=job.seed, every=plan.every)
        episode = assemble(
            steps, self._rig, plan.cameras, kind=plan.kind, task=job.task, seed=job.seed, every=plan.every
        )
        write_episode(self._root, episode)
        length = len(episode.state)
        return Outcome(job.task, job.seed, episode.success, length, time.perf_counter() - begun)

    def close(self) -> None:
        """Let go of the rig."""
        self._rig.__exit__(None, None, None)


def record_set(
    root: Path,
    plan: RecordingPlan,
    jobs: Sequence[Job],
    *,
    processes: int = 1,
    on_start: Callable[[int], None] = lambda missing: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> dict[str, Any]:
    """Record the jobs that the set at `root` lacks, merge, and return its manifest.

    Args:
        root: folder of the set, new or begun earlier.
        plan: how episodes are made.
        jobs: episodes that the set shall hold.
        processes: worker processes; 1 records in this one.
        on_start: called with the number of episodes that are missing.
        on_outcome: called after each episode.

    Raises:
        DataError: the folder holds something else, or a set that was recorded in another way.
        DeviceError: a worker process died.
        OperatorStop: Ctrl-C; what was complete is merged and readable.
    """
    with _locked(root):
        settle(root)
        _compare(root, read_header(root), plan.header())
        todo = _missing(root, plan.kind, jobs)
        on_start(len(todo))
        if todo:
            try:
                _run(root, plan, todo, processes, on_outcome)
            except KeyboardInterrupt:
                _stopped(root)
            except BaseException:
                if all_entries(root):
                    finalize(root)
                raise
        return finalize(root)


def recover(root: Path) -> dict[str, Any]:
    """Merge every complete episode of an interrupted set and return its manifest."""
    if not root.is_dir():
        raise DataError(f"{root}: expected the folder of a dataset, found none.", "Check the path.")
    with _locked(root):
        return finalize(root)


def _missing(root: Path, kind: str, jobs: Sequence[Job]) -> list[Job]:
    held = {(entry.kind, entry.task, entry.seed) for entry in all_entries(root)}
    return [job for job in jobs if (kind, job.task, job.seed) not in held]


def _run(
    root: Path, plan: RecordingPlan, jobs: Sequence[Job], processes: int, on_outcome: Callable[[Outcome], None]
) -> None:
    if processes == 1:
        recorder = Recorder(plan, root)
        try:
            _check_header(root, recorder.header())
            for job in jobs:
                on_outcome(recorder.record(job))
        finally:
            recorder.close()
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # processes, not threads, share the cores
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _start_worker, (plan, root)) as pool:
        try:
            _check_header(root, pool.submit(_worker_header).result())
            waiting: set[Future[Outcome]] = {pool.submit(_worker_record, job) for job in jobs}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    on_outcome(future.result())
        except BrokenProcessPool as error:
            raise DeviceError(
                "recording: expected the worker processes to live, found one dead.",
                "Run the same command again with --jobs 1 to see why.",
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)  # lets the episodes in progress end
            raise


def _stopped(root: Path) -> Never:
    kept = len(all_entries(root))
    if kept:
        finalize(root)
    raise OperatorStop(f"Recording stopped; {kept} complete episodes are kept in {root}.", "Run it again to continue.")


def _check_header(root: Path, header: Mapping[str, Any]) -> None:
    """Write how the set is recorded, or compare with what was written when it was begun."""
    header = json.loads(json.dumps(header))  # as it will be read again: tuples are lists in JSON
    known = read_header(root)
    if known:
        _compare(root, known, {**dict.fromkeys(known), **header})
    else:
        write_json(root / HEADER, header)


def _compare(root: Path, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    different = [key for key in sorted(wanted) if known and known.get(key) != wanted[key]]
    if different:
        key = different[0]
        problem = f"{root}: expected a set recorded with {key} = {wanted[key]}, found {known.get(key)}."
        raise DataError(problem, "Record into another folder.")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the set at `root` for this process alone."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        foreign = [path for path in root.iterdir() if path.name not in _OURS]
        if foreign:
            problem = f"{root}: expected a new folder or a recorded set, found {foreign[0].name}."
            raise DataError(problem, "Choose another folder with -o.")
        lock = (root / _LOCK).open("w")
    except OSError as error:
        raise DataError(f"{root}: expected a folder to write to, found {error.strerror}.", "Choose another.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"{root}: expected to be alone, found another recording into it.", "Wait for it."
            ) from error
        yield


_LOCK = ".lock"
_OURS = {_LOCK, HEADER, "staged", "data", "meta", "videos", "data.new", "meta.new", "merge.ready", "README.md"}
_worker: list[Recorder] = []  # the recorder of this worker process


def _start_worker(plan: RecordingPlan, root: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us between episodes
    _worker.append(Recorder(plan, root))


def _worker_header() -> dict[str, Any]:
    return _worker[0].header()


def _worker_record(job: Job) -> Outcome:
    return _worker[0].record(job)
