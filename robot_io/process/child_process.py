"""The caller's end of an arm process: starts it, speaks with it, watches it, ends it."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from cascade.contracts import DeviceError
from robot_io.process.channel import Channel
from robot_io.process.child import DONE, TICK, Answer, Request, Setup

IMPORT_S = 60.0
BEAT_S = 0.02
HUNG_S = 1.0
LOST_S = 0.2
CLOSE_S = 3.0
_PROGRAM = "import sys; sys.path[:] = {path!r}; from robot_io.process.child import main; main()"


class ChildProcess:
    """One arm process, from start to end.

    It is a program of its own, not a fork and not `multiprocessing`'s spawn: nothing of the caller's `__main__` runs in
    it, and a caller needs no `if __name__ == "__main__"`.

    Args:
        setup: what it is told first; lock_fd: file that it keeps open while it lives, or -1.
        died: called once, from a thread, with a code and a text when it ends without being asked to.

    Attributes:
        channel: the shared memory; info: what the driver says of the device, once connected.
    """

    def __init__(self, setup: Setup, lock_fd: int, died: Callable[[str, str], None]) -> None:
        self._setup, self._died = setup, died
        self.channel = Channel()
        self.info: Any = None
        self._lock = threading.Lock()
        self._number = 0
        self._busy = 0
        self._closing = threading.Event()
        self._ended = False
        ours, theirs = socket.socketpair()
        fds = (theirs.fileno(), self.channel.memory.fd, *([lock_fd] if lock_fd >= 0 else []))
        self._popen = subprocess.Popen(  # noqa: S603  (our own interpreter and our own code)
            [sys.executable, "-c", _PROGRAM.format(path=sys.path), str(fds[0]), str(fds[1])],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._link = Connection(ours.detach())
        self._supervisor: threading.Thread | None = None
        self._beat()
        self._link.send(setup)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._popen.poll() is None

    def connect(self) -> None:
        """Wait until the device is connected; raises DeviceError, the process then being gone."""
        try:
            self._wait(-1, IMPORT_S, "loading its driver")
            self.info = self._wait(0, self._setup.timeout_s + 0.5, "connecting").value
        except BaseException:
            self.kill()
            raise
        self.channel.words["child_ns"] = time.monotonic_ns()
        self._supervisor = threading.Thread(target=self._supervise, name="arm-supervisor", daemon=True)
        self._supervisor.start()

    def _wait(self, number: int, timeout_s: float, doing: str) -> Answer:
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                if self._link.poll(max(0.0, deadline_s - time.monotonic())):
                    message = self._link.recv_bytes()
                    answer = None if message == DONE else pickle.loads(message)  # noqa: S301  (our own child)
                else:
                    raise DeviceError(
                        f"arm process: no answer within {timeout_s:.1f} s while {doing}.",
                        "Check that the device is on and reachable.",
                    )
            except (EOFError, OSError) as error:
                raise DeviceError(
                    f"arm process: it ended while {doing} (exit code {self._popen.poll()}).", "See its events."
                ) from error
            if answer is not None and answer.number == number:
                if answer.error is not None:
                    raise DeviceError(*answer.error)
                return answer  # type: ignore[no-any-return]

    def call(
        self, name: str, now_ns: int, timeout_s: float, meanwhile: Callable[[], None] | None = None, **values: Any
    ) -> Any:
        """Ask for something, do something else meanwhile, and wait for the answer.

        Raises:
            DeviceError: it was refused, or no answer came in time.
        """
        if not self._lock.acquire(timeout=timeout_s):
            raise DeviceError("arm process: busy with another request.", "One thread commands an arm.")
        self._busy += 1
        try:
            self._number += 1
            try:
                self._link.send(Request(number=self._number, name=name, now_ns=now_ns, values=values))
            except OSError as error:
                raise DeviceError("arm process: it has ended.", "Connect again.") from error
            if meanwhile is not None:
                meanwhile()
            return self._wait(self._number, timeout_s, f"asked to {name}").value
        finally:
            self.channel.words["child_ns"] = time.monotonic_ns()  # it was busy, not hung
            self._busy -= 1
            self._lock.release()

    def tick(self, now_ns: int) -> None:
        """In lockstep: let it do one cycle at this time and wait until it is done."""
        with self._lock:
            try:
                self._link.send_bytes(TICK.pack(b"t", now_ns))
                while self._link.recv_bytes() != DONE:
                    pass
            except (EOFError, OSError) as error:
                raise DeviceError("arm process: it has ended.", "See its events.") from error

    def _beat(self) -> None:
        self.channel.words["caller_ns"] = time.monotonic_ns()

    def _supervise(self) -> None:
        lost_s = 0.0
        while not self._closing.wait(BEAT_S):
            self._beat()
            if not self.alive:
                self._report("driver_died", f"Its process ended by itself (exit code {self._popen.returncode}).")
                return
            now_s = time.monotonic()
            record = self.channel.newest()
            if record is not None and record["fatal"]:
                lost_s = lost_s or now_s
                if now_s - lost_s > LOST_S:  # no library may reconnect by itself
                    self._popen.kill()
            lockstep = self._setup.settings.lockstep
            silent_s = now_s - self.channel.words["child_ns"] * 1e-9
            if not lockstep and not self._busy and silent_s > HUNG_S:
                self._popen.kill()
                self._report("driver_hung", f"No control cycle for {silent_s:.1f} s: its process was killed.")
                return

    def _report(self, code: str, text: str) -> None:
        if not self._ended:
            self._died(code, text)

    def close(self) -> None:
        """End it: asked first, killed after 3 s at most; idempotent."""
        if self._ended:
            return
        self._ended = True
        if self.alive:
            try:
                self.call("close", 0, CLOSE_S - 0.3)
                self._popen.wait(0.3)
            except (DeviceError, subprocess.TimeoutExpired):
                pass
        self.kill()

    def kill(self) -> None:
        """End it now."""
        self._ended = True
        self._closing.set()
        if self.alive:
            self._popen.kill()
        self._popen.wait()
        if self._supervisor is not None and self._supervisor is not threading.current_thread():
            self._supervisor.join(1.0)
        self._link.close()
