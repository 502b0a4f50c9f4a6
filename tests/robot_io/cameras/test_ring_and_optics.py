import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_io.calibration.files import CameraCalibration, to_opencv
from robot_io.cameras.optics import Optics, rotated
from robot_io.cameras.ring import Ring
from robot_io.cameras.source import SourceFrame, SourceInfo, pinhole


def write(ring, value):
    rgb = np.full((40, 60, 3), value % 256, np.uint8)
    depth = np.full((40, 60), value, np.float32)
    ring.write(rgb, depth, stamp_s=value, t_dev_s=value, skew_s=0.0, number=value, alarms=0)


def test_a_reader_never_sees_a_torn_image():
    ring = Ring(40, 60, depth=True)
    reader = Ring(40, 60, depth=True, name=ring.name)
    stop = threading.Event()

    def writer():
        value = 0
        while not stop.is_set():
            value += 1
            write(ring, value)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        seen = looks = 0
        until = time.monotonic() + 60.0  # the writer may have to wait for its turn
        while (looks < 3000 or seen <= 10) and time.monotonic() < until:
            looks += 1
            frame = reader.newest()
            if frame is None:
                continue
            assert frame.rgb.min() == frame.rgb.max() == frame.number % 256
            assert frame.depth_m.min() == frame.depth_m.max() == frame.number == frame.stamp_s
            assert frame.number >= seen
            seen = frame.number
        assert seen > 10
    finally:
        stop.set()
        thread.join()
        reader.close()
        ring.close()
        ring.unlink()


def test_an_empty_ring_has_no_image_and_copies_are_the_readers_own():
    ring = Ring(40, 60, depth=False)
    try:
        assert ring.newest() is None
        write(ring, 1)
        kept = ring.newest()
        kept.rgb[:] = 0
        assert ring.newest().rgb.max() == 1
        assert kept.depth_m is None
    finally:
        ring.close()
        ring.unlink()


@given(st.integers(1, 3), st.floats(-0.4, 0.4), st.floats(-0.3, 0.3), st.floats(0.5, 3))
def test_turned_intrinsics_see_a_point_where_the_turned_image_shows_it(turns, x, y, z):
    K = np.array([[500.0, 0, 310], [0, 510, 250], [0, 0, 1]])
    width, height = 640, 480
    u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
    for _ in range(turns):
        u, v = height - v, u  # clockwise, in pixel coordinates
        x, y = -y, x
        width, height = height, width
    turned, size = rotated(K, 640, 480, turns)
    assert size == (width, height)
    assert turned[0, 0] * x / z + turned[0, 2] == pytest.approx(u, abs=1e-6)
    assert turned[1, 1] * y / z + turned[1, 2] == pytest.approx(v, abs=1e-6)


def info(width, height, K, **more):
    return SourceInfo(kind="t", serial="1", model="", width=width, height=height, fps=30, K=K, has_depth=True, **more)


def source_frame(rgb, depth):
    return SourceFrame(rgb=rgb, depth_m=depth, t_dev_s=0, t_host_s=0, number=1)


def test_a_camera_upside_down_gives_upright_images():
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[3, 5] = 200
    depth = np.full((48, 64), np.nan, np.float32)
    depth[3, 5] = 0.7
    optics = Optics(info(64, 48, pinhole(64, 48, 60)), 180, None)
    turned, turned_depth = optics.apply(source_frame(rgb, depth))
    assert turned[44, 58, 0] == 200
    assert turned_depth[44, 58] == np.float32(0.7)


def test_distortion_is_taken_out_of_colour_and_depth():
    import cv2

    K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    bent = (-0.25, 0.05, 0.0, 0.0, 0.0)
    calibration = CameraCalibration(serial="1", date=datetime.now(UTC), image_size_px=(320, 240), K=K, distortion=bent)
    optics = Optics(info(320, 240, pinhole(320, 240, 50), nominal=True), 0, calibration)
    point = np.array([[0.35, -0.2, 1.0]])
    pixel = cv2.projectPoints(point, np.zeros(3), np.zeros(3), to_opencv(K), np.array(bent))[0].ravel()
    rgb, depth = np.zeros((240, 320, 3), np.uint8), np.full((240, 320), np.nan, np.float32)
    cv2.circle(rgb, tuple(int(v) for v in np.round(pixel)), 3, (255, 255, 255), -1)
    depth[rgb[..., 0] > 0] = 1.0
    flat, flat_depth = optics.apply(source_frame(rgb, depth))
    ideal = (K @ point[0])[:2] - 0.5
    for image in (flat[..., 0] > 127, flat_depth > 0):
        rows, columns = np.nonzero(image)
        assert np.hypot(columns.mean() - ideal[0], rows.mean() - ideal[1]) < 1.0
    assert optics.info.K[0, 0] == 300
    assert (optics.info.nominal, optics.info.distortion) == (False, ())
    assert np.hypot(*(pixel - ideal)) > 3  # it was bent in the first place
