"""Being on time: scheduling as the system grants it, absolute deadlines, and a record of how late cycles were.

A process of its own under SCHED_FIFO keeps deadlines that threads beside a network do not. Cycles sleep until an
absolute monotonic deadline and never spin: real-time processes that spin are throttled by the kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FIFO_PRIORITY = 50
THREADS_PRIORITY = 40
NICENESS = -15
PLAIN_HZ = 100.0
"""Most cycles per second where the system grants neither real-time scheduling nor a better niceness."""

OVERRUN_NS = 20_000_000
_LOCK_ALL = 3  # MCL_CURRENT | MCL_FUTURE
_WINDOW_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the system granted.

    Attributes:
        scheduling: 'fifo', 'nice' or 'plain'.
        locked: whether memory is locked, so that no cycle waits for a page.
        rate_hz: the rate that can be kept with it.
        warning: what is missing and what to do, or empty.
    """

    scheduling: str
    locked: bool
    rate_hz: float
    warning: str = ""


def become_punctual(rate_hz: float, *, wanted: str = "fifo") -> Grant:
    """Ask the system for punctuality, for the calling thread; freeze the collector's generations and stop it.

    Args:
        rate_hz: wanted cycles per second.
        wanted: 'fifo', 'nice' or 'plain': the best that is asked for.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    locked = wanted != "plain" and _lock_memory()
    if wanted == "fifo" and _fifo():
        return Grant(scheduling="fifo", locked=locked, rate_hz=rate_hz)
    if wanted in ("fifo", "nice") and _nice():
        text = "No SCHED_FIFO here: cycles may be late under load. Allow it: `rtprio 99` in /etc/security/limits.conf."
        return Grant(scheduling="nice", locked=locked, rate_hz=rate_hz, warning=text if wanted == "fifo" else "")
    slower = min(rate_hz, PLAIN_HZ)
    text = (
        f"Neither SCHED_FIFO nor a better niceness here: {slower:g} Hz instead of {rate_hz:g} Hz, and late under load. "
        "Allow it: `rtprio 99` in /etc/security/limits.conf."
    )
    return Grant(scheduling="plain", locked=locked, rate_hz=slower, warning=text)


def get_ahead(wanted: str = "fifo") -> bool:
    """Let threads that are started from now on run ahead of other programs, below the loop; return whether they will.

    The vendors' libraries read in threads of their own: beside a punctual loop they would starve on a busy machine, and
    the state go stale. Call it before they are started.
    """
    return wanted == "fifo" and _fifo(THREADS_PRIORITY)


def _fifo(priority: int = FIFO_PRIORITY) -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError):
        return False
    return True


def _nice() -> bool:
    try:
        granted = os.nice(NICENESS - os.nice(0)) <= NICENESS
    except OSError:
        return False
    # Desktop kernels share the processor among sessions first (sched_autogroup): niceness alone then counts only inside
    # this process's own session, where there is nobody else, and the session needs the same one.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS))
    return granted


def _lock_memory() -> bool:
    try:
        return bool(ctypes.CDLL(None, use_errno=True).mlockall(_LOCK_ALL) == 0)
    except (OSError, AttributeError):
        return False


class LatenessRecord:
    """Histogram of lateness: 20 microseconds wide up to 100 ms, one window per second.

    Attributes:
        window: (p50, p99, max) of the last full window, in ms, then the worst since the beginning.
        cycles: counted; overruns: of these, later than 20 ms.
    """

    _STEP_NS, _BINS = 20_000, 5_000

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(self._BINS + 1, dtype=np.int64)
        self._window_worst_ns = self._worst_ns = 0
        self._window_end_ns = 0
        self.window = (0.0, 0.0, 0.0, 0.0)
        self.cycles = self.overruns = 0

    def add(self, late_ns: int, now_ns: int) -> None:
        """Count one cycle."""
        late_ns = max(late_ns, 0)
        self._counts[min(late_ns // self._STEP_NS, self._BINS)] += 1
        self.cycles += 1
        self.overruns += late_ns > OVERRUN_NS
        self._window_worst_ns = max(self._window_worst_ns, late_ns)
        self._worst_ns = max(self._worst_ns, late_ns)
        if now_ns >= self._window_end_ns:
            self._close_window(now_ns)

    def _close_window(self, now_ns: int) -> None:
        if self._window_end_ns:
            total = np.cumsum(self._counts)
            p50, p99 = (int(np.searchsorted(total, share * total[-1])) for share in (0.5, 0.99))
            # The upper edge of the bin: lateness is never reported better than it was.
            worst = self._window_worst_ns * 1e-6
            edges = (min((i + 1) * self._STEP_NS * 1e-6, worst) for i in (p50, p99))
            self.window = (*edges, worst, self._worst_ns * 1e-6)  # type: ignore[assignment]
        self._counts[:] = 0
        self._window_worst_ns = 0
        self._window_end_ns = now_ns + _WINDOW_NS


class Pacer:
    """Absolute deadlines at a fixed rate; a missed one is skipped, never caught up."""

    def __init__(self, rate_hz: float) -> None:
        self.period_ns = round(1e9 / rate_hz)
        self._next_ns = 0
        self.restart()

    def restart(self) -> None:
        """Begin anew from now, as after something that took long on purpose."""
        self._next_ns = time.monotonic_ns() + self.period_ns

    def wait(self) -> tuple[int, int]:
        """Sleep until the next deadline; return (now, lateness) in ns."""
        now = time.monotonic_ns()
        while now < self._next_ns:
            time.sleep((self._next_ns - now) * 1e-9)
            now = time.monotonic_ns()
        late = now - self._next_ns
        self._next_ns += self.period_ns * (1 + late // self.period_ns)
        return now, late
