from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import AckKind, Arm, ArmableArm, ArmMode, ConfigError, DataError, DeviceError, Limits
from robot_io.process.arm_process import ArmProcess
from robot_io.process.deadman import Deadman

HERE = np.array([0.4, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0])
FAR = np.array([0.4, 0.25, 0.3, 0.0, 1.0, 0.0, 0.0])


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


def keep_sending(arm: ArmProcess, target: np.ndarray, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        arm.send_checked(target, 1.0)
        time.sleep(0.02)


def set_moving(arm: ArmProcess) -> None:
    arm.arm()
    arm.send(FAR, 1.0)
    keep_sending(arm, FAR, 0.4)
    assert wait_for(lambda: y(arm) > 0.01)


def y(arm: ArmProcess) -> float:
    return float(arm.read(max_age_s=2.0).position_m[1])


def stands(arm: ArmProcess) -> bool:
    before = y(arm)
    time.sleep(0.15)
    return abs(y(arm) - before) < 1e-6


def codes(arm: ArmProcess) -> list[str]:
    return [event.code for event in arm.events()]


def test_it_is_an_arm_and_goes_where_it_is_sent(arm: ArmProcess) -> None:
    as_arm: Arm = arm
    as_armable: ArmableArm = arm
    assert as_arm.spec.control_hz == 125
    assert as_armable.read().mode is ArmMode.IDLE
    arm.arm()
    assert arm.mode is ArmMode.ARMED
    np.testing.assert_allclose(arm.send(FAR, 0.0), FAR)
    keep_sending(arm, FAR, 2.5)
    assert y(arm) == pytest.approx(0.25, abs=1e-3)
    assert arm.read(max_age_s=2.0).setpoint is not None
    assert arm.lateness().cycles > 50


def test_nothing_moves_before_it_is_armed(arm: ArmProcess) -> None:
    ack = arm.send_checked(FAR, 1.0)
    assert (ack.kind, ack.code) == (AckKind.REJECTED, "idle")
    with pytest.raises(DeviceError, match="idle"):
        arm.send(FAR, 1.0)
    assert stands(arm)


def test_targets_that_cease_end_in_a_hold_and_a_hold_in_a_disarmed_arm(make_arm: Callable[..., ArmProcess]) -> None:
    arm = make_arm(disarm_s=0.6)
    arm.connect()
    set_moving(arm)
    assert wait_for(lambda: arm.mode is ArmMode.HOLD)
    assert wait_for(lambda: stands(arm))
    assert y(arm) < 0.25 - 0.01  # braked on the way, and did not go on to the target
    assert wait_for(lambda: arm.mode is ArmMode.IDLE)
    seen = codes(arm)
    assert "ttl" in seen
    assert "hold_over" in seen


def test_a_stop_from_any_thread_holds_the_arm_and_nothing_replays(arm: ArmProcess) -> None:
    set_moving(arm)
    now_s = time.monotonic()
    arm.schedule(np.stack([FAR]), np.ones(1), np.array([now_s + 3.0]))
    assert wait_for(lambda: arm.mode is ArmMode.MOVING)
    stopper = threading.Thread(target=arm.stop)
    stopper.start()
    stopper.join()
    assert wait_for(lambda: arm.mode is ArmMode.HOLD, 1.0)
    assert wait_for(lambda: stands(arm))
    where = y(arm)
    time.sleep(0.5)
    assert y(arm) == pytest.approx(where, abs=1e-6)
    arm.stop()
    assert "stop" in codes(arm)


def test_stop_never_raises_even_without_a_process(make_arm: Callable[..., ArmProcess]) -> None:
    arm = make_arm()
    arm.stop()
    arm.connect()
    arm.close()
    arm.stop()
    assert arm.mode is ArmMode.DISCONNECTED


def test_a_second_thread_may_stop_but_not_command(arm: ArmProcess) -> None:
    arm.arm()
    arm.send(HERE, 1.0)
    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(arm.send_checked(HERE, 1.0).code))
    other.start()
    other.join()
    assert found == ["wrong_thread"]


@pytest.mark.parametrize("bad", [np.full(7, np.nan), np.zeros(6), np.array([0.4, 0, 0.3, 2, 0, 0, 0]), "nonsense"])
def test_bad_targets_are_refused_and_change_nothing(arm: ArmProcess, bad: object) -> None:
    arm.arm()
    assert not arm.send_checked(bad, 1.0).taken  # type: ignore[arg-type]
    with pytest.raises(DataError):
        arm.send(bad, 1.0)  # type: ignore[arg-type]
    assert stands(arm)


def test_three_bad_targets_within_a_second_latch_a_fault_that_only_its_token_clears(arm: ArmProcess) -> None:
    arm.arm()
    for _ in range(3):
        arm.send_checked(np.full(7, np.nan), 1.0)
    assert wait_for(lambda: arm.mode is ArmMode.FAULT)
    fault = arm.faults[0]
    assert fault.code == "bad_targets"
    with pytest.raises(DeviceError, match="fault"):
        arm.arm()
    with pytest.raises(DeviceError, match="token"):
        arm.clear_fault("000")
    assert wait_for(lambda: stands(arm))
    arm.clear_fault(fault.token)
    assert arm.mode is ArmMode.IDLE  # and not armed
    arm.arm()
    assert codes(arm).count("bad_targets") == 2  # the fault and the transition, once each


def test_stale_and_future_and_distant_targets_are_named(arm: ArmProcess) -> None:
    arm.arm()
    now_s = time.monotonic()
    found = [
        arm.send_checked(HERE, 1.0, observed_s=now_s - 5).code,
        arm.send_checked(HERE, 1.0, observed_s=now_s + 5).code,
    ]
    assert found == ["stale", "future"]
    time.sleep(1.1)
    far = HERE.copy()
    far[1] = 0.45
    assert arm.send_checked(far, 1.0).code == "jump"


def test_a_target_outside_is_moved_to_the_wall_and_said_so(arm: ArmProcess) -> None:
    arm.arm()
    low = HERE.copy()
    low[2] = -0.0 + 0.05
    keep_sending(arm, low, 0.1)
    low[2] = -0.1
    ack = arm.send_checked(low, 1.0)
    assert ack.kind is AckKind.CLAMPED
    assert ack.target is not None
    assert ack.target[2] >= 0.0


def test_a_schedule_is_followed_by_time_and_older_chunks_are_dropped(arm: ArmProcess) -> None:
    arm.arm()
    now_s = time.monotonic()
    steps = np.stack([HERE + (FAR - HERE) * share for share in (0.5, 1.0)])
    assert arm.schedule(steps, np.zeros(2), now_s + np.array([1.0, 2.0]), sequence=7).taken
    assert arm.schedule(steps[:1], np.zeros(1), now_s + np.array([1.0]), sequence=6).code == "out_of_order"
    assert wait_for(lambda: y(arm) > 0.2, 4.0)
    assert arm.mode in (ArmMode.MOVING, ArmMode.HOLD)
    assert wait_for(lambda: arm.mode is ArmMode.HOLD)
    assert y(arm) == pytest.approx(0.25, abs=0.02)
    assert not arm.schedule(steps, np.zeros(2), np.array([2.0, 1.0])).taken
    assert not arm.schedule(steps, np.zeros(3), np.array([2.0, 3.0])).taken


def test_a_child_that_is_killed_is_a_fault_and_nothing_arms_again_by_itself(arm: ArmProcess) -> None:
    set_moving(arm)
    assert arm.pid is not None
    os.kill(arm.pid, signal.SIGKILL)
    assert wait_for(lambda: arm.mode is ArmMode.FAULT)
    with pytest.raises(DeviceError, match="driver_died"):
        arm.read()
    assert not arm.send_checked(FAR, 1.0).taken
    assert arm.last_known().faults[-1].code == "driver_died"
    with pytest.raises(DeviceError):
        arm.arm()
    arm.clear_fault(arm.faults[-1].token)
    assert arm.mode is ArmMode.DISCONNECTED
    arm.connect()
    assert arm.mode is ArmMode.IDLE
    assert codes(arm).count("driver_died") == 1


def test_a_child_that_hangs_is_killed_and_a_close_takes_no_longer_than_three_seconds(arm: ArmProcess) -> None:
    assert arm.pid is not None
    os.kill(arm.pid, signal.SIGSTOP)
    began_s = time.monotonic()
    arm.close()
    assert time.monotonic() - began_s < 3.5
    assert arm.mode is ArmMode.DISCONNECTED


CALLER = """
import sys, time
import numpy as np
from cascade.contracts import Limits
from robot_io.process.arm_process import ArmProcess
from robot_io.process.settings import ProcessSettings
limits = Limits(workspace_m=np.array([[0.0, -0.5, 0.0], [0.8, 0.5, 0.8]]), max_speed_m_s=0.25,
    max_acceleration_m_s2=1.0, max_jerk_m_s3=10.0, max_step_m=0.3, max_rotation_rad=0.3)
arm = ArmProcess("robot_io.arms.plugins:VIRTUAL", {"address": sys.argv[1]}, limits, settings=ProcessSettings())
arm.connect(20.0)
arm.arm()
far = np.array([0.4, 0.25, 0.3, 0.0, 1.0, 0.0, 0.0])
arm.schedule(far[None], np.ones(1), np.array([time.monotonic() + 60.0]))
print(arm.pid, flush=True)
time.sleep(60)
"""


def test_a_caller_that_is_killed_leaves_no_process_and_a_free_device(
    make_arm: Callable[..., ArmProcess], tmp_path: Path
) -> None:
    address = str(tmp_path)
    with subprocess.Popen([sys.executable, "-c", CALLER, address], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        child = int(caller.stdout.readline())
        mine = make_arm({"address": address})
        with pytest.raises(DeviceError, match=str(caller.pid)):
            mine.connect()
        caller.kill()
        caller.wait()
    assert wait_for(lambda: not Path(f"/proc/{child}").exists() or "State:\tZ" in _status(child), 6.0)
    assert wait_for(lambda: _connects(mine), 5.0)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "State:\tZ"


def _connects(arm: ArmProcess) -> bool:
    try:
        arm.connect(20.0)
    except DeviceError:
        return False
    return True


def test_two_arms_on_one_device_are_refused_in_one_process_too(
    make_arm: Callable[..., ArmProcess], tmp_path: Path
) -> None:
    first, second = (make_arm({"address": str(tmp_path)}) for _ in range(2))
    first.connect()
    with pytest.raises(DeviceError, match=str(os.getpid())):
        second.connect()
    first.close()
    second.connect()
    assert second.mode is ArmMode.IDLE


def test_motion_needs_the_deadman_released_and_then_held(arm: ArmProcess) -> None:
    deadman, held, ended = Deadman(), threading.Event(), threading.Event()

    def operate() -> None:
        while not ended.wait(0.02):
            deadman.beat(held.is_set())

    hand = threading.Thread(target=operate)
    held.set()
    deadman.beat(True)
    arm.arm(deadman)
    hand.start()
    try:
        keep_sending(arm, FAR, 0.5)
        assert y(arm) == pytest.approx(0.0, abs=1e-6)  # pressed when it was armed
        held.clear()
        time.sleep(0.3)
        held.set()
        keep_sending(arm, FAR, 0.9)
        assert y(arm) > 0.01
        held.clear()
        assert wait_for(lambda: arm.mode is ArmMode.HOLD, 1.0)
        keep_sending(arm, FAR, 0.5)
        assert wait_for(lambda: stands(arm))
    finally:
        ended.set()
        hand.join()


def test_disarming_stops_first_and_a_disarmed_arm_takes_nothing(arm: ArmProcess) -> None:
    set_moving(arm)
    arm.disarm()
    assert arm.mode is ArmMode.IDLE
    assert stands(arm)
    assert arm.send_checked(FAR, 1.0).code == "idle"


def test_limits_above_the_caps_are_refused_before_anything_starts(make_limits: Callable[..., Limits]) -> None:
    with pytest.raises(ConfigError, match="max_speed_m_s"):
        ArmProcess("robot_io.arms.plugins:VIRTUAL", {}, make_limits(max_speed_m_s=3.0))


def test_a_driver_that_cannot_connect_says_why(make_limits: Callable[..., Limits]) -> None:
    arm = ArmProcess("robot_io.arms.plugins:UR", {"model": "ur5e", "host": "127.0.0.77"}, make_limits())
    with pytest.raises(DeviceError):
        arm.connect(3.0)
    assert arm.mode is ArmMode.DISCONNECTED
