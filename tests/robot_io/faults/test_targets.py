"""Faults 13 to 18, 30 and 31: what callers, people and machines do to a stream of targets."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.contracts import AckKind, ArmMode, DeviceError
from robot_io.loopback.ur import URLoopback
from robot_io.process.arm_process import ArmProcess
from robot_io.process.deadman import Deadman
from robot_io.process.poses import pose_of

ROOT = Path(__file__).parents[3]
Make = Callable[..., Any]


@pytest.fixture
def arm(make_arm: Make, tmp_path: Path) -> ArmProcess:
    """The arm without hardware, armed: nothing of this needs a vendor."""
    made: ArmProcess = make_arm("VIRTUAL", {"address": str(tmp_path)}, ttl_s=0.3)
    made.connect(20.0)
    made.arm()
    return made


def keep_sending(arm: ArmProcess, target: np.ndarray, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        arm.send_checked(target, 1.0)
        time.sleep(0.02)


def where(arm: ArmProcess) -> np.ndarray:
    return np.array(arm.last_known().position_m)


def still(arm: ArmProcess) -> bool:
    before = where(arm)
    time.sleep(0.05)
    return bool(np.abs(where(arm) - before).max() < 1e-7)


def test_13_targets_that_make_no_sense_are_refused_by_name_and_change_nothing(arm: ArmProcess, reaction: Make) -> None:
    start = pose_of(arm.read(max_age_s=5.0).T_base_ee)
    goal = start + np.array([0, 0.25, 0, 0, 0, 0, 0])
    now_s = time.monotonic()
    skewed = goal.copy()
    skewed[3:] *= 1.5
    bad: list[tuple[str, np.ndarray, dict[str, float]]] = [
        ("jump", goal + np.array([0, 0.32, 0, 0, 0, 0, 0]), {}),
        ("nan", np.full(7, np.nan), {}),
        ("quaternion", skewed, {}),
        ("stale", goal, {"observed_s": now_s - 2.0}),
        ("future", goal, {"observed_s": now_s + 60.0}),
    ]
    off_line, slowest, took = 0.0, [], []
    for code, target, more in bad:
        keep_sending(arm, goal, 0.55)  # three refusals within a second would be a fault of their own
        began_s = time.monotonic()
        ack = arm.send_checked(target, 1.0, **more)
        took.append(time.monotonic() - began_s)
        assert (ack.kind, ack.code) == (AckKind.REJECTED, code)
        keep_sending(arm, goal, 0.02)
        moved = where(arm) - start[:3]
        off_line = max(off_line, float(np.abs(moved[[0, 2]]).max()))
        slowest.append(moved[1])
    assert arm.mode is ArmMode.MOVING
    assert slowest == sorted(slowest)
    reaction(13, "refused, longest time to say so", max(took) * 1e3, 10.0)
    reaction(13, "way off the line of the good targets", off_line * 1e3, 0.01, unit="mm", hard=True)


def test_14_nothing_gets_beyond_a_wall_or_into_a_keep_out(
    make_arm: Make, ur: URLoopback, reaction: Make, log: Make
) -> None:
    x, y, z = ur.state()["pose"][:3]
    radius = 0.02
    low, high = np.array([x - 0.3, y - 0.3, z - 0.3]), np.array([x + 0.3, y + 0.06, z + 0.08])
    keep_out = np.array([[x + 0.06, y - 0.1, z - 0.3], [x + 0.1, y + 0.1, z + 0.3]])
    limits = {"workspace_m": np.array([low, high]), "keep_outs_m": (keep_out,), "tool_radius_m": radius}
    arm: ArmProcess = make_arm("UR", {"host": ur.address, "silence_s": 0.3}, limits, ttl_s=0.3)
    arm.connect(20.0)
    arm.arm()
    start = pose_of(arm.read(max_age_s=5.0).T_base_ee)
    for axis in (1, 2):
        beyond = start.copy()
        beyond[axis] += 0.25
        ack = arm.send_checked(beyond, 1.0)
        assert (ack.kind, ack.code) == (AckKind.CLAMPED, "workspace")
        keep_sending(arm, beyond, 1.6)
    inside = pose_of(arm.read(max_age_s=5.0).T_base_ee)
    inside[0] = x + 0.08
    assert arm.send_checked(inside, 1.0).code == "keep_out"
    time.sleep(1.1)
    behind = inside.copy()
    behind[0] = x + 0.2
    assert arm.send_checked(behind, 1.0).code == "path"
    trace = np.array(ur.trace())[:, 1:4]
    assert trace[:, 1].max() > y + 0.03  # it did go there
    beyond_mm = float((trace + radius - high).max() * 1e3)
    reaction(14, "tool beyond the wall, at most", max(beyond_mm, 0.0), 2.0, unit="mm", hard=True)
    near = trace[(trace[:, 1] > keep_out[0, 1] - radius) & (trace[:, 2] > keep_out[0, 2] - radius)]
    into_mm = float((near[:, 0] + radius - keep_out[0, 0]).max() * 1e3)
    reaction(14, "tool in the keep-out, at most", max(into_mm, 0.0), 2.0, unit="mm", hard=True)


@pytest.mark.slow
def test_15_random_targets_leave_every_setpoint_on_the_wire_inside_its_limits(
    make_arm: Make, ur: URLoopback, reaction: Make
) -> None:
    arm: ArmProcess = make_arm("UR", {"host": ur.address, "silence_s": 0.3}, {"max_tracking_error_m": 0.3}, ttl_s=0.3)
    arm.connect(20.0)
    arm.arm()
    rng = np.random.default_rng(15)
    start = pose_of(arm.read(max_age_s=5.0).T_base_ee)
    for _ in range(150):  # 25 Hz; a hundred times ten thousand of them: benchmarks/limits_fuzz.py
        target = start.copy()
        target[:3] += rng.uniform(-0.12, 0.12, 3)
        arm.send_checked(target, 1.0)
        time.sleep(0.04)
    rows = [(t, *values[:3]) for t, kind, values in ur.setpoints() if kind == "servol"]
    assert len(rows) > 300
    sent = np.array(rows)
    period_s = 1 / 125
    gaps = np.maximum(np.round(np.diff(sent[:, 0]) / period_s), 1)
    steps = np.linalg.norm(np.diff(sent[:, 1:], axis=0), axis=1)
    speed = float((steps / (gaps * period_s)).max())
    reaction(15, "speed on the wire, share of the limit", speed / 0.25, 1.01, unit="of limit", hard=True)
    second = np.diff(sent[:, 1:], 2, axis=0) / period_s**2
    third = np.diff(sent[:, 1:], 3, axis=0) / period_s**3
    acceleration = float(np.quantile(np.linalg.norm(second, axis=1), 0.99))
    jerk = float(np.quantile(np.linalg.norm(third, axis=1), 0.99))
    # The worst hundredth is left to setpoints that the emulated controller did not take in their own cycle.
    reaction(15, "acceleration on the wire, 99 % of it below", acceleration / 1.0, 1.01, unit="of limit", hard=True)
    reaction(15, "jerk on the wire, 99 % of it below", jerk / 10.0, 1.01, unit="of limit", hard=True)


def test_16_one_thread_commands_any_thread_stops_and_one_process_owns(
    arm: ArmProcess, make_arm: Make, reaction: Make, lead: Make, log: Make, tmp_path: Path
) -> None:
    told, motion = log(arm), lead(arm, axis=1, to_m=0.29)
    assert arm.send_checked(motion.target, 1.0).code == "wrong_thread"
    second: ArmProcess = make_arm("VIRTUAL", {"address": str(tmp_path)})
    with pytest.raises(DeviceError, match=str(os.getpid())):
        second.connect(20.0)
    motion.end()
    arm.disarm()
    arm.arm()
    busy = threading.Thread(target=lambda: follow(arm), daemon=True)
    busy.start()
    deadline = time.monotonic() + 5.0
    while arm.mode is not ArmMode.MOVING and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.4)
    stopped_s = time.monotonic()
    arm.stop()
    called_s = time.monotonic()
    held = told.wait("stop", stopped_s - 0.05, "transition")
    reaction(16, "the call of stop() itself", (called_s - stopped_s) * 1e3, 1.0)
    reaction(16, "stop() beside a thread that waits for its schedule", (held.stamp_s - stopped_s) * 1e3, 8.0 + 1.0)
    busy.join()


def follow(arm: ArmProcess) -> None:
    """Send a schedule and wait until it would be over."""
    here = pose_of(arm.read(max_age_s=5.0).T_base_ee)
    there = here + np.array([0, -0.25, 0, 0, 0, 0, 0])
    assert arm.schedule(there[None], np.ones(1), np.array([time.monotonic() + 2.0])).taken
    time.sleep(2.0)


def test_17_late_cycles_warn_slow_and_stop(arm: ArmProcess, reaction: Make, lead: Make, log: Make) -> None:
    told, motion = log(arm), lead(arm, axis=1, to_m=0.29)
    assert arm.pid is not None
    overruns = arm.lateness().overruns
    for late_s in (0.03, 0.08):
        told.look()
        began_s = time.monotonic()
        os.kill(arm.pid, signal.SIGSTOP)
        time.sleep(late_s)
        os.kill(arm.pid, signal.SIGCONT)
        event = told.wait("overrun", began_s)
        assert event.kind == "warning"
        time.sleep(1.1)  # one line per second
    assert arm.lateness().overruns > overruns
    motion.end()
    motion = lead(arm, 0.05, axis=1, to_m=-0.29)
    began_s = time.monotonic()
    os.kill(arm.pid, signal.SIGSTOP)
    time.sleep(0.29)
    on_s = time.monotonic()
    os.kill(arm.pid, signal.SIGCONT)
    held = told.wait("overrun", began_s, "transition")
    motion.end()
    reaction(17, "a cycle more than 200 ms late: hold, from when it goes on", (held.stamp_s - on_s) * 1e3, 8.0)


def burn(ended: Any) -> None:
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    while not ended.is_set():
        sum(i * i for i in range(20_000))


@pytest.mark.slow
def test_17_the_loop_is_punctual_while_every_core_burns(arm: ArmProcess, reaction: Make) -> None:
    spawn = multiprocessing.get_context("spawn")
    ended = spawn.Event()
    fires = [spawn.Process(target=burn, args=(ended,), daemon=True) for _ in range(os.cpu_count() or 2)]
    for fire in fires:
        fire.start()
    try:
        time.sleep(1.5)
        windows = []
        here = pose_of(arm.read(max_age_s=5.0).T_base_ee)
        for _ in range(3):
            keep_sending(arm, here, 1.0)
            windows.append(arm.lateness())
    finally:
        ended.set()
        for fire in fires:
            fire.join(10.0)
            fire.kill()
    late = sorted(window.p99_ms for window in windows)[1]
    promised = {"fifo": 1.0, "nice": 20.0}.get(windows[0].scheduling)
    reaction(17, f"lateness p99 with all cores burning, {windows[0].scheduling}", late, promised)


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long step(void) {
  long seconds = 0; FILE *file = fopen(getenv("CLOCK_STEP"), "r");
  if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
  return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, now);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += step();
  return result;
}
int gettimeofday(struct timeval *now, void *zone) {
  static int (*real)(struct timeval *, void *);
  if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
  int result = real(now, zone);
  now->tv_sec += step();
  return result;
}
time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
"""

STEPPED = """
import json, sys, time
from pathlib import Path
import numpy as np
from cascade.contracts import Limits
from robot_io.process.arm_process import ArmProcess
from robot_io.process.poses import pose_of
from robot_io.process.settings import ProcessSettings
from robot_io.cameras.config import SyntheticConfig
from robot_io.cameras.plugins import SYNTHETIC
if __name__ == "__main__":
    limits = Limits(workspace_m=np.array([[0.0, -0.5, 0.0], [0.8, 0.5, 0.8]]), max_speed_m_s=0.25, max_step_m=0.3,
        max_acceleration_m_s2=1.0, max_jerk_m_s3=10.0, max_rotation_rad=0.3)
    settings = ProcessSettings(ttl_s=0.5, caller_s=3.0)
    arm = ArmProcess("robot_io.arms.plugins:VIRTUAL", {}, limits, settings=settings)
    arm.connect(30.0)
    arm.arm()
    with SYNTHETIC.build(SyntheticConfig(width=64, height=48)) as camera:
        target = pose_of(arm.read(max_age_s=5.0).T_base_ee)
        step, walls, modes, stale = Path(sys.argv[1]), [], set(), 0
        for seconds in (0, 3600, -3600, 0):
            step.write_text(str(seconds))
            walls.append(time.time())
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                target[1] += 0.004
                arm.send_checked(target, 1.0)
                try:
                    age = time.monotonic() - camera.read(max_age_s=1.0).stamp_s
                    stale += not -0.1 < age < 1.0
                except Exception:
                    stale += 1
                time.sleep(0.05)
                modes.add(arm.mode.value)
    events = [(event.kind, event.code) for event in arm.events()]
    arm.close()
    print(json.dumps({"walls": walls, "modes": sorted(modes), "events": events, "stale": stale}))
"""


@pytest.mark.slow
def test_18_a_wall_clock_that_is_set_an_hour_on_or_back_changes_nothing(tmp_path: Path, reaction: Make) -> None:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler found, to set the clock of these processes alone; on Debian: apt-get install gcc")
    (tmp_path / "shim.c").write_text(SHIM)
    shim = tmp_path / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True)
    script, step = tmp_path / "caller.py", tmp_path / "step"
    script.write_text(textwrap.dedent(STEPPED))
    step.write_text("0")
    environment = {**os.environ, "LD_PRELOAD": str(shim), "CLOCK_STEP": str(step), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(step)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert seen["walls"][1] - seen["walls"][0] > 3000  # the clock was indeed set
    assert seen["walls"][2] - seen["walls"][1] < -6000
    codes = [code for kind, code in seen["events"] if kind in ("fault", "rejected")]
    assert codes == []
    assert set(seen["modes"]) <= {"armed", "moving"}
    reaction(18, "images called stale while the clock jumped", seen["stale"], 0.0, unit="images", hard=True)
    reaction(18, "faults and refusals while the clock jumped", len(codes), 0.0, unit="lines", hard=True)


class Hand:
    """Somebody at the deadman, beating 50 times a second."""

    def __init__(self) -> None:
        self.deadman, self.held, self.silent, self.ended = Deadman(), False, False, threading.Event()
        self.thread = threading.Thread(target=self._operate)
        self.thread.start()

    def _operate(self) -> None:
        while not self.ended.wait(0.02):
            if not self.silent:
                self.deadman.beat(self.held)

    def press_anew(self) -> None:
        self.held = False
        time.sleep(0.2)
        self.held = True


@pytest.mark.slow
def test_30_motion_needs_a_deadman_that_is_held_steadily_and_was_released_before(
    make_arm: Make, reaction: Make, log: Make
) -> None:
    arm: ArmProcess = make_arm("VIRTUAL", {}, ttl_s=0.3)
    arm.connect(20.0)
    hand, told = Hand(), log(arm)
    try:
        hand.held = True
        time.sleep(0.05)
        arm.arm(hand.deadman)
        start = pose_of(arm.read(max_age_s=5.0).T_base_ee)
        goal = start + np.array([0, 0.28, 0, 0, 0, 0, 0])
        keep_sending(arm, goal, 0.5)
        assert np.allclose(where(arm), start[:3])  # pressed while it was armed
        for way, said in (("released", "held"), ("silent, as a cable that is out", "silent")):
            hand.silent = False
            hand.press_anew()
            keep_sending(arm, goal, 0.7)
            assert arm.mode is ArmMode.MOVING
            ended_s = time.monotonic()
            if said == "held":
                hand.held = False
            else:
                hand.silent = True
            held_event = None
            while held_event is None:
                keep_sending(arm, goal, 0.02)
                held_event = told.first("deadman", ended_s - 0.01, "transition")
                assert time.monotonic() < ended_s + 3.0
            reaction(30, f"{way}: hold", (held_event.stamp_s - ended_s) * 1e3, 150.0 + 28.0)
            while not still(arm):
                pass
            goal[1] = start[1] if goal[1] > start[1] else start[1] + 0.28
        hand.silent = False
        hand.held = False
        time.sleep(0.3)
        place = where(arm)
        for _ in range(12):  # chattering: never held for the 0.2 s that count
            hand.held = not hand.held
            keep_sending(arm, goal, 0.08)
        assert np.abs(where(arm) - place).max() < 1e-6
        reaction(30, "way while the switch chatters", float(np.abs(where(arm) - place).max() * 1e3), 0.0, unit="mm")
    finally:
        hand.ended.set()
        hand.thread.join()


@pytest.mark.slow
def test_30_a_deadman_that_is_stuck_disarms_the_arm_after_a_minute(make_arm: Make, reaction: Make, log: Make) -> None:
    arm: ArmProcess = make_arm("VIRTUAL", {}, ttl_s=0.5)
    arm.connect(20.0)
    hand, told = Hand(), log(arm)
    try:
        arm.arm(hand.deadman)
        hand.press_anew()
        pressed_s = time.monotonic()
        here = pose_of(arm.read(max_age_s=5.0).T_base_ee)
        while arm.mode is not ArmMode.IDLE and time.monotonic() < pressed_s + 70.0:
            keep_sending(arm, here, 0.1)
        disarmed = told.wait("deadman_stuck", pressed_s, "transition")
        reaction(30, "stuck: disarmed", (disarmed.stamp_s - pressed_s) * 1e3, 60_000.0 + 100.0)
    finally:
        hand.ended.set()
        hand.thread.join()


def test_31_a_policy_that_hangs_leaves_an_arm_that_ends_its_way_and_stops(
    arm: ArmProcess, reaction: Make, log: Make
) -> None:
    told = log(arm)
    start = pose_of(arm.read(max_age_s=5.0).T_base_ee)
    way = np.linspace(0, 0.2, 5)[1:, None] * np.array([[0, 1, 0, 0, 0, 0, 0]])
    end_s = time.monotonic() + 1.6
    times = np.linspace(end_s - 1.2, end_s, 4)
    assert arm.schedule(start + way, np.ones(4), times, sequence=5).taken
    old = arm.schedule(start - way, np.ones(4), times, sequence=4)
    assert (old.kind, old.code) == (AckKind.REJECTED, "out_of_order")
    late = start + way  # a chunk that arrives late: what is past is skipped, the rest replaces the tail
    time.sleep(0.8)
    assert arm.schedule(late, np.ones(4), times, sequence=6).taken
    held = told.wait("ttl", seconds=5.0)
    reaction(31, "hold after the last target's time, 300 ms to live", (held.stamp_s - end_s) * 1e3, 308.0)
    while not still(arm):
        pass
    short_mm = float(np.abs(where(arm) - (start + way)[-1, :3]).max() * 1e3)
    reaction(31, "distance from the end of the old tail", short_mm, 1.0, unit="mm", hard=True)
    before = where(arm)
    time.sleep(0.4)
    assert np.allclose(where(arm), before, atol=1e-7)
