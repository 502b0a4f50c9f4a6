"""The cycle in this process and in a time of our own: what it does about what a device reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cascade.contracts import ArmMode, DeviceError, Limits
from cascade.contracts.driver import DeviceFault, DriverInfo, Reading, Safety
from robot_io.arms.virtual import VirtualConfig, VirtualDriver
from robot_io.process.chain import Checks
from robot_io.process.channel import Channel, Command
from robot_io.process.limiter import Limiter
from robot_io.process.loop import Cycle
from robot_io.process.settings import ProcessSettings

PERIOD_NS = 8_000_000
FAR = np.array([0.4, 0.25, 0.3, 0.0, 1.0, 0.0, 0.0])


class Device(VirtualDriver):
    """The arm without hardware, reporting what a test wants it to report."""

    def __init__(self) -> None:
        super().__init__(VirtualConfig())
        self.report: dict[str, Any] = {}
        self.lost = False
        self.halts = 0
        self.sent: list[np.ndarray] = []
        self.now_s = 0.0

    def read(self) -> Reading:
        if self.lost:
            raise DeviceError("the cable is out")
        reading = replace(super().read(), t_dev_s=self.now_s)
        return replace(reading, **self.report)

    def send(self, setpoint: np.ndarray, gripper: float | None) -> None:
        self.sent.append(setpoint.copy())
        super().send(setpoint, gripper)

    def halt(self) -> None:
        self.halts += 1
        super().halt()


class Bench:
    """A cycle, its device, and time that passes when told."""

    def __init__(self, limits: Limits, **info: Any) -> None:
        self.device = Device()
        self.device._info: DriverInfo = replace(self.device.info, **info)
        settings = ProcessSettings(caller_s=None)
        self.channel = Channel()
        checks, limiter = Checks(limits, settings), Limiter(limits, self.device.info, None, PERIOD_NS * 1e-9)
        self.cycle = Cycle(self.device, limiter, checks, None, limits, settings, self.channel)
        self.now_ns, self.frozen, self.sequence = 10**9, False, 0
        self.device.connect(1.0)
        self.cycle.connected(self.now_ns)
        self.run(3)
        self.cycle.arm(self.now_ns, deadman=False)

    @property
    def mode(self) -> ArmMode:
        return self.cycle.modes.mode

    def run(self, cycles: int, target: np.ndarray | None = None, late_ns: int = 0) -> None:
        for _ in range(cycles):
            self.now_ns += PERIOD_NS
            if not self.frozen:
                self.device.now_s = self.now_ns * 1e-9
            if target is not None:
                self.send(target)
            self.cycle.run(self.now_ns, late_ns)

    def send(self, target: np.ndarray) -> None:
        self.sequence += 1
        command = Command(self.sequence, self.now_ns, self.now_ns, 100_000_000, target[None], np.ones(1))
        self.channel.command.write(command.pack())

    def codes(self) -> list[str]:
        return [event.code for event in self.channel.take_log()]

    def speed(self) -> float:
        a, b = self.device.sent[-2:]
        return float(np.linalg.norm(b[:3] - a[:3])) / (PERIOD_NS * 1e-9)


@pytest.fixture
def bench(make_limits: Callable[..., Limits]) -> Bench:
    bench = Bench(make_limits(max_force_n=40.0, max_torque_nm=10.0))
    bench.run(60, FAR)
    assert bench.mode is ArmMode.MOVING
    assert bench.speed() > 0.1
    return bench


@pytest.mark.parametrize(
    ("report", "mode", "code"),
    [
        ({"safety": Safety.PROTECTIVE_STOP}, ArmMode.FAULT, "protective_stop"),
        ({"safety": Safety.VIOLATION}, ArmMode.FAULT, "violation"),
        ({"safety": Safety.FAULT}, ArmMode.FAULT, "fault"),
        ({"safety": Safety.ESTOP}, ArmMode.ESTOP, "estop"),
        ({"safety": Safety.SAFEGUARD_STOP}, ArmMode.HOLD, "safeguard_stop"),
        ({"running": False}, ArmMode.FAULT, "program_stopped"),
        ({"faults": (DeviceFault(code="servo_overload"),)}, ArmMode.FAULT, "servo_overload"),
        ({"faults": (DeviceFault(code="busy", latches=False),)}, ArmMode.HOLD, "busy"),
        ({"wrench": np.array([0, 0, 60.0, 0, 0, 0])}, ArmMode.FAULT, "force_limit"),
        ({"wrench": np.array([0, 0, 0, 0, 12.0, 0])}, ArmMode.FAULT, "torque_limit"),
        ({"wrench": np.full(6, np.nan)}, ArmMode.FAULT, "force_limit"),
    ],
)
def test_what_a_device_reports_ends_motion_within_one_cycle_and_is_logged(
    bench: Bench, report: dict[str, Any], mode: ArmMode, code: str
) -> None:
    bench.device.report = report
    bench.run(1, FAR)
    assert bench.mode is mode
    bench.run(100, FAR)
    assert bench.mode is mode
    assert bench.cycle.standing
    assert code in bench.codes()


def test_a_command_that_is_still_being_written_is_taken_when_it_is_complete(bench: Bench) -> None:
    bench.codes()
    counter = bench.channel.command._words
    counter[0] |= 1
    bench.run(2)
    bench.send(FAR)
    bench.run(1)
    assert bench.mode is ArmMode.MOVING
    assert bench.codes() == []


def test_reduced_mode_goes_on_and_is_logged_once(bench: Bench) -> None:
    bench.device.report = {"safety": Safety.REDUCED}
    bench.run(20, FAR)
    assert bench.mode is ArmMode.MOVING
    assert bench.codes().count("reduced") == 1


def test_a_force_brakes_within_the_limits_before_the_device_is_halted(bench: Bench) -> None:
    bench.device.report = {"wrench": np.array([60.0, 0, 0, 0, 0, 0])}
    bench.run(1)
    sent, halts = len(bench.device.sent), bench.device.halts
    assert halts == 0
    bench.run(120)
    assert len(bench.device.sent) > sent + 3
    steps = np.diff(np.stack(bench.device.sent)[:, :3], axis=0) / (PERIOD_NS * 1e-9)
    accelerations = np.linalg.norm(np.diff(steps, axis=0), axis=1) / (PERIOD_NS * 1e-9)
    assert accelerations.max() < 2.5 * 1.02
    assert bench.device.halts == 1


def test_a_protective_stop_halts_at_once_and_sends_nothing_more(bench: Bench) -> None:
    bench.device.report = {"safety": Safety.PROTECTIVE_STOP}
    sent = len(bench.device.sent)
    bench.run(50, FAR)
    assert len(bench.device.sent) == sent
    assert bench.device.halts == 1
    bench.device.report = {}
    bench.run(5, FAR)
    assert bench.mode is ArmMode.FAULT  # it latches though the device is well again
    bench.cycle.clear(bench.cycle.faults.latched[0].token, bench.now_ns)
    bench.run(5, FAR)
    assert bench.mode is ArmMode.IDLE
    assert len(bench.device.sent) == sent


def test_an_emergency_stop_is_never_cleared_from_here(bench: Bench) -> None:
    bench.device.report = {"safety": Safety.ESTOP}
    bench.run(2)
    with pytest.raises(DeviceError, match="emergency"):
        bench.cycle.clear(bench.cycle.faults.latched[0].token, bench.now_ns)
    assert bench.mode is ArmMode.ESTOP


def test_a_clock_that_stands_still_stops_after_50_ms_and_is_a_fault_after_200(bench: Bench) -> None:
    bench.frozen = True
    bench.run(6, FAR)
    assert bench.mode is ArmMode.MOVING
    bench.run(3, FAR)
    assert bench.mode is ArmMode.HOLD
    bench.run(20, FAR)
    assert bench.mode is ArmMode.FAULT
    assert bench.cycle.faults.latched[0].code == "stale_state"


def test_a_lost_link_is_a_fault_that_ends_the_process(bench: Bench) -> None:
    bench.device.lost = True
    bench.run(1, FAR)
    assert bench.mode is ArmMode.FAULT
    assert bench.cycle.finished
    record = bench.channel.newest()
    assert record is not None
    assert record["fatal"]
    assert record["fault_code"][0] == b"link_lost"


def test_an_arm_that_does_not_follow_is_a_fault_after_the_time_it_may_take(bench: Bench) -> None:
    T = bench.cycle._T.copy()
    bench.device.report = {"T_base_ee": T}  # stuck
    bench.run(30, FAR)
    assert bench.mode is ArmMode.MOVING
    bench.run(60, FAR)
    assert bench.mode is ArmMode.FAULT
    assert bench.cycle.faults.latched[0].code == "tracking_error"


def test_a_measured_speed_above_the_limit_for_two_cycles_holds_the_arm(bench: Bench) -> None:
    T = bench.cycle._T.copy()
    for _ in range(3):
        T = T.copy()
        T[1, 3] += 0.25 * 1.5 * PERIOD_NS * 1e-9
        bench.device.report = {"T_base_ee": T}
        bench.run(1, FAR)
    assert bench.mode is ArmMode.HOLD
    assert "overspeed" in bench.codes()


@pytest.mark.parametrize(("late_ms", "mode"), [(25, ArmMode.MOVING), (60, ArmMode.MOVING), (250, ArmMode.HOLD)])
def test_late_cycles_warn_slow_down_and_stop(bench: Bench, late_ms: int, mode: ArmMode) -> None:
    bench.codes()
    before = bench.speed()
    bench.run(1, FAR, late_ms * 1_000_000)
    assert bench.mode is mode
    assert "overrun" in bench.codes()
    if late_ms == 60:
        bench.run(60, FAR)
        assert bench.speed() < 0.7 * before


def test_a_target_that_the_caller_did_not_check_is_refused_here_too(bench: Bench) -> None:
    bench.send(np.array([0.4, -0.4, 0.3, 0.0, 1.0, 0.0, 0.0]))
    bench.run(1)
    assert "jump" in bench.codes()
    bench.send(np.full(7, np.nan))
    bench.run(1)
    assert bench.mode is ArmMode.MOVING
    bench.send(np.full(7, np.nan))
    bench.run(1)
    assert bench.cycle.faults.latched[0].code == "bad_targets"


def test_a_target_sent_while_a_slow_device_was_read_is_not_from_the_future(bench: Bench) -> None:
    bench.codes()
    for _ in range(5):
        sent_ns = bench.now_ns + PERIOD_NS + 80_000_000
        bench.sequence += 1
        command = Command(bench.sequence, sent_ns, sent_ns, 100_000_000, FAR[None], np.ones(1))
        bench.channel.command.write(command.pack())
        bench.run(1)
    assert bench.mode is ArmMode.MOVING
    assert bench.codes() == []
    command = Command(bench.sequence + 1, bench.now_ns, bench.now_ns + 10**9, 100_000_000, FAR[None], np.ones(1))
    bench.channel.command.write(command.pack())
    bench.run(1)
    assert bench.codes() == ["future"]  # what it is based on cannot be seen after it was sent


def test_targets_sent_before_a_stop_are_gone_and_later_ones_are_followed(bench: Bench) -> None:
    bench.send(FAR)
    bench.channel.words["stop"] = 1
    bench.run(100)
    assert bench.mode is ArmMode.HOLD
    assert bench.speed() == 0.0
    bench.run(50, FAR)
    assert bench.mode is ArmMode.MOVING


def test_an_arm_that_plans_itself_holds_where_it_is_measured(make_limits: Callable[..., Limits]) -> None:
    bench = Bench(make_limits(max_speed_m_s=0.9, max_acceleration_m_s2=50.0, max_jerk_m_s3=5000.0), plans_itself=True)
    T = bench.cycle._T.copy()
    bench.device.report = {"T_base_ee": T}
    bench.run(40, FAR)
    assert bench.device.sent[-1][1] > 0.2
    assert bench.mode is ArmMode.MOVING  # far from its goal, and nothing is wrong with that
    sent = len(bench.device.sent)
    bench.channel.words["stop"] = 1
    bench.run(3)
    assert bench.device.halts == 1
    assert len(bench.device.sent) == sent


def test_two_faults_that_last_are_cleared_by_their_two_tokens(bench: Bench) -> None:
    lasting = (DeviceFault(code="servo_overload"), DeviceFault(code="servo_overheat"))
    bench.device.report = {"faults": lasting}
    bench.run(3, FAR)
    first, second = bench.cycle.faults.latched
    bench.cycle.clear(first.token, bench.now_ns)
    bench.run(20)
    assert [fault.token for fault in bench.cycle.faults.latched] == [second.token]
    bench.device.recover = lambda: bench.device.report.clear()  # type: ignore[method-assign]
    bench.cycle.clear(second.token, bench.now_ns)
    bench.run(5)
    assert bench.mode is ArmMode.IDLE
    bench.device.report = {"faults": lasting[:1]}
    bench.run(1)
    assert bench.mode is ArmMode.FAULT  # the same cause again is told again


class Resting(Device):
    """A device that goes to rest in 50 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def disarm_step(self) -> bool:
        self.steps += 1
        return self.steps == 50

    def disarm(self) -> None:
        raise AssertionError("the loop must not wait for the whole way")


@pytest.fixture
def resting(make_limits: Callable[..., Limits], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setitem(globals(), "Device", Resting)
    bench = Bench(make_limits())
    bench.run(20, FAR)
    bench.cycle.begin_disarm(bench.now_ns)
    bench.run(80)
    assert bench.device.steps > 5
    return bench


def test_cycles_go_on_while_an_arm_goes_to_rest(resting: Bench) -> None:
    sent = len(resting.device.sent)
    assert resting.mode is ArmMode.HOLD
    resting.run(60, FAR)
    assert resting.mode is ArmMode.IDLE
    assert len(resting.device.sent) == sent  # the driver leads it, nobody else


def test_a_stop_on_the_way_to_rest_makes_the_arm_stay(resting: Bench) -> None:
    resting.channel.words["stop"] = 1
    resting.run(1)
    steps, halts = resting.device.steps, resting.device.halts
    assert (resting.mode, halts, resting.cycle.rest_stopped) == (ArmMode.IDLE, 1, True)
    resting.run(300)
    assert resting.device.steps == steps
    assert "rest_stopped" in resting.codes()


def test_a_fault_on_the_way_to_rest_halts_it(resting: Bench) -> None:
    resting.device.report = {"faults": (DeviceFault(code="servo_overload"),)}
    resting.run(2)
    steps = resting.device.steps
    resting.run(50)
    assert (resting.mode, resting.device.steps, resting.device.halts) == (ArmMode.FAULT, steps, 1)


def test_arming_in_vain_does_not_send_an_arm_to_rest(make_limits: Callable[..., Limits]) -> None:
    bench = Bench(make_limits())
    bench.cycle.begin_disarm(bench.now_ns)
    bench.run(5)
    bench.device.report = {"safety": Safety.ESTOP}
    bench.device.disarm = lambda: pytest.fail("it would move")  # type: ignore[method-assign]
    bench.device.arm = lambda: bench.run(1)  # type: ignore[method-assign]
    halts = bench.device.halts
    with pytest.raises(DeviceError):
        bench.cycle.arm(bench.now_ns, deadman=False)
    assert bench.device.halts > halts
