"""Fault 29: what an xArm's controller does, through UFACTORY's own SDK."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from cascade.contracts import ArmMode, DeviceError
from robot_io.process.arm_process import ArmProcess
from robot_io.process.models import arm_model

pytest.importorskip("xarm.wrapper", reason="needs the xarm extra")

from robot_io.loopback.xarm import XArmController
from robot_io.loopback.xarm_wire import Function

Make = Callable[..., Any]
_hosts = iter(range(2, 250))


@pytest.fixture
def controller() -> Iterator[XArmController]:
    pid = os.getpid()
    with XArmController("xarm6", f"127.{10 + pid // 250 % 200}.{1 + pid % 250}.{next(_hosts)}") as running:
        running.place(arm_model("xarm6").rest_q)
        yield running


@pytest.fixture
def arm(controller: XArmController, make_arm: Make) -> ArmProcess:
    options = {"host": controller.host, "port": controller.port, "model": "xarm6"}
    made: ArmProcess = make_arm("XARM", options, rate_hz=100.0, ttl_s=0.5)
    made.connect(20.0)
    made.arm()
    return made


@pytest.fixture
def fault_of(arm: ArmProcess, reaction: Make, lead: Make, log: Make) -> Make:
    """`fault_of(make, code, what, promised_ms)`: make a fault while the arm moves, wait until it is told, note when."""

    def provoke(make: Callable[[], Any], code: str, what: str, promised_ms: float) -> None:
        told, motion = log(arm), lead(arm, 0.03, to_m=0.05)
        began_s = time.monotonic()
        make()
        fault = told.wait(code, began_s - 0.05, "fault")
        motion.end()
        reaction(29, what, (fault.stamp_s - began_s) * 1e3, promised_ms)

    return provoke


def test_29_a_collision_is_a_fault_and_recovery_keeps_the_controllers_order(
    arm: ArmProcess, controller: XArmController, fault_of: Make
) -> None:
    fault_of(lambda: controller.error(31), "collision", "error 31: fault", 50.0)
    with pytest.raises(DeviceError, match="token"):
        arm.clear_fault("wrong")
    before, q = len(controller.commands), controller.joints_rad()
    arm.clear_fault(arm.faults[0].token)
    assert arm.mode is ArmMode.IDLE
    order = (Function.CLEAN_ERROR, Function.MOTION_ENABLE, Function.SET_MODE, Function.SET_STATE)
    assert [f for _, f, _ in list(controller.commands)[before:] if f in order] == list(order)
    assert np.allclose(controller.joints_rad(), q, atol=1e-3)


@pytest.mark.slow
def test_29_a_mode_that_somebody_changed_is_a_fault(controller: XArmController, fault_of: Make) -> None:
    fault_of(lambda: controller.leave_mode(2), "mode_left", "mode is not 1 any more: fault", 300.0)


def test_29_a_reply_that_stalls_holds_the_arm_and_latches_nothing(
    arm: ArmProcess, controller: XArmController, reaction: Make, lead: Make, log: Make
) -> None:
    told, motion = log(arm), lead(arm, 0.03, to_m=0.05)
    began_s = time.monotonic()
    controller.stall(0.4)
    held = told.wait("reply_stalled", began_s - 0.05, "transition")
    reaction(29, "replies stall for 400 ms: hold", (held.stamp_s - began_s) * 1e3, 150.0 + 20.0)
    time.sleep(0.8)
    motion.end()
    assert told.faults() == []


def test_17_the_threads_of_the_vendors_library_are_ahead_of_other_programs_too(arm: ArmProcess, lead: Make) -> None:
    motion = lead(arm, 0.03, to_m=0.05)
    if arm.lateness().scheduling != "fifo":
        pytest.skip("no SCHED_FIFO granted; allow it: `rtprio 99` in /etc/security/limits.conf, or CAP_SYS_NICE")
    threads = [int(task) for task in os.listdir(f"/proc/{arm.pid}/task")]
    motion.end()
    ahead = [thread for thread in threads if os.sched_getscheduler(thread) == os.SCHED_FIFO]
    assert len(ahead) > 2  # the loop and two that read; those of a numerical library may be behind
