import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import DataError, DeviceError
from robot_io.cameras.config import PlaybackConfig, RealsenseConfig, SyntheticConfig
from robot_io.cameras.playback import open_playback
from robot_io.cameras.plugins import SYNTHETIC
from robot_io.cameras.recording import DiskFullError, check_disk, record_film, record_realsense, verify
from robot_io.cameras.source import EndOfRecordingError

HUGE = 2**60


def test_a_recording_is_read_back(db3):
    assert verify(db3) >= 50


def test_a_full_disk_is_told_before_anything_is_recorded(tmp_path, make_db3):
    with pytest.raises(DiskFullError, match="MB free"):
        check_disk(tmp_path / "a.db3", HUGE)
    with pytest.raises(DiskFullError), SYNTHETIC.build(SyntheticConfig(width=64, height=48)) as camera:
        record_film(camera, tmp_path / "a.mp4", 3, least_free_bytes=HUGE)


def test_a_disk_that_fills_while_recording_is_told(tmp_path):
    # A limit on the size of files does to librealsense what a full disk does: its writes fail.
    code = textwrap.dedent(f"""
        import resource, signal, sys, shutil
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from conftest import SoftwareCamera
        from robot_io.cameras.recording import DiskFullError, recorder
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        camera = SoftwareCamera()
        try:
            with recorder(Path("full.db3"), camera.device, least_free_bytes=0) as writer:
                sensors = tuple(writer.query_sensors())
                with camera.streaming(sensors) as syncer:
                    for number in range(20):
                        camera.push(number)
                del sensors
        except DiskFullError as error:
            print("typed:", error)
    """)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "typed:" in done.stdout, (done.returncode, done.stdout, done.stderr[-2000:])


def test_names_that_exist_or_end_otherwise_are_refused(db3):
    with pytest.raises(DataError, match="exists already"):
        record_realsense(RealsenseConfig(), db3, 1.0, least_free_bytes=0)
    with pytest.raises(DataError, match=r"ending in \.db3"):
        record_realsense(RealsenseConfig(), db3.with_suffix(".bag"), 1.0)


@pytest.mark.parametrize(("name", "words"), [("a.db3", "only a RealSense"), ("a.avi", r"ending in \.db3 or \.mp4")])
def test_a_drawn_camera_records_only_to_video(tmp_path, name, words):
    with pytest.raises(DataError, match=words):
        SYNTHETIC.build(SyntheticConfig()).record(tmp_path / name, 1.0)


def test_recording_without_a_camera_is_told_at_once(tmp_path):
    with pytest.raises(DeviceError, match="found none"):
        record_realsense(RealsenseConfig(), tmp_path / "a.db3", 1.0, least_free_bytes=0)
    assert not (tmp_path / "a.db3").exists()


def test_any_camera_records_to_a_video_with_depth_that_plays_again(tmp_path):
    path = tmp_path / "drawn.mp4"
    with SYNTHETIC.build(SyntheticConfig(width=64, height=48)) as camera:
        record_film(camera, path, 5, least_free_bytes=0)
        K = camera.info.K
    source = open_playback(PlaybackConfig(path=path, realtime=False))
    info = source.open()
    assert np.allclose(info.K, K)
    frames = [source.read(1.0) for _ in range(5)]
    with pytest.raises(EndOfRecordingError):
        source.read(1.0)
    source.close()
    assert all(frame is not None for frame in frames)
