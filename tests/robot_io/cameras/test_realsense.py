import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cascade.contracts import DeviceError
from robot_io.cameras.config import RealsenseConfig
from robot_io.cameras.devices import choose_realsense
from robot_io.cameras.plugins import REALSENSE
from robot_io.cameras.realsense import RealsenseSource, convert, forward_coefficients


def test_a_frameset_becomes_a_copy_with_metric_depth_and_intrinsics(software_camera):
    rs = software_camera.rs
    align = rs.align(rs.stream.color)
    frames = []
    with software_camera.streaming((software_camera.depth, software_camera.colour)) as syncer:
        for number in range(24):  # more than the 16 framesets after which librealsense stops when they are kept
            software_camera.push(number)
            came, frameset = syncer.try_wait_for_frames(100)
            frame = convert(frameset, align) if came else None
            if frame is not None:
                frames.append(frame)
    assert len(frames) >= 18  # the first ones come alone
    last = frames[-1]
    assert last.rgb.shape == (120, 160, 3)
    assert last.clock == "global_time"
    inner = last.depth_m[:, 20:-20]
    assert np.mean(np.abs(inner - 0.75) < 1e-3) > 0.95  # alignment leaves a few seams
    assert np.isnan(last.depth_m[60, 2])
    assert np.allclose(last.K, [[150, 0, 79.5], [0, 151, 61.5], [0, 0, 1]])
    assert last.rgb[0, 0, 0] == 200  # red first
    assert abs(last.t_dev_s - last.depth_t_dev_s) < 1e-3
    assert len({frame.number for frame in frames}) == len(frames)
    assert len({int(frame.rgb[0, 0, 1]) for frame in frames}) > 10  # earlier copies were not overwritten


def test_a_camera_that_is_not_there_is_told_at_once_with_the_remedy():
    pytest.importorskip("pyrealsense2", exc_type=ImportError)
    with pytest.raises(DeviceError, match=r"expected a camera, found none.*USB 3"):
        RealsenseSource(RealsenseConfig()).open()


def test_a_camera_process_passes_on_why_it_cannot_be_opened():
    pytest.importorskip("pyrealsense2", exc_type=ImportError)
    camera = REALSENSE.build(RealsenseConfig(serial="123"))
    with pytest.raises(DeviceError, match="expected a camera 123, found none") as caught, camera:
        pass
    assert "cascade cameras list" in caught.value.fix


@pytest.mark.parametrize(
    ("found", "serial", "message"),
    [
        ([], None, "found none"),
        ([("1", "D435"), ("2", "D455")], None, "expected one camera"),
        ([("1", "D435")], "2", r"expected serial 2, found 1 \(D435\)"),
    ],
)
def test_only_the_camera_that_is_meant_is_chosen(found, serial, message):
    with pytest.raises(DeviceError, match=message):
        choose_realsense(found, serial)


def test_the_only_camera_needs_no_serial():
    assert choose_realsense([("7", "D435")], None) == "7"
    assert choose_realsense([("1", "D435"), ("7", "D455")], "7") == "7"


@pytest.mark.parametrize("name", ["libusb-1.0.so.0: cannot open shared object file", "No module named 'pyrealsense2'"])
def test_a_missing_library_names_what_to_install(monkeypatch, name):
    from robot_io.cameras import devices

    def refuse(module):
        raise (ModuleNotFoundError if "module" in name else ImportError)(name)

    monkeypatch.setattr(devices, "import_module", refuse)
    with pytest.raises(DeviceError, match=r"apt install libusb-1.0-0|cascade-wam\[realsense\]"):
        devices.realsense_library()


@given(
    st.lists(st.floats(-0.06, 0.06), min_size=2, max_size=2), st.lists(st.floats(-2e-3, 2e-3), min_size=2, max_size=2)
)
@example([-0.06, -0.06], [-2e-3, 2e-3])  # the hardest corner: no five coefficients do better than 0.093 px there
def test_inverse_distortion_is_turned_round_to_a_tenth_of_a_pixel(radial, tangential):
    import cv2

    inverse = np.array([*radial, *tangential, 0.0])
    focal, half = 600.0, (320 / 600, 240 / 600)
    forward = np.array(forward_coefficients(inverse, half))
    x, y = np.meshgrid(np.linspace(-half[0], half[0], 9), np.linspace(-half[1], half[1], 9))
    x, y = x.ravel(), y.ravel()
    r2 = x * x + y * y
    scale = 1 + inverse[0] * r2 + inverse[1] * r2**2
    ideal = np.stack(
        [
            x * scale + 2 * inverse[2] * x * y + inverse[3] * (r2 + 2 * x * x),
            y * scale + 2 * inverse[3] * x * y + inverse[2] * (r2 + 2 * y * y),
            np.ones_like(x),
        ],
        axis=-1,
    )
    again = cv2.projectPoints(ideal, np.zeros(3), np.zeros(3), np.eye(3), forward)[0][:, 0]
    assert np.abs(again - np.stack([x, y], axis=-1)).max() * focal < 0.1
