"""The xArm's command channel, served by one thread so that a slow reply never holds up the control loop.

Every command of the controller waits for its reply: a fraction of a millisecond as a rule, now and then a fifth of a
second. The loop therefore leaves its newest setpoint here and reads what was measured last; the thread sends, asks for
the joints, and looks after errors and the gripper in between. Setpoints that the thread did not get to are dropped,
never queued.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OK, HAS_ERROR, TIMEOUT, NOT_SENT, NOT_READY = 0, 1, 3, 8, 9
STOPPED = 4
ERROR_POLL_S = 0.05
REPORT_AFTER_S = 0.03  # joints of this age and more are replaced by a newer report's


class Gripper(Protocol):
    """A gripper on the tool's bus; every method talks on the command channel."""

    def prepare(self, api: Any) -> None:
        """Enable it; raises DeviceError."""
        ...

    def move(self, api: Any, opening: float) -> None:
        """Start towards an opening 0..1; does not wait."""
        ...

    def measure(self, api: Any) -> tuple[float | None, int]:
        """Return the opening 0..1 (None: no answer) and its error code."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was measured last; joints [rad], TCP pose [mm, rad as rpy], monotonic times [s]."""

    stamp_s: float
    q: Floats
    qd: Floats
    pose: Sequence[float] | None = None
    error_code: int = 0
    gripper_opening: float | None = None
    gripper_error: int = 0


class CommandChannel:
    """The thread that talks to the controller.

    Args:
        api: the SDK's connected XArmAPI, in radians.
        axes: number of joints.
        servo: sends one setpoint, returns the SDK's code.
        gripper: or None.
        period_s: how often the joints are asked for when no setpoint comes.
    """

    def __init__(
        self, api: Any, axes: int, servo: Any, gripper: Gripper | None, period_s: float, gripper_period_s: float = 0.1
    ) -> None:
        self._api, self._axes, self._servo, self._gripper = api, axes, servo, gripper
        self._period_s, self._gripper_period_s = period_s, gripper_period_s
        self._wake = threading.Condition()
        self._closing = False
        self._stop_wanted = False
        self._setpoint: Floats | None = None
        self._opening: float | None = None
        self._sent_opening: float | None = None
        self._asked_s: float | None = None
        self._error_polled_s = self._gripper_done_s = self._moved_gripper_s = 0.0
        self._reports: list[tuple[float, Floats, list[float]]] = []
        self._measured: Measured | None = None
        self.failure: str | None = None
        self.report_count = 0
        self.refused = OK  # code of the last servo command
        api.register_report_callback(self._on_report)
        self._thread = threading.Thread(target=self._run, daemon=True, name="xarm-commands")
        self._thread.start()

    def offer(self, setpoint: Floats, opening: float | None) -> None:
        """Leave the newest setpoint and gripper opening for the thread."""
        with self._wake:
            self._setpoint = np.array(setpoint, dtype=np.float64)
            self._opening = self._opening if opening is None else float(opening)
            self._wake.notify()

    def halt(self) -> None:
        """Let the thread ask for a stop before anything else; drop what waits."""
        with self._wake:
            self._setpoint = self._opening = None
            self._stop_wanted = True
            self._wake.notify()

    def flush(self) -> None:
        """Drop what waits, and what became of the last setpoint."""
        with self._wake:
            self._setpoint = self._opening = None
            self.refused = OK

    def close(self, timeout_s: float = 1.2) -> None:
        """End the thread; it is left behind when a reply does not come in time."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_s)
        self._api.release_report_callback(self._on_report)

    def waiting_s(self) -> float:
        """How long the controller has owed a reply [s]; 0 when it owes none."""
        asked_s = self._asked_s
        return 0.0 if asked_s is None else time.monotonic() - asked_s

    def measured(self) -> Measured | None:
        """Return what was measured last: the joints as asked for, or a newer report's while a reply is owed."""
        measured, reports = self._measured, self._reports
        if measured is None or not reports:
            return measured
        stamp_s, q, pose = reports[-1]
        if stamp_s - measured.stamp_s < REPORT_AFTER_S or len(reports) < 2:
            return replace(measured, pose=pose)
        before_s, before, _ = reports[0]
        return replace(measured, stamp_s=stamp_s, q=q, qd=(q - before) / max(stamp_s - before_s, 0.008), pose=pose)

    def _on_report(self, report: dict[str, Any]) -> None:
        q = np.array(report["joints"][: self._axes], dtype=np.float64)
        self.report_count += 1
        self._reports = [*self._reports[-3:], (time.monotonic(), q, list(report["cartesian"]))]

    def _run(self) -> None:
        try:
            while not self._closing or self._stop_wanted:
                self._cycle()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

    def _cycle(self) -> None:
        with self._wake:
            if self._setpoint is None and not self._stop_wanted and not self._closing:
                self._wake.wait(self._period_s)
            setpoint, self._setpoint = self._setpoint, None
            stop, self._stop_wanted = self._stop_wanted, False
        if self._closing and not stop:
            return
        if stop:
            self._ask(self._api.set_state, STOPPED)
        elif setpoint is not None:
            self.refused = self._ask(self._servo, setpoint)
        self._poll()
        self._serve_gripper()

    def _ask(self, command: Any, *arguments: Any) -> Any:
        self._asked_s = time.monotonic()
        try:
            return command(*arguments)
        finally:
            self._asked_s = None

    def _poll(self) -> None:
        code, joints = self._ask(lambda: self._api.get_joint_states(is_radian=True, num=2))
        if not self._api.connected:
            self.failure = "the controller closed the connection"
            self._closing = True
            return
        last = self._measured
        error_code = last.error_code if last else 0
        now_s = time.monotonic()
        stopped = int(self._api.state) == STOPPED  # reports of the fast stream carry no error code
        if (self._api.has_err_warn or stopped or self.refused in (HAS_ERROR, NOT_READY)) and (
            (not error_code and not stopped) or now_s - self._error_polled_s > ERROR_POLL_S
        ):
            self._error_polled_s = now_s
            error_code = int(self._ask(self._api.get_err_warn_code)[1][0])
            self._ask(self._api.get_state)
        elif not self._api.has_err_warn:
            error_code = 0
        if code != OK or len(joints) < 2:
            if last is not None:
                self._measured = replace(last, error_code=error_code)
            return
        self._measured = Measured(
            stamp_s=now_s,
            q=np.array(joints[0][: self._axes], dtype=np.float64),
            qd=np.array(joints[1][: self._axes], dtype=np.float64),
            error_code=error_code,
            gripper_opening=last.gripper_opening if last else None,
            gripper_error=last.gripper_error if last else 0,
        )

    def _serve_gripper(self) -> None:
        """Move or measure the gripper, seldom: each takes a turn on the tool's slow bus away from the setpoints."""
        now_s = time.monotonic()
        if self._gripper is None or self._measured is None or now_s - self._gripper_done_s < self._gripper_period_s:
            return
        opening = self._opening
        if opening is not None and (self._sent_opening is None or abs(opening - self._sent_opening) > 0.005):
            self._ask(self._gripper.move, self._api, opening)
            self._sent_opening, self._moved_gripper_s = opening, now_s
        elif now_s - self._moved_gripper_s < 2.0 or now_s - self._gripper_done_s > 1.0:
            measured, error_code = self._ask(self._gripper.measure, self._api)
            self._measured = replace(self._measured, gripper_opening=measured, gripper_error=error_code)
        else:
            return
        self._gripper_done_s = time.monotonic()
