"""Planning while the arm moves: in a thread where time goes on, at once where a simulated world waits for compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import Generic, TypeVar

from cascade.contracts.interfaces import Clock

T = TypeVar("T")


class Stopwatch:
    """Collects times of stages in another thread, to be noted later where the record is written."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float]] = []  # name, stage, milliseconds

    @contextmanager
    def __call__(self, name: str, stage: str) -> Iterator[None]:
        """Time a block."""
        began = perf_counter()
        yield
        self.rows.append((name, stage, (perf_counter() - began) * 1e3))


class Background(Generic[T]):
    """One job at a time.

    Args:
        clock: of the rig.
        frozen: whether the world waits for compute; then a job is done at once and counts as ready `latency_s` of
            simulated time later, so that a run gives the same result on every machine.
        latency_s: see `frozen`.
    """

    def __init__(self, clock: Clock, *, frozen: bool, latency_s: float = 0.0) -> None:
        self._clock, self._latency_s = clock, latency_s
        self._pool = None if frozen else ThreadPoolExecutor(1, thread_name_prefix="cascade-plan")
        self._job: Callable[[], T] | None = None
        self._future: Future[T] | None = None
        self._ready_s = 0.0

    @property
    def busy(self) -> bool:
        """Whether a job has been started whose result nobody has taken."""
        return self._job is not None

    @property
    def ready(self) -> bool:
        """Whether its result can be taken without waiting."""
        if self._job is None:
            return False
        if self._pool is None:
            return self._clock.now_s() >= self._ready_s - 1e-9
        return self._future is not None and self._future.done()

    def start(self, job: Callable[[], T]) -> None:
        """Start a job; there must be none."""
        if self._job is not None:
            raise RuntimeError("a job is running already")
        self._job = job
        self._ready_s = self._clock.now_s() + self._latency_s
        if self._pool is not None:
            self._future = self._pool.submit(job)

    def take(self) -> T:
        """Return the result, waiting for it where necessary; raises what the job raised."""
        if self._job is None:
            raise RuntimeError("no job was started")
        job, future = self._job, self._future
        self._job = self._future = None
        return job() if future is None else future.result()

    def close(self) -> None:
        """Wait for what still runs, and forget it."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
