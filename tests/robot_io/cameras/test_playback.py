from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import DataError, DeviceError
from cascade.contracts.video import write_mp4
from robot_io.cameras.config import OpencvConfig, PlaybackConfig
from robot_io.cameras.opencv import OpencvSource
from robot_io.cameras.playback import check_recording, open_playback
from robot_io.cameras.plugins import PLAYBACK
from robot_io.cameras.source import EndOfRecordingError


def play(config):
    """Read a source to its end and return its info, frames and the error that ended it."""
    source = open_playback(config)
    frames = []
    try:
        info = source.open()
        while True:
            frame = source.read(1.0)
            if frame is not None:
                frames.append(frame)
    except EndOfRecordingError as end:
        return info, frames, end
    finally:
        source.close()


def collect(camera, seen):
    seq = 0
    while True:
        frame = camera.wait(seq, 10.0)
        seq = frame.seq
        seen.append(frame.number)


def film(folder, *, depth=True):
    path = folder / "table.mp4"
    frames = np.zeros((8, 48, 64, 3), dtype=np.uint8)
    frames += np.arange(40, 200, 20, dtype=np.uint8)[:, None, None, None]
    write_mp4(path, frames, 20.0)
    if depth:
        K = np.array([[70.0, 0, 32], [0, 70, 24], [0, 0, 1]])
        depths = np.linspace(0.4, 1.1, 8, dtype=np.float32)[:, None, None] * np.ones((8, 48, 64), np.float32)
        np.savez_compressed(path.with_suffix(".depth.npz"), depth_m=depths, K=K)
    return path


def test_a_recording_plays_every_image_once_and_then_says_it_is_over(db3):
    info, frames, end = play(PlaybackConfig(path=db3, realtime=False))
    assert (info.serial, info.width, info.height, info.has_depth, info.live) == ("SW0001", 160, 120, True, False)
    assert np.allclose(info.K, [[150, 0, 79.5], [0, 151, 61.5], [0, 0, 1]])
    numbers = [frame.number for frame in frames]
    assert len(numbers) >= 24
    assert numbers == sorted(set(numbers))
    assert np.nanmedian(frames[-1].depth_m) == pytest.approx(0.75, abs=1e-3)
    assert "over after" in end.problem


def test_a_camera_that_plays_a_recording_ends_with_a_typed_error_and_is_not_opened_again(db3):
    with PLAYBACK.build(PlaybackConfig(path=db3)) as camera:
        seen = []
        with pytest.raises(EndOfRecordingError, match="over after"):
            collect(camera, seen)
        with pytest.raises(EndOfRecordingError):
            camera.read(max_age_s=0.0)
        assert len(seen) >= 15
        assert seen == sorted(set(seen))
        health = camera.health()
        assert (health.state, health.reconnects) == ("ended", 0)


def test_a_recording_that_is_cut_off_is_refused(db3, tmp_path):
    for share in (0.999, 0.5, 0.01):
        path = tmp_path / f"cut{share}.db3"
        path.write_bytes(db3.read_bytes()[: int(db3.stat().st_size * share)])
        with pytest.raises(DataError, match="cut off"):
            open_playback(PlaybackConfig(path=path)).open()


@pytest.mark.parametrize("name", ["empty.db3", "text.db3", "text.bag", "none.db3", "none.mp4", "text.mp4", "odd.xyz"])
def test_what_is_no_recording_is_refused(tmp_path, name):
    if name.startswith("text"):
        (tmp_path / name).write_text("hello" * 100)
    if name.startswith("empty"):
        (tmp_path / name).touch()
    with pytest.raises(DataError):
        open_playback(PlaybackConfig(path=tmp_path / name)).open()


def test_an_unfinished_bag_is_refused_by_its_missing_index(tmp_path):
    import struct

    path = tmp_path / "old.bag"
    for index, fine in ((0, False), (10**9, False), (4200, True)):
        field = b"index_pos=" + struct.pack("<Q", index)
        path.write_bytes(b"#ROSBAG V2.0\n" + struct.pack("<I", 60) + field + b"\0" * 5000)
        if fine:
            check_recording(path)
        else:
            with pytest.raises(DataError, match="without its index"):
                check_recording(path)


def test_a_video_plays_with_the_depth_beside_it(tmp_path):
    info, frames, _ = play(PlaybackConfig(path=film(tmp_path), realtime=False))
    assert (info.fps, info.has_depth, info.nominal) == (20.0, True, False)
    assert info.K[0, 0] == 70
    assert len(frames) == 8
    assert [float(frame.depth_m[0, 0]) for frame in frames] == pytest.approx(np.linspace(0.4, 1.1, 8), abs=1e-6)
    assert [round(frame.t_dev_s, 3) for frame in frames] == [round(n / 20, 3) for n in range(8)]
    assert abs(int(frames[0].rgb.mean()) - 40) < 6


def test_a_video_without_depth_says_that_its_intrinsics_are_guessed(tmp_path):
    info, frames, _ = play(PlaybackConfig(path=film(tmp_path, depth=False), realtime=False, hfov_deg=90))
    assert (info.has_depth, info.nominal) == (False, True)
    assert info.K[0, 0] == pytest.approx(32)
    assert frames[0].depth_m is None


def test_depth_of_another_video_is_refused(tmp_path):
    path = film(tmp_path)
    np.savez_compressed(path.with_suffix(".depth.npz"), depth_m=np.ones((3, 48, 64), np.float32))
    with pytest.raises(DataError, match="shape"):
        open_playback(PlaybackConfig(path=path)).open()
    path.with_suffix(".depth.npz").write_bytes(b"PK\3\4 cut off")
    with pytest.raises(DataError, match="cannot be read"):
        open_playback(PlaybackConfig(path=path)).open()


def test_a_video_file_is_also_a_webcam(tmp_path):
    source = OpencvSource(OpencvConfig(device=str(film(tmp_path))))
    info = source.open()
    assert (info.width, info.height, info.has_depth) == (64, 48, False)
    assert source.read(1.0).rgb.shape == (48, 64, 3)
    source.close()


@pytest.mark.parametrize("device", [77, "/dev/v4l/by-id/none"])
def test_a_webcam_that_is_not_there_is_told_at_once(device):
    with pytest.raises(DeviceError, match=r"expected /dev/.*found"):
        OpencvSource(OpencvConfig(device=device)).open()


def test_webcams_are_listed_from_sys_and_named_by_their_usb_serial(tmp_path):
    from robot_io.cameras.devices import identity, v4l2_devices

    usb = tmp_path / "devices" / "usb1" / "1-2"
    (usb / "1-2:1.0").mkdir(parents=True)
    (usb / "serial").write_text("ABC123\n")
    system = tmp_path / "video4linux"
    for name, index in (("video0", "0"), ("video1", "1")):
        (system / name).mkdir(parents=True)
        (system / name / "name").write_text("HD Webcam\n")
        (system / name / "index").write_text(index)
        (system / name / "device").symlink_to(usb / "1-2:1.0")
    assert v4l2_devices(system) == [("/dev/video0", "HD Webcam")]
    assert identity("/dev/video0", system) == "ABC123"
    (usb / "serial").unlink()
    assert identity("/dev/video0", system) == "1-2:1.0"


OLD = Path(__file__).parent / "old_format.bag"  # eight pairs of a software device, recorded by pyrealsense2 2.57.7


def test_a_recording_of_an_older_librealsense_still_plays():
    pytest.importorskip("pyrealsense2", exc_type=ImportError)
    info, frames, end = play(PlaybackConfig(path=OLD, realtime=False))
    assert (info.serial, info.width, info.height, info.has_depth) == ("OLD0257", 64, 48, True)
    assert [frame.number for frame in frames] == list(range(1, 8))
    assert np.nanmedian(frames[0].depth_m) == pytest.approx(0.75, abs=1e-3)
    assert "over after 7" in end.problem


@pytest.mark.parametrize("share", [0.97, 0.5, 0.05])
def test_an_old_recording_that_is_cut_off_is_refused(tmp_path, share):
    path = tmp_path / "cut.bag"
    path.write_bytes(OLD.read_bytes()[: int(OLD.stat().st_size * share)])
    with pytest.raises(DataError, match=r"cut off|without its index"):
        open_playback(PlaybackConfig(path=path)).open()
