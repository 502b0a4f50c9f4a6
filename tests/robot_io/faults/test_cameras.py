"""Faults 23 to 28: cameras that are pulled, hang, lie, are missing, or are recordings."""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.contracts import ArmMode, DataError, DeviceError, StaleImageError
from cascade.contracts.video import write_mp4
from robot_io.cameras.config import OpencvConfig, PlaybackConfig, RealsenseConfig, SyntheticConfig
from robot_io.cameras.devices import realsense_library
from robot_io.cameras.opencv import OpencvSource
from robot_io.cameras.playback import open_playback
from robot_io.cameras.plugins import PLAYBACK, SYNTHETIC
from robot_io.cameras.realsense import RealsenseSource
from robot_io.cameras.recording import DiskFullError, check_disk
from robot_io.cameras.source import EndOfRecordingError
from robot_io.loopback.camera import LoopbackCamera
from robot_io.process.arm_process import ArmProcess
from robot_io.process.poses import pose_of

Make = Callable[..., Any]


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[LoopbackCamera]:
    with LoopbackCamera(tmp_path, width=64, height=48, hang_s=0.5, open_timeout_s=5) as made:
        yield made


def refusal(camera: Any, max_age_s: float = 0.15) -> str:
    try:
        camera.read(max_age_s=max_age_s)
    except DeviceError as error:
        return str(error)
    return ""


class Policy:
    """What the cascade does: look, then send a target; an image that is too old skips the step."""

    def __init__(self, camera: Any, arm: ArmProcess) -> None:
        self.camera, self.arm, self.first_stale_s, self.refused = camera, arm, 0.0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._target = pose_of(arm.read(max_age_s=5.0).T_base_ee)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            try:
                self.camera.read(max_age_s=0.15)
            except DeviceError:
                self.first_stale_s = self.first_stale_s or time.monotonic()
                self.refused += 1
                continue
            self._target[1] += 0.002
            self.arm.send_checked(self._target, 1.0)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.mark.parametrize("way", ["unplug", pytest.param("hang", marks=pytest.mark.slow)])
def test_23_a_camera_that_is_pulled_or_hangs_ends_motion_and_comes_back_by_itself(
    way: str, loopback: LoopbackCamera, make_arm: Make, reaction: Make, log: Make, until: Make
) -> None:
    arm: ArmProcess = make_arm("VIRTUAL", {})
    arm.connect(20.0)
    arm.arm()
    told = log(arm)
    with loopback.camera() as camera:
        for _ in range(5):  # images may be late here without any fault
            policy = Policy(camera, arm)
            until(lambda: arm.mode is ArmMode.MOVING)
            time.sleep(0.3)
            if not policy.refused and arm.mode is ArmMode.MOVING:
                break
            policy.end()
        newest_s = camera.peek().image.stamp_s
        pulled_s = time.monotonic()
        getattr(loopback, way)()
        held = told.wait("ttl", pulled_s)
        until(lambda: policy.first_stale_s)
        newest_s = max(newest_s, camera.peek().image.stamp_s)
        reaction(23, f"{way}: image refused, after the last one", (policy.first_stale_s - newest_s) * 1e3, 150.0 + 33.0)
        reaction(23, f"{way}: arm holds, after the last image", (held.stamp_s - newest_s) * 1e3, 300.0)
        until(lambda: camera.health().state == "re-opening")
        until(lambda: not refusal(camera) or "re-opening" in refusal(camera))
        before = camera.peek().seq
        if way == "unplug":
            loopback.plug("OTHER")
            until(lambda: "found OTHER" in refusal(camera))
        loopback.mend()
        until(lambda: not refusal(camera), 30.0)
        good = camera.peek().seq - before
        reaction(23, f"{way}: images too few to go on with after coming back", max(0, 10 - good), 0.0, unit="images")
        policy.end()


def test_23_closing_a_camera_whose_library_hangs_ends_in_time(loopback: LoopbackCamera, reaction: Make) -> None:
    with loopback.camera() as camera:
        loopback.hang(on_close=True)
        time.sleep(0.2)
        began_s = time.monotonic()
        camera.close()
        reaction(23, "closing while the library hangs: child killed", (time.monotonic() - began_s) * 1e3, 3000.0)
        loopback.mend()


def test_24_no_camera_another_serial_or_no_library_is_told_at_once(
    reaction: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyrealsense2", exc_type=ImportError)
    realsense_library()
    for what, serial in (("none plugged in", None), ("a serial that is not there", "123")):
        began_s = time.monotonic()
        with pytest.raises(DeviceError, match="found none"):
            RealsenseSource(RealsenseConfig(serial=serial)).open()
        reaction(24, f"RealSense, {what}", (time.monotonic() - began_s) * 1e3, 1000.0)
    began_s = time.monotonic()
    with pytest.raises(DeviceError, match="expected /dev"):
        OpencvSource(OpencvConfig(device=77)).open()
    reaction(24, "webcam that is not there", (time.monotonic() - began_s) * 1e3, 1000.0)
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    began_s = time.monotonic()
    with pytest.raises(DeviceError, match=r"libusb|cascade-wam\[realsense\]"):
        RealsenseSource(RealsenseConfig()).open()
    reaction(24, "library missing", (time.monotonic() - began_s) * 1e3, 1000.0)


@pytest.mark.parametrize(
    ("fault", "counter"),
    [("duplicate", "duplicated"), pytest.param("skew", "skewed", marks=pytest.mark.slow)],
)
def test_25_old_and_skewed_images_are_left_out_counted_and_end_motion(
    fault: str, counter: str, tmp_path: Path, reaction: Make, until: Make
) -> None:
    loopback = LoopbackCamera(tmp_path, width=64, height=48, hang_s=60)
    with loopback.camera() as camera:
        until(lambda: not refusal(camera))
        newest_s = camera.peek().image.stamp_s
        loopback.skew(0.05) if fault == "skew" else loopback.duplicate()
        until(lambda: getattr(camera.health(), counter) > 3)
        until(lambda: "expected an image of the last" in refusal(camera))
        newest_s = max(newest_s, camera.peek().image.stamp_s)
        shown_ms = (time.monotonic() - newest_s) * 1e3
        reaction(25, f"{counter}: no image counts, after the last good one", shown_ms, 300.0)
        loopback.mend()


def test_25_a_clock_that_changes_closes_the_gate_for_good(
    loopback: LoopbackCamera, reaction: Make, until: Make
) -> None:
    with loopback.camera() as camera:
        changed_s = time.monotonic()
        loopback.change_clock()
        until(lambda: "(clock)" in refusal(camera, 1.0))
        reaction(25, "clock domain changed: alarm", (time.monotonic() - changed_s) * 1e3, 300.0)
        loopback.mend()
        time.sleep(0.3)
        assert "(clock)" in refusal(camera, 1.0)


@pytest.mark.parametrize(
    ("fault", "name", "promised"),
    [
        ("black", "black", 300.0),
        pytest.param("freeze", "frozen", 1300.0, marks=pytest.mark.slow),
        pytest.param("blind", "no_depth", 300.0, marks=pytest.mark.slow),
    ],
)
def test_26_images_that_show_nothing_close_the_gate(
    fault: str, name: str, promised: float, loopback: LoopbackCamera, reaction: Make, until: Make
) -> None:
    with loopback.camera() as camera:
        until(lambda: not refusal(camera, 1.0))
        began_s = time.monotonic()
        getattr(loopback, fault)()
        until(lambda: f"({name})" in refusal(camera, 1.0))
        reaction(26, f"{name}: alarm", (time.monotonic() - began_s) * 1e3, promised)
        assert name in camera.health().alarms
        loopback.mend()
        until(lambda: not refusal(camera, 1.0))


def test_26_intrinsics_that_change_close_the_gate(loopback: LoopbackCamera, reaction: Make, until: Make) -> None:
    with loopback.camera() as camera:
        began_s = time.monotonic()
        loopback.change_intrinsics()
        until(lambda: "(intrinsics)" in refusal(camera, 1.0))
        reaction(26, "intrinsics changed: alarm", (time.monotonic() - began_s) * 1e3, 300.0)


@pytest.mark.slow
def test_27_a_consumer_that_keeps_a_hundred_images_stops_nothing(reaction: Make) -> None:
    with SYNTHETIC.build(SyntheticConfig(width=64, height=48, fps=60)) as camera:
        kept, seq = [], 0
        while len(kept) < 100:
            frame = camera.wait(seq, 5.0)
            seq = frame.seq
            kept.append(frame)
        assert len({frame.image.rgb.tobytes() for frame in kept}) > 90
        reaction(27, "re-openings while 100 images are kept", camera.health().reconnects, 0.0, unit="times", hard=True)


def test_28_recordings_end_and_fail_with_errors_of_their_own(tmp_path: Path, reaction: Make) -> None:
    wrong = []
    with pytest.raises(DiskFullError):
        check_disk(tmp_path / "a.db3", 2**60)
    (tmp_path / "cut.db3").write_bytes(b"SQLite format 3\0" + b"\0" * 200)
    (tmp_path / "cut.bag").write_bytes(
        b"#ROSBAG V2.0\n" + struct.pack("<I", 60) + b"index_pos=" + struct.pack("<Q", 0) + b"\0" * 5000
    )
    for name in ("cut.db3", "cut.bag", "none.db3"):
        try:
            open_playback(PlaybackConfig(path=tmp_path / name)).open()
        except DataError:
            continue
        wrong.append(name)
    frames = np.zeros((6, 48, 64, 3), dtype=np.uint8) + np.arange(40, 160, 20, dtype=np.uint8)[:, None, None, None]
    write_mp4(tmp_path / "film.mp4", frames, 20.0)
    numbers: list[int] = []
    with PLAYBACK.build(PlaybackConfig(path=tmp_path / "film.mp4")) as camera:
        with pytest.raises(EndOfRecordingError):
            _play(camera, numbers)
        time.sleep(0.3)
        with pytest.raises((EndOfRecordingError, StaleImageError)):
            camera.read(max_age_s=0.1)
    if numbers != sorted(set(numbers)):
        wrong.append("looped")
    reaction(28, "recordings without an error of their own, or played twice", len(wrong), 0.0, unit="files", hard=True)


def _play(camera: Any, numbers: list[int]) -> None:
    seq = 0
    while True:
        frame = camera.wait(seq, 10.0)
        seq = frame.seq
        numbers.append(frame.number)
