"""The devices of the soak test: each is kept busy, broken now and then, and brought back."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import ArmEvent, ArmMode, DeviceError, Limits, StaleImageError
from robot_io.arms.feetech_calibration_file import save_calibration
from robot_io.loopback.camera import LoopbackCamera
from robot_io.loopback.servo_bus import SO101_SERVOS, ServoBus
from robot_io.loopback.servo_bus_serve import so101_calibration
from robot_io.loopback.ur import URLoopback
from robot_io.process.arm_process import ArmProcess
from robot_io.process.poses import pose_of
from robot_io.process.settings import ProcessSettings

LIMITS: dict[str, Any] = {
    "max_speed_m_s": 0.25,
    "max_acceleration_m_s2": 1.0,
    "max_jerk_m_s3": 10.0,
    "max_step_m": 0.3,
    "max_rotation_rad": 0.3,
    "max_tracking_error_m": 0.1,
    "tracking_error_s": 0.5,
}


def told_once(found: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether exactly one code was logged, and an expected one; none where none is expected."""
    return len(found) == min(len(expected), 1) and all(code in expected for code in found)


@dataclass
class Injection:
    """One fault that was made on purpose.

    Attributes:
        number: of docs/faults.md; what: was done; expected: codes, one of which must be logged, once;
            empty: nothing is to be logged.
        at_s: since the beginning; reaction_ms: until the device was seen in fault, None where none is expected.
        found: codes in the log between injection and recovery; recovered: whether the device was brought back.
    """

    number: int
    what: str
    expected: tuple[str, ...]
    at_s: float
    reaction_ms: float | None = None
    found: list[str] = field(default_factory=list)
    recovered: bool = False

    @property
    def told_once(self) -> bool:
        """Whether the log tells it exactly once, and nothing else."""
        return told_once(self.found, self.expected)


class Device:
    """A thread that keeps one device busy, breaks it now and then, and brings it back."""

    def __init__(self, name: str, seed: int, gap_s: float) -> None:
        self.name, self.random, self.gap_s = name, random.Random(seed), gap_s
        self.injections: list[Injection] = []
        self.unprovoked: list[dict[str, Any]] = []
        self.crash = ""
        self.lateness: list[dict[str, Any]] = []
        self.began_s = time.monotonic()
        self.end_s = 0.0

    def run(self) -> None:
        """Run until the time is over; whatever escapes is kept."""
        try:
            self.work()
        except BaseException:
            self.crash = traceback.format_exc()

    def work(self) -> None:
        """Overridden by each device."""
        raise AssertionError("abstract")

    @property
    def over(self) -> bool:
        """Whether it is time to end."""
        return time.monotonic() > self.end_s

    def next_s(self) -> float:
        """When to break it next; never in the last half minute."""
        at_s = time.monotonic() + self.random.uniform(0.5, 1.5) * self.gap_s
        return at_s if at_s < self.end_s - 30 else float("inf")

    def inject(self, number: int, what: str, expected: tuple[str, ...], do: Callable[[], None]) -> Injection:
        """Break it."""
        injection = Injection(number, what, expected, round(time.monotonic() - self.began_s, 3))
        self.injections.append(injection)
        do()
        return injection

    def pids(self) -> dict[str, int]:
        """Processes by what they are."""
        return {}


class ArmDevice(Device):
    """An arm behind its process."""

    def __init__(self, name: str, seed: int, gap_s: float, period_s: float, radius_m: float) -> None:
        super().__init__(name, seed, gap_s)
        self.period_s, self.radius_m = period_s, radius_m
        self.arm: ArmProcess

    def kinds(self) -> list[tuple[int, str, tuple[str, ...], Callable[[], None], Callable[[], None]]]:
        """(number, what, codes, break, mend)."""
        raise AssertionError("abstract")

    def work(self) -> None:
        """Move in circles."""
        self.come_back()
        self.centre = pose_of(self.arm.read(max_age_s=2.0).T_base_ee)
        due_s = self.next_s()
        while not self.over:
            if self.arm.mode in (ArmMode.FAULT, ArmMode.ESTOP, ArmMode.DISCONNECTED, ArmMode.IDLE):
                self.note_unprovoked()
                self.come_back()
            if time.monotonic() > due_s:
                self.break_and_mend()
                due_s = self.next_s()
            self.lead()
        self.note_unprovoked()
        self.arm.close()

    def lead(self) -> None:
        """Send the next target."""
        angle = 0.8 * time.monotonic()
        target = self.centre.copy()
        target[1] += self.radius_m * np.sin(angle)
        target[2] += self.radius_m * (1 - np.cos(angle))
        self.arm.send_checked(target, 1.0)
        time.sleep(self.period_s)

    def faults_told(self) -> list[ArmEvent]:
        """New lines of the log that tell a fault."""
        return [event for event in self.arm.events() if event.kind == "fault"]

    def note_unprovoked(self) -> None:
        """Keep what nobody did."""
        for event in self.faults_told():
            line = {"at_s": round(event.stamp_s - self.began_s, 3), "code": event.code, "message": event.message}
            self.unprovoked.append(line)

    def break_and_mend(self) -> None:
        """One fault, from making to being back."""
        number, what, expected, do, mend = self.random.choice(self.kinds())
        self.note_unprovoked()
        begun_s = time.monotonic()
        injection = self.inject(number, what, expected, do)
        until_s = begun_s + (8.0 if expected else 2.0)
        while time.monotonic() < until_s:
            if self.arm.mode is ArmMode.FAULT:
                injection.reaction_ms = round((time.monotonic() - begun_s) * 1e3, 1)
                break
            self.lead()
        time.sleep(self.random.uniform(0.5, 1.5))  # somebody comes and looks
        mend()
        if self.arm.mode is ArmMode.FAULT or injection.expected:
            self.come_back()
        else:
            self.lead()
        injection.found = [event.code for event in self.faults_told()]
        injection.recovered = self.arm.mode in (ArmMode.ARMED, ArmMode.MOVING, ArmMode.HOLD)

    def come_back(self) -> None:
        """What a person does: read the faults, clear them, connect, arm; tried for two minutes."""
        until_s, error = time.monotonic() + 120.0, None
        while time.monotonic() < until_s:
            try:
                for fault in self.arm.faults:
                    self.arm.clear_fault(fault.token)
                if self.arm.mode is ArmMode.DISCONNECTED:
                    self.arm.connect(20.0)
                if self.arm.mode is ArmMode.IDLE:
                    self.arm.arm()
                if self.arm.mode in (ArmMode.ARMED, ArmMode.MOVING, ArmMode.HOLD):
                    return
            except DeviceError as found:
                error = found
                time.sleep(0.5)
        raise RuntimeError(f"{self.name}: not brought back in two minutes") from error

    def pids(self) -> dict[str, int]:
        """The arm process, while there is one."""
        pid = self.arm.pid
        return {} if pid is None else {f"{self.name} process": pid}

    def note_lateness(self) -> None:
        """Keep the last second's."""
        try:
            late = self.arm.lateness()
        except DeviceError:
            return
        self.lateness.append(asdict(late))


CUT = ("link_lost", "driver_died")


class UR(ArmDevice):
    """UR5e: faults 4 and 12."""

    def __init__(self, seed: int, gap_s: float) -> None:
        super().__init__("ur", seed, gap_s, 0.05, 0.05)
        self.controller = URLoopback("ur5e", watchdog_slack_s=0.5).start()
        box = np.array([[-0.9, -0.6, 0.0], [0.9, 0.6, 1.0]])
        settings = ProcessSettings(rate_hz=125.0, ttl_s=0.3, caller_s=2.0, disarm_s=60.0)
        options = {"host": self.controller.address, "silence_s": 0.3}
        limits = Limits(workspace_m=box, **LIMITS)
        self.arm = ArmProcess("robot_io.arms.plugins:UR", options, limits, settings=settings)

    def kinds(self) -> list[tuple[int, str, tuple[str, ...], Callable[[], None], Callable[[], None]]]:
        """Cut; freeze."""
        freeze = self.controller.freeze_timestamp
        return [
            # Now and then the vendor's library crashes on a cut link before the loss is read from it. It crashes in a
            # process of its own, and the fault then says that this process died.
            (4, "cut", CUT, self.controller.cut, lambda: None),
            (12, "clock frozen", ("stale_state",), freeze, lambda: freeze(False)),
        ]

    def pids(self) -> dict[str, int]:
        """The emulated controller's too."""
        process = self.controller._process
        return super().pids() | ({} if process is None else {"emulated ur": process.pid})


class Servos(ArmDevice):
    """SO-101: fault 19."""

    def __init__(self, seed: int, gap_s: float, folder: Path) -> None:
        super().__init__("servos", seed, gap_s, 0.05, 0.015)
        self.bus = ServoBus("feetech", SO101_SERVOS).start()
        for servo, angle in zip(SO101_SERVOS, (0.0, -0.6, 0.6, 0.8, 0.0), strict=False):
            self.bus.by_hand(servo.id, 2048 + angle * 4096 / (2 * np.pi))
        save_calibration(folder / "so101.yaml", so101_calibration())
        options = {"port": self.bus.address, "calibration": str(folder / "so101.yaml"), "bus_budget_s": 0.5}
        box = np.array([[-0.6, -0.6, -0.2], [0.6, 0.6, 0.8]])
        settings = ProcessSettings(rate_hz=50.0, ttl_s=0.3, caller_s=2.0, disarm_s=60.0)
        limits = Limits(workspace_m=box, **LIMITS)
        self.arm = ArmProcess("robot_io.arms.plugins:FEETECH", options, limits, settings=settings)

    def kinds(self) -> list[tuple[int, str, tuple[str, ...], Callable[[], None], Callable[[], None]]]:
        """Lost and garbled packets are nothing to tell; a dead servo is."""
        bus = self.bus
        servo = self.random.randint(1, 6)
        return [
            (19, "1 % of packets lost", (), lambda: bus.drop(0.01), lambda: bus.drop(0.0)),
            (19, "3 % of replies garbled", (), lambda: bus.corrupt(0.03), lambda: bus.corrupt(0.0)),
            (19, f"servo {servo} dead", ("servo_silent",), lambda: bus.dead([servo]), lambda: bus.dead([])),
        ]

    def pids(self) -> dict[str, int]:
        """The emulated bus's too."""
        process = self.bus._process
        return super().pids() | ({} if process is None else {"emulated servos": process.pid})


class Camera(Device):
    """A camera: fault 23. Its log is what `health` says: 're-opening' once per fault, with the reason."""

    def __init__(self, seed: int, gap_s: float, folder: Path) -> None:
        super().__init__("camera", seed, gap_s)
        self.loopback = LoopbackCamera(folder, width=160, height=120, fps=30, hang_s=1.0, open_timeout_s=5.0)
        self.kept: Any = None

    def work(self) -> None:
        """Read, and notice when nothing comes."""
        with self.loopback.camera() as camera:
            self.kept = camera
            due_s = self.next_s()
            while not self.over:
                if not _readable(camera):
                    state = camera.health()
                    self.unprovoked.append({"at_s": round(time.monotonic() - self.began_s, 3), "code": state.state})
                    _until(lambda: _readable(camera), 30.0)
                if time.monotonic() > due_s:
                    self.break_and_mend(camera)
                    due_s = self.next_s()
                time.sleep(0.05)

    def break_and_mend(self, camera: Any) -> None:
        """Unplug or hang, and plug in again."""
        what, do = self.random.choice([("unplugged", self.loopback.unplug), ("hung", self.loopback.hang)])
        begun_s = time.monotonic()
        injection = self.inject(23, what, ("re-opening",), do)
        plug_s = begun_s + self.random.uniform(1.5, 4.0)
        mended, before = False, camera.health().state
        while time.monotonic() < begun_s + 40.0:
            now = camera.health().state
            if now == "re-opening" and before != now:
                injection.found.append(now)
            before = now
            if injection.reaction_ms is None and not _readable(camera, 0.15):
                injection.reaction_ms = round((time.monotonic() - begun_s) * 1e3, 1)
            if not mended and time.monotonic() > plug_s and injection.found:
                self.loopback.mend()
                mended = True
            if mended and _readable(camera):
                injection.recovered = True
                return
            time.sleep(0.01)
        self.loopback.mend()

    def pids(self) -> dict[str, int]:
        """The camera process, while there is one."""
        import multiprocessing

        running = [child.pid for child in multiprocessing.active_children() if child.name.startswith("camera")]
        return {"camera process": running[0]} if running and running[0] else {}


def _readable(camera: Any, max_age_s: float = 0.5) -> bool:
    try:
        camera.read(max_age_s=max_age_s)
    except (StaleImageError, DeviceError):
        return False
    return True


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.02)
    return False
