"""Faults, one by one, on the emulated devices: what every test of this folder shares.

`reaction` notes what was measured; `benchmarks/fault_table.py` makes docs/faults.md of it. The promise is printed and
tabled as it is. What a test asserts allows for a machine that is busy with other things, but for distances, which are
what people are hurt by.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cascade.contracts import ArmEvent, ArmMode, Limits
from robot_io.loopback.ur import URLoopback
from robot_io.process.arm_process import ArmProcess
from robot_io.process.poses import pose_of
from robot_io.process.settings import ProcessSettings

SPARE_MS = 250.0
BOX = np.array([[-0.9, -0.6, 0.0], [0.9, 0.6, 1.0]])


@pytest.fixture
def reaction(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`reaction(number, what, measured, promised)` in ms, or in another `unit`; without a promise it is just noted."""

    def note(
        number: int, what: str, measured: float, promised: float | None, *, unit: str = "ms", hard: bool = False
    ) -> None:
        kept = promised is None or measured <= promised
        row = {"number": number, "what": what, "measured": round(float(measured), 2), "promised": promised}
        row |= {"unit": unit, "kept": bool(kept), "test": request.node.name}
        print(f"fault {number}: {what}: {measured:.1f} {unit}, promised {promised}")
        if path := os.environ.get("FAULT_REACTIONS"):
            with open(path, "a") as file:
                file.write(json.dumps(row) + "\n")
        if promised is not None:
            assert measured <= (promised if hard or unit != "ms" else 2 * promised + SPARE_MS)

    return note


@pytest.fixture
def until() -> Callable[..., Any]:
    """`until(function)`: call it until what it returns is true, and return that; fails after `seconds`."""

    def wait(function: Callable[[], Any], seconds: float = 40.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (result := function()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.001)
        return result

    return wait


class Log:
    """Everything an arm told, kept."""

    def __init__(self, arm: ArmProcess) -> None:
        self.arm = arm
        self.events: list[ArmEvent] = []

    def look(self) -> list[ArmEvent]:
        """Return all lines so far."""
        self.events += self.arm.events()
        return self.events

    def first(self, code: str, after_s: float = 0.0, kind: str | None = None) -> ArmEvent | None:
        """Return the first line with a code, or None."""
        lines = [e for e in self.look() if e.code == code and e.stamp_s >= after_s and kind in (None, e.kind)]
        return lines[0] if lines else None

    def wait(self, code: str, after_s: float = 0.0, kind: str | None = None, seconds: float = 10.0) -> ArmEvent:
        """Wait for a line with a code."""
        deadline = time.monotonic() + seconds
        while (event := self.first(code, after_s, kind)) is None:
            assert time.monotonic() < deadline, f"no {code}: {[(e.kind, e.code, e.message) for e in self.events]}"
            time.sleep(0.001)
        return event

    def faults(self) -> list[str]:
        """Return the codes of all faults so far."""
        return [event.code for event in self.look() if event.kind == "fault"]


@pytest.fixture
def log() -> Callable[[ArmProcess], Log]:
    return Log


@pytest.fixture
def make_arm() -> Iterator[Callable[..., ArmProcess]]:
    """`make_arm("UR", options, limits={...}, ttl_s=...)`: an arm process, not connected yet."""
    made: list[ArmProcess] = []

    def make(plugin: str, options: dict[str, Any], limits: dict[str, Any] | None = None, **settings: Any) -> ArmProcess:
        values: dict[str, Any] = {
            "workspace_m": BOX,
            "max_speed_m_s": 0.25,
            "max_acceleration_m_s2": 1.0,
            "max_jerk_m_s3": 10.0,
            "max_step_m": 0.3,
            "max_rotation_rad": 0.3,
            "max_tracking_error_m": 0.1,
            "tracking_error_s": 0.5,
        }
        chosen = ProcessSettings(**{"caller_s": 2.0, "disarm_s": 60.0, **settings})
        arm = ArmProcess(
            f"robot_io.arms.plugins:{plugin}", options, Limits(**{**values, **(limits or {})}), settings=chosen
        )
        made.append(arm)
        return arm

    yield make
    for arm in made:
        arm.close()


@pytest.fixture(scope="package")
def controller() -> Iterator[URLoopback]:
    """An emulated UR5e whose patience is a busy machine's."""
    with URLoopback("ur5e", watchdog_slack_s=0.5) as running:
        yield running


@pytest.fixture
def ur(controller: URLoopback) -> URLoopback:
    pytest.importorskip("rtde_control")
    controller.reset()
    return controller


class Motion:
    """A thread of its own that leads an arm along an axis at full speed, a target every 20 ms, until it is ended."""

    def __init__(self, arm: ArmProcess, *, axis: int = 2, to_m: float = 0.2) -> None:
        self._arm, self._ended = arm, threading.Event()
        self.target = pose_of(arm.read(max_age_s=5.0).T_base_ee)
        self.target[axis] += to_m
        self.last_s = 0.0
        self.codes: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.last_s = time.monotonic()
            ack = self._arm.send_checked(self.target, 1.0)
            self.codes.append(ack.code)
            time.sleep(0.02)

    def end(self) -> float:
        """End it; return when the last target was sent."""
        self._ended.set()
        self._thread.join()
        return self.last_s


@pytest.fixture
def lead() -> Iterator[Callable[..., Motion]]:
    """`lead(arm)`: set it in motion, and return once it is fast."""
    begun: list[Motion] = []

    def start(arm: ArmProcess, speed_m_s: float = 0.15, **way: Any) -> Motion:
        motion = Motion(arm, **way)
        begun.append(motion)
        deadline = time.monotonic() + 10.0
        while not _fast(arm, speed_m_s):
            assert time.monotonic() < deadline, (arm.mode, arm.faults, motion.codes[-3:])
            time.sleep(0.002)
        return motion

    yield start
    for motion in begun:
        motion.end()


def _fast(arm: ArmProcess, speed_m_s: float) -> bool:
    twist = arm.last_known().twist
    return arm.mode is ArmMode.MOVING and twist is not None and float(np.linalg.norm(twist[:3])) > speed_m_s


@pytest.fixture
def travel_mm() -> Callable[[URLoopback, float], float]:
    """How far the emulated arm's tool went after a time, until now."""

    def measure(loopback: URLoopback, since_s: float) -> float:
        trace = np.array(loopback.trace())
        after = trace[trace[:, 0] >= since_s][:, 1:4]
        return float(np.linalg.norm(after - after[0], axis=1).max() * 1e3)

    return measure
