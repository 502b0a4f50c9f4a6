"""`cascade cameras` and what its pictures show."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cascade.cli.app import app, main
from cascade.cli.cameras import compose
from cascade.contracts import CameraImage

CASCADE = [sys.executable, "-c", "from cascade.cli.app import main; main()"]
K = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])


def cascade(*arguments, cwd):
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    environment.pop("DISPLAY", None)
    environment.pop("WAYLAND_DISPLAY", None)
    return subprocess.run([*CASCADE, *arguments], cwd=cwd, capture_output=True, text=True, env=environment, timeout=120)


def test_list_names_every_kind_with_a_camera_or_a_remedy():
    done = CliRunner().invoke(app, ["cameras", "list", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["cameras"]
    assert {"realsense", "opencv", "playback", "synthetic"} <= {row["kind"] for row in rows}
    assert all(row["camera"] or row["remedy"] for row in rows)
    (drawn,) = [row for row in rows if row["kind"] == "synthetic"]
    assert drawn["camera"] == "SYNTHETIC-0"


def test_view_writes_colour_beside_depth_and_tells_the_health(tmp_path):
    done = cascade("cameras", "view", "synthetic", "--seconds", "0.3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "synthetic.png"
    assert "streaming" in done.stderr
    picture = cv2.imread(str(tmp_path / "synthetic.png"))
    assert picture.shape[1] == 640
    assert picture.shape[0] > 240


def test_view_shows_a_camera_of_a_rig(tmp_path):
    done = cascade("cameras", "view", "sim", "--camera", "corner", "--save", "out/sim.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "sim.png").stat().st_size > 5000


def test_what_is_recorded_plays_again(tmp_path):
    line = ["cameras", "record", "synthetic", "--set", "width=64", "--set", "height=48", "--seconds", "2"]
    done = cascade(*line, "-o", "drawn.mp4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "drawn.mp4"
    done = cascade("cameras", "view", "playback", "--set", "path=drawn.mp4", "--seconds", "0.2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "streaming" in done.stderr


def test_a_bad_image_is_shown_and_told(tmp_path):
    from cascade.contracts.video import write_mp4

    write_mp4(tmp_path / "dark.mp4", np.zeros((60, 48, 64, 3), np.uint8), 30.0)
    line = ["cameras", "view", "playback", "--set", "path=dark.mp4", "--seconds", "0.3", "--save", "dark.png"]
    done = cascade(*line, cwd=tmp_path)
    assert done.returncode == 3
    assert "ALARM black" in done.stderr
    assert "the image is black" in done.stderr
    assert (tmp_path / "dark.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["view", "realsense"], ["found none", "USB 3"]),
        (["view", "realsens"], ["realsens"]),
        (["view", "sim", "--camera", "corners"], ["corners", "Did you mean 'corner'"]),
        (["view", "synthetic", "--set", "widht=3"], ["widht", "Did you mean 'width'"]),
        (["view", "playback", "--set", "path=none.db3"], ["none.db3", "Check the path"]),
        (["view", "playback"], ["path", "required"]),
    ],
)
def test_mistakes_are_one_clear_message(tmp_path, arguments, parts, capsys, monkeypatch):
    if arguments[1] == "realsense":
        pytest.importorskip("pyrealsense2", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cascade", "cameras", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr().err
    assert stop.value.code in (2, 3)
    assert "Traceback" not in told
    for part in parts:
        assert part in told


def test_depth_is_red_near_blue_far_and_black_where_there_is_none():
    depth = np.full((48, 64), 0.25, np.float32)
    depth[:, 32:] = 1.9
    depth[:10] = np.nan
    image = CameraImage(rgb=np.zeros((48, 64, 3), np.uint8), K=K, stamp_s=0.0, depth_m=depth)
    picture = compose(image, "health")
    scale = picture.shape[1] // 128
    near, far, none = (picture[row * scale, column * scale] for row, column in ((30, 70), (30, 120), (2, 70)))
    assert int(near[0]) > int(near[2]) + 50
    assert int(far[2]) > int(far[0]) + 30
    assert none.max() == 0
