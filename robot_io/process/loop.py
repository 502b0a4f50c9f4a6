"""One control cycle: read, watch, take the newest target, limit, send, publish. Time comes from outside."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import AckKind, ArmMode, CascadeError, CommandAck, DeviceError, Limits
from cascade.contracts.driver import ArmDriver, Reading, Takes
from robot_io.process import watches as watching
from robot_io.process.channel import Channel, Command
from robot_io.process.deadman import DeadmanWatch
from robot_io.process.faults import Faults
from robot_io.process.poses import pose_of
from robot_io.process.publisher import Publisher
from robot_io.process.schedule import Targets
from robot_io.process.settings import ProcessSettings
from robot_io.process.states import Modes, Trigger
from robot_io.process.watches import Finding, Severity, Watches

Floats = NDArray[np.float64]
Check = Callable[[Command, Floats, int], CommandAck]
"""(command, last accepted or measured pose (7,), now ns) -> what becomes of it; `target` (H, 7) is what is followed."""

STILL_M, STILL_RAD = 1e-7, 1e-7
SLOW_NS, SLOW_SCALE = 1_000_000_000, 0.5
REFUSALS, REFUSALS_NS = 3, 1_000_000_000


class Setpoint(Protocol):
    """What a limiter gives."""

    @property
    def pose(self) -> Floats:
        """(7,)."""
        ...

    @property
    def q(self) -> Floats | None:
        """(J,) for devices that take joints."""
        ...

    @property
    def limited(self) -> tuple[str, ...]:
        """Which limits bound."""
        ...


class SetpointLimiter(Protocol):
    """Turns targets into setpoints inside all limits, one per cycle; None brakes."""

    def reset(self, T_base_ee: Floats, q: Floats) -> None:
        """Begin at rest at a measured pose."""
        ...

    def step(self, target: Floats | None, speed_scale: float = 1.0) -> Setpoint:
        """Return the next setpoint."""
        ...


class Cycle:
    """The state of an armed or idle arm between cycles; one thread only.

    Attributes:
        modes: the current mode; faults: what latched.
        finished: set when the device is lost: the process has to end, so that no library reconnects by itself.
        disarming: a disarm waits for standstill, or the arm is on its way to rest.
        rest_stopped: the last disarm was stopped on its way to rest: the arm holds there, with torque.
    """

    def __init__(
        self,
        driver: ArmDriver,
        limiter: SetpointLimiter,
        check: Check,
        forward: Callable[[Floats], Floats] | None,
        limits: Limits,
        settings: ProcessSettings,
        channel: Channel,
    ) -> None:
        self._driver, self._limiter, self._check, self._forward = driver, limiter, check, forward
        self._settings, self._channel, self._words = settings, channel, channel.words
        self._info = driver.info
        self._watches = Watches(limits, self._info)
        self._deadman = DeadmanWatch()
        self._targets = Targets()
        self._publisher = Publisher(channel)
        self.lateness = self._publisher.lateness
        self.modes = Modes(channel.log)
        self.faults = Faults(channel.log)
        self.finished = self.disarming = self.rest_stopped = False
        self._disarm_code = ""
        self._resting = False  # a servo arm on its way to rest, which its driver leads
        self._reading: Reading | None = None
        self._T: Floats = np.eye(4)
        self._setpoint: Floats | None = None
        self._last: Floats | None = None  # last accepted target
        self._still = True
        self._braking = False
        self._gripper: float | None = None
        self._limited: tuple[str, ...] = ()
        self._slow_until_ns = self._overrun_until_ns = 0
        self._mail = 0
        self._withheld = ""
        self._refused = 0
        self._refusals: deque[int] = deque(maxlen=REFUSALS)
        self._active: set[str] = set()
        self._mirror: Callable[[], bytes] | None = getattr(driver, "mirror", None)
        self._advance: Callable[[int], None] | None = getattr(driver, "advance", None)
        self._disarm_step: Callable[[], bool] | None = getattr(driver, "disarm_step", None)

    # What people ask for, between cycles.

    def connected(self, now_ns: int) -> None:
        """The device answers: IDLE."""
        self._watches.forget(now_ns)
        self._targets.flush()
        self._mail = self._channel.command.counter
        self.modes.apply(Trigger.CONNECTED, "connected", now_ns)

    def arm(self, now_ns: int, *, deadman: bool) -> None:
        """Make the device ready and take targets from now on; raises CascadeError when it must not."""
        if self.modes.mode is not ArmMode.IDLE:
            why = ", ".join(fault.code for fault in self.faults.latched) or "see its events"
            raise self._refusal(f"expected it idle, found it {self.modes.mode.value} ({why}).", "Clear faults first.")
        self._driver.arm()
        try:
            reading = self._read(now_ns)
            if reading is None or self.modes.latched:
                raise self._refusal("it went into fault while arming.", "See its events.")
            self._limiter.reset(self._T, reading.q)
        except CascadeError:
            if not self.finished:
                self._driver.halt()  # not disarm: a servo arm would go to rest, and nobody asked for motion
            raise
        self._setpoint, self._still, self._last, self._gripper = None, True, None, None
        self._watches.forget(now_ns)
        self._flush()
        self._words["stop"] = 0
        self._refusals.clear()
        self._refused = self._words["refused"]
        self._deadman.begin(deadman)
        self.modes.apply(Trigger.ARM, "armed", now_ns)

    def begin_disarm(self, now_ns: int, code: str = "disarm") -> None:
        """Brake; the cycle that finds the arm standing disarms the device."""
        if self.modes.ready:
            self._hold(code, now_ns)
            self.disarming, self.rest_stopped, self._disarm_code = True, False, code

    def clear(self, token: str, now_ns: int) -> None:
        """Clear one latched fault; after the last one the device recovers and the arm is IDLE."""
        if self.modes.mode is ArmMode.ESTOP:
            raise self._refusal("an emergency stop cannot be cleared from here.", "Release it, connect and arm again.")
        if self._braking:
            raise self._refusal("it is still braking.", "Wait a moment.")
        left = self.faults.without(token)
        if not left:
            self._driver.recover()
            self._watches.forget(time.monotonic_ns() if not self._settings.lockstep else now_ns)
            self._flush()
        self.faults.clear(token, now_ns)
        if not left:
            self.modes.apply(Trigger.CLEARED, "cleared", now_ns)

    def placed_anew(self, now_ns: int) -> None:
        """The device was moved by other hands (a simulated world was reset): forget targets, hold here."""
        self._watches.forget(now_ns)
        self._flush()
        self._words["stop"] = 0
        if self._read(now_ns) is not None and self._reading is not None:
            self._limiter.reset(self._T, self._reading.q)
        self._setpoint, self._last, self._still, self._gripper = None, None, True, None
        self.publish(now_ns)

    @staticmethod
    def _refusal(problem: str, fix: str) -> CascadeError:
        return DeviceError(f"arm: {problem}", fix)

    # The cycle.

    def run(self, now_ns: int, late_ns: int = 0) -> None:
        """Do one cycle."""
        self._words["child_ns"] = time.monotonic_ns()
        if self._advance is None or self._reading is None:
            self._read(now_ns)
        self._look(now_ns, late_ns)
        self._take(now_ns)
        if (self.modes.ready or self._braking) and not self._resting:
            self._move(now_ns)
        self._timers(now_ns)
        if self._advance is not None:
            self._advance(now_ns)
            self._read(now_ns)
        self.publish(now_ns)

    def _read(self, now_ns: int) -> Reading | None:
        try:
            self._reading = reading = self._driver.read()
            if reading.T_base_ee is not None:
                self._T = reading.T_base_ee
            elif self._forward is not None:
                self._T = self._forward(reading.q)
        except Exception as error:
            self._lost(error, now_ns)
            return None
        return reading

    def _lost(self, error: Exception, now_ns: int) -> None:
        """The device or its driver failed: latch, and end this process."""
        expected = isinstance(error, CascadeError)
        code = getattr(error, "code", "link_lost" if expected else "driver_error")
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        self._fault(Finding(code, Severity.FAULT, message), now_ns)
        self.finished = True

    def _look(self, now_ns: int, late_ns: int) -> None:
        self._withheld = ""
        if self._words["stop"]:
            self._words["stop"] = 0
            self._hold("stop", now_ns)
            if self._resting:
                self._stay(now_ns)
        found: list[Finding] = []
        if self._reading is not None and not self.finished:
            ours = (self.modes.ready or self._braking) and not self._resting  # motion that we lead
            found = self._watches.look(self._reading, self._T, self._setpoint, now_ns, ready=ours)
        late = watching.overrun(late_ns)
        for finding in (*found, late) if late else found:
            self._act(finding, now_ns)
        if late is not None and now_ns >= self._overrun_until_ns:  # one line per second is enough
            self._overrun_until_ns = now_ns + SLOW_NS
        lately = {"overrun"} if now_ns < self._overrun_until_ns else set()
        self._active = {finding.code for finding in found} | lately
        if not self.modes.ready:
            return
        limit_s = self._settings.caller_s
        if limit_s is not None and time.monotonic_ns() - self._words["caller_ns"] > limit_s * 1e9:
            self._withhold("caller_lost", now_ns)
        reason = self._deadman.look(self._words, now_ns)
        if reason:
            self._withhold(reason, now_ns)
            if reason == "deadman_stuck" and not self.disarming:
                self.begin_disarm(now_ns, reason)

    def _act(self, finding: Finding, now_ns: int) -> None:
        fresh = finding.code not in self._active
        if finding.severity >= Severity.BRAKE_FAULT:
            self._fault(finding, now_ns)
        elif finding.severity is Severity.HOLD:
            self._withhold(finding.code, now_ns)
        elif finding.severity is Severity.SLOW:
            self._slow_until_ns = now_ns + SLOW_NS
        if fresh and finding.severity < Severity.BRAKE_FAULT:
            self._channel.log(now_ns, "warning", finding.code, finding.message)

    def _withhold(self, code: str, now_ns: int) -> None:
        """Hold, and refuse targets as long as this is found."""
        self._withheld = code
        self._hold(code, now_ns)

    def _hold(self, code: str, now_ns: int) -> None:
        self._flush()
        if self.modes.mode is ArmMode.MOVING:
            self.modes.apply(Trigger.HOLD, code, now_ns)

    def _flush(self) -> None:
        """Drop every target, the ones on their way included."""
        counter, data = self._channel.command.read()
        self._mail = counter
        self._targets.flush(Command.unpack(data).sequence if data else None)
        self._last = None

    def _fault(self, finding: Finding, now_ns: int) -> None:
        stopped = finding.severity is not Severity.BRAKE_FAULT
        moving = self.modes.ready and not self._still
        new = self.faults.add(finding, now_ns)
        if not new and not (stopped and self._braking):
            return
        self._flush()
        self.disarming = self._resting = False
        trigger = Trigger.ESTOP if finding.severity is Severity.ESTOP else Trigger.FAULT
        self.modes.apply(trigger, finding.code, now_ns)
        self._braking = moving and not stopped
        if not self._braking:
            self._driver.halt()

    def _take(self, now_ns: int) -> None:
        """Take what came by mail."""
        refused = self._words["refused"]
        if refused != self._refused:
            self._count_refusals(refused - self._refused, now_ns)
            self._refused = refused
        if self._channel.command.counter == self._mail:
            return
        counter, data = self._channel.command.read()
        if counter == self._mail or not data:  # the next one is still being written
            return
        self._mail = counter
        command = Command.unpack(data)
        if command.sequence <= self._targets.newest:
            self._channel.log(now_ns, "rejected", "out_of_order", f"Command {command.sequence} came late.")
            return
        why = self._withheld or ("" if self.modes.ready and not self.disarming else self.modes.mode.value)
        if why:
            self._targets.flush(command.sequence)
            if why not in self._active:
                self._channel.log(now_ns, "rejected", why, "Targets are not taken now.")
            return
        from_where = self._last if self._last is not None else pose_of(self._T)
        # Reading a slow bus takes time: a target sent meanwhile is newer than the beginning of this cycle.
        ack = self._check(command, from_where, max(now_ns, command.sent_ns))
        if ack.kind is AckKind.REJECTED:
            self._channel.log(now_ns, "rejected", ack.code, ack.message)
            self._count_refusals(1, now_ns)
            return
        if ack.target is not None:
            command = replace(command, values=ack.target)
        self._last = command.values[-1]
        here = self._setpoint if self._setpoint is not None else pose_of(self._T)
        self._targets.take(command, now_ns, here)

    def _count_refusals(self, count: int, now_ns: int) -> None:
        self._refusals.extend([now_ns] * min(count, REFUSALS))
        if len(self._refusals) == REFUSALS and now_ns - self._refusals[0] < REFUSALS_NS and self.modes.ready:
            self._refusals.clear()
            text = f"{REFUSALS} targets were refused within a second: whatever sends them is out of order."
            self._fault(Finding("bad_targets", Severity.BRAKE_FAULT, text), now_ns)

    def _move(self, now_ns: int) -> None:
        target, gripper = self._targets.at(now_ns) if self.modes.ready else (None, None)
        if target is None and self.modes.mode is ArmMode.MOVING:
            self._flush()
            self.modes.apply(Trigger.HOLD, "ttl", now_ns)
        if target is not None:
            self.modes.apply(Trigger.TARGET, "target", now_ns)
            self._gripper = gripper
        elif self._info.plans_itself:  # it may be far from its goal: it holds where it is
            if self._setpoint is not None:
                self._driver.halt()
            self._setpoint, self._still, self._braking = None, True, False
            return
        slow = SLOW_SCALE if now_ns < self._slow_until_ns else 1.0
        try:
            setpoint = self._limiter.step(target, self._settings.speed_scale * slow)
            value = setpoint.q if self._info.takes is Takes.JOINTS else setpoint.pose
            if value is None:
                raise RuntimeError("the limiter gave no joints for an arm that takes joints")
            self._driver.send(value, self._gripper)
        except Exception as error:
            self._lost(error, now_ns)
            return
        self._still = target is None and _still(self._setpoint, setpoint.pose)
        self._setpoint, self._limited = setpoint.pose, setpoint.limited
        if self._braking and self._still:
            self._braking = False
            self._driver.halt()

    def _timers(self, now_ns: int) -> None:
        limit_s = self._settings.disarm_s
        waited_ns = now_ns - self.modes.since_ns
        if self.modes.mode is ArmMode.HOLD and limit_s is not None and waited_ns > limit_s * 1e9 and not self.disarming:
            self.begin_disarm(now_ns, "hold_over")
        if self.disarming and self._still and self.modes.ready:
            self._disarm(now_ns)

    def _disarm(self, now_ns: int) -> None:
        """Disarm the device: at once, or a step of its way to rest, on which cycles go on and a stop counts."""
        self._setpoint = None
        try:
            if self._disarm_step is None:
                self._driver.disarm()
            elif not self._disarm_step():
                self._resting = True
                return
        except Exception as error:
            self._lost(error, now_ns)
            return
        self.disarming = self._resting = False
        self.modes.apply(Trigger.DISARM, self._disarm_code, now_ns)

    def _stay(self, now_ns: int) -> None:
        """Stopped on the way to rest: hold there with torque, disarmed for us; arm it to go on."""
        self.disarming = self._resting = False
        self.rest_stopped = True
        self._driver.halt()
        self._channel.log(now_ns, "warning", "rest_stopped", "Stopped on its way to rest: it holds there, with torque.")
        self.modes.apply(Trigger.DISARM, "rest_stopped", now_ns)

    def publish(self, now_ns: int) -> None:
        """Publish the newest reading, mode and faults."""
        if self._mirror is not None and self._reading is not None:
            self._channel.mirror.write(self._mirror())
        self._publisher.publish(
            now_ns=now_ns,
            reading=self._reading,
            T=self._T,
            twist=self._watches.twist,
            setpoint=self._setpoint,
            mode=self.modes.mode,
            taken=self._targets.newest,
            faults=self.faults.latched,
            limited=self._limited,
            fatal=self.finished,
        )

    def pacing(self, scheduling: str, rate_hz: float) -> None:
        """Say how cycles are paced."""
        self._publisher.pacing(scheduling, rate_hz)

    def close(self, now_ns: int) -> None:
        """The device was let go of."""
        self.modes.apply(Trigger.CLOSED, "closed", now_ns)
        self.publish(now_ns)

    @property
    def joints(self) -> Floats | None:
        """(J,) newest joint positions, or None."""
        return None if self._reading is None else self._reading.q

    @property
    def standing(self) -> bool:
        """Whether the arm neither moves nor brakes."""
        return not self._braking and (self._still or not self.modes.ready)


def _still(before: Floats | None, after: Floats) -> bool:
    if before is None:
        return True
    moved = after - before
    return float(np.abs(moved[:3]).max()) < STILL_M and float(np.abs(moved[3:]).max()) < STILL_RAD
