"""Ctrl-C: the handler only asks; the control loop stops the arm, the run is written, exit code 130."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cascade.contracts.errors import OperatorStop


class StopRequest(threading.Event):
    """Set when a person asked for a stop.

    Attributes:
        moving: the control loop is running and will see the request within one control period.
        finishing: the run is being written; nothing may interrupt that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moving = False
        self.finishing = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a stop request while the context lasts.

    While the arm moves, the first signal ends the motion in order and the second one at once; while a stage computes,
    the first already interrupts it. In either case the arm is told to hold by whoever catches the OperatorStop. The
    handler itself never touches the arm, whose lock the interrupted code may be holding.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        again = stop.is_set()
        stop.set()
        if not stop.finishing and (again or not stop.moving):
            raise OperatorStop("Stopped by a person; the arm holds.")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
