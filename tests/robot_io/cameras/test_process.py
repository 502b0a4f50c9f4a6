"""Faults of a camera, end to end: through the camera's process, shared memory and supervision."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from cascade.contracts import Camera, CameraImage, DeviceError, StaleImageError
from robot_io.cameras.config import SyntheticConfig
from robot_io.cameras.plugins import SYNTHETIC
from robot_io.cameras.synthetic import draw
from robot_io.loopback.camera import LoopbackCamera


@pytest.fixture
def loopback(tmp_path):
    return LoopbackCamera(tmp_path, width=64, height=48, hang_s=0.5, open_timeout_s=5)


def until(condition, timeout_s=30.0):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def readable(camera):
    try:
        camera.read(max_age_s=0.5)
    except DeviceError:
        return False
    return True


def refusal(camera, **more):
    try:
        camera.read(max_age_s=0.5, **more)
    except DeviceError as error:
        return str(error)
    return ""


def test_images_come_as_copies_with_depth_and_true_stamps():
    config = SyntheticConfig(width=64, height=48, name="front")
    camera = SYNTHETIC.build(config)
    assert isinstance(camera.name, str)
    with camera:
        contract: Camera = camera
        image = contract.read(max_age_s=1.0)
        assert isinstance(image, CameraImage)
        assert 0 <= time.monotonic() - image.stamp_s < 1.0
        frame = camera.wait(camera.wait(0).seq)
        rgb, depth = draw(config, frame.number)
        assert np.array_equal(frame.image.rgb, rgb)
        assert np.array_equal(frame.image.depth_m, depth)
        assert camera.health().good
        assert camera.health().serial == "SYNTHETIC-0"
    with pytest.raises(DeviceError, match="closed"):
        camera.read()


def test_a_consumer_may_keep_a_hundred_images():
    with SYNTHETIC.build(SyntheticConfig(width=64, height=48, fps=60)) as camera:
        kept, seq = [], 0
        while len(kept) < 100:
            frame = camera.wait(seq, 5.0)
            seq = frame.seq
            kept.append(frame)
        config = camera.config
        for frame in kept[::9]:
            assert np.array_equal(frame.image.rgb, draw(config, frame.number)[0])
        assert camera.health().reconnects == 0


def test_an_unplugged_camera_goes_stale_and_comes_back_by_itself_after_ten_good_images(loopback):
    with loopback.camera() as camera:
        camera.read(max_age_s=1.0)
        loopback.unplug()
        assert until(lambda: not readable(camera))
        with pytest.raises(StaleImageError, match="expected an image of the last"):
            camera.read()
        assert until(lambda: camera.health().state == "re-opening")
        assert until(lambda: "found none" in refusal(camera))
        before = camera.peek().seq
        loopback.plug()
        assert until(lambda: readable(camera))
        assert camera.peek().seq - before >= loopback.config.watch.good_frames
        health = camera.health()
        assert health.reconnects >= 1
        assert health.good
        assert "found none" in health.last_error


def test_another_camera_in_its_place_is_refused_until_the_first_is_back(loopback):
    with loopback.camera() as camera:
        loopback.unplug()
        assert until(lambda: not readable(camera))
        loopback.plug("OTHER")
        assert until(lambda: "expected serial SYNTHETIC-0, found OTHER" in refusal(camera))
        loopback.plug()
        assert until(lambda: readable(camera))


def test_a_hung_read_is_killed_and_the_camera_opened_again(loopback):
    with loopback.camera() as camera:
        loopback.hang()
        assert until(lambda: camera.health().reconnects >= 1)
        assert "none came for" in camera.health().last_error
        loopback.mend()
        assert until(lambda: readable(camera))


def test_closing_ends_even_when_the_library_hangs(loopback):
    with loopback.camera() as camera:
        loopback.hang(on_close=True)
        time.sleep(0.2)
        begin = time.monotonic()
        camera.close()
        assert time.monotonic() - begin < 3.5  # 3 s and the noise of a busy machine
        assert camera.health().state == "closed"
        loopback.mend()


def test_a_crashed_process_is_started_again(loopback):
    with loopback.camera() as camera:
        loopback.crash()
        assert until(lambda: "ended by itself (exit code 139)" in camera.health().last_error)
        loopback.mend()
        assert until(lambda: readable(camera))


def test_a_camera_that_never_opens_is_an_error_at_once(loopback):
    loopback.unplug()
    with pytest.raises(DeviceError, match="expected a camera, found none"), loopback.camera():
        pass


@pytest.mark.parametrize(
    ("fault", "name"),
    [("black", "black"), ("freeze", "frozen"), ("blind", "no_depth")],
)
def test_bad_images_close_the_gate_until_they_are_good_again(loopback, fault, name):
    with loopback.camera() as camera:
        camera.read(max_age_s=1.0)
        getattr(loopback, fault)()
        assert until(lambda: f"({name})" in refusal(camera))
        assert name in camera.health().alarms
        assert camera.peek() is not None  # a display still sees it
        loopback.mend()
        assert until(lambda: readable(camera))
        assert camera.health().alarms == ()


@pytest.mark.parametrize(
    ("fault", "name"),
    [("change_clock", "clock"), ("change_intrinsics", "intrinsics")],
)
def test_a_changed_device_closes_the_gate_for_good(loopback, fault, name):
    with loopback.camera() as camera:
        getattr(loopback, fault)()
        assert until(lambda: f"({name})" in refusal(camera))
        loopback.mend()
        time.sleep(0.5)
        assert f"({name})" in refusal(camera)
    with loopback.camera() as camera:
        camera.read(max_age_s=1.0)


@pytest.mark.parametrize(("fault", "counter"), [("duplicate", "duplicated"), ("skew", "skewed")])
def test_duplicated_and_skewed_images_are_left_out_and_counted(tmp_path, fault, counter):
    loopback = LoopbackCamera(tmp_path, width=64, height=48, hang_s=60)
    with loopback.camera() as camera:
        if fault == "skew":
            loopback.skew(0.05)
        else:
            loopback.duplicate()
        assert until(lambda: getattr(camera.health(), counter) > 3)
        assert until(lambda: "expected an image of the last" in refusal(camera))
        loopback.mend()
        assert until(lambda: readable(camera))


def test_waiting_for_an_image_that_does_not_come_ends(loopback):
    with loopback.camera() as camera:
        seq = camera.wait(0).seq
        loopback.unplug()
        time.sleep(0.2)
        seq = camera.peek().seq
        with pytest.raises(StaleImageError, match="a new image within"):
            camera.wait(seq, 0.2)


def test_the_camera_process_does_not_outlive_a_killed_caller(tmp_path):
    code = textwrap.dedent("""
        import multiprocessing, sys, time
        from robot_io.cameras.config import SyntheticConfig
        from robot_io.cameras.plugins import SYNTHETIC
        if __name__ == "__main__":
            with SYNTHETIC.build(SyntheticConfig(width=64, height=48)):
                print(multiprocessing.active_children()[0].pid, flush=True)
                time.sleep(600)
    """)
    script = tmp_path / "caller.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as caller:
        child = int(caller.stdout.readline())
        os.kill(child, 0)
        caller.send_signal(signal.SIGKILL)
        caller.wait()

    def gone():
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{child}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"  # nobody has collected it yet

    assert until(gone)


def test_no_shared_memory_is_left_behind():
    with SYNTHETIC.build(SyntheticConfig(width=64, height=48)) as camera:
        name = camera._supervisor.ring.name
        assert os.path.exists(f"/dev/shm/{name}")
    assert not os.path.exists(f"/dev/shm/{name}")
