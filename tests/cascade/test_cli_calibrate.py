"""`cascade calibrate` as a person meets it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade.cli import calibrate
from cascade.cli.app import app
from cascade.contracts import ConfigError, DataError, OperatorStop
from cascade.contracts.hardware import Hardware


def run(*arguments):
    done = CliRunner().invoke(app, ["calibrate", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_the_board_is_written_and_described_as_json(tmp_path):
    done = run("board", "-o", str(tmp_path / "b.png"), "--set", "columns=6", "--json")
    told = json.loads(done.stdout)
    assert (told["columns"], told["file"]) == (6, str(tmp_path / "b.png"))
    assert (tmp_path / "b.png").stat().st_size > 10_000


def test_a_lens_is_calibrated_from_photos_and_the_camera_uses_the_file(tmp_path):
    import cv2

    from cascade.plugins import build_plugin

    run("board", "-o", str(tmp_path / "b.png"), "--set", "dpi=150")
    page = cv2.imread(str(tmp_path / "b.png"))
    dots = 150 / 0.0254
    K = np.array([[330.0, 0, 159.5], [0, 330, 119.5], [0, 0, 1]])  # pixel centres at whole numbers
    rng = np.random.default_rng(1)
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(10):
        R = cv2.Rodrigues(rng.uniform(-0.5, 0.5, 3))[0]
        middle = np.array([page.shape[1] / 2, page.shape[0] / 2.4, 0]) / dots
        spot = np.array([(n % 3 - 1) * 0.05, (n // 3 % 2 - 0.5) * 0.06, rng.uniform(0.36, 0.45)])
        to_page = np.diag([1 / dots, 1 / dots, 1])
        through = K @ np.column_stack([R[:, 0], R[:, 1], spot - R @ middle]) @ to_page
        picture = cv2.warpPerspective(page, through, (320, 240), flags=cv2.INTER_AREA, borderValue=(110, 110, 110))
        cv2.imwrite(str(folder / f"{n}.png"), picture)
    output = tmp_path / "front.yaml"
    done = run("camera", "--views", str(folder), "--set", "serial=SYNTHETIC-0", "-o", str(output), "--json")
    told = json.loads(done.stdout)
    assert told["K"][0][0] == pytest.approx(330, rel=0.03)
    assert (tmp_path / "front-overlay.png").is_file()
    device = build_plugin("camera", "synthetic", {"calibration": str(output), "hfov_deg": 51.7})  # 330 px
    with device:
        assert device.read(max_age_s=2.0).K[0, 0] == pytest.approx(told["K"][0][0], abs=0.01)
        assert not device.health().nominal


@pytest.mark.parametrize("kind", ["camera", "hand-eye", "latency"])
def test_a_rig_or_views_must_be_named_and_not_both(kind, tmp_path):
    with pytest.raises(ConfigError, match="found neither"):
        run(kind)
    with pytest.raises(ConfigError, match="found both"):
        run(kind, "sim", "--views", str(tmp_path))


def test_mistakes_are_told(tmp_path):
    with pytest.raises(DataError, match="expected a folder of views"):
        run("hand-eye", "--views", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="Did you mean 'square_m'"):
        run("board", "--set", "squares_m=0.1")
    with pytest.raises(ConfigError, match="expected a rig with an arm"):
        run("hand-eye", "synthetic", "-o", str(tmp_path / "a.yaml"))


class Machine:
    """What the consent wants to know of a rig."""

    def __init__(self, hardware):
        self.hardware, self.permitted = hardware, False

    def permit_motion(self):
        self.permitted = True

    def ready(self):
        pass

    def missing(self, signal):
        return ""


@pytest.mark.parametrize(("typed", "agreed"), [("move", True), ("yes", False), ("", False)])
def test_a_real_arm_moves_only_after_the_word(monkeypatch, typed, agreed):
    monkeypatch.setattr(calibrate.typer, "prompt", lambda *_, **__: typed)
    machine = Machine(Hardware(arm="ur5e", address="10.0.0.2"))
    if agreed:
        calibrate._consent(machine, "hand-eye")
    else:
        with pytest.raises(OperatorStop, match="nothing has moved"):
            calibrate._consent(machine, "hand-eye")
    assert machine.permitted is agreed


def test_a_loopback_arm_needs_no_word(monkeypatch):
    monkeypatch.setattr(calibrate.typer, "prompt", lambda *_, **__: pytest.fail("asked"))
    calibrate._consent(Machine(None), "hand-eye")


def test_views_are_never_mixed_with_earlier_ones(tmp_path):
    first = calibrate._fresh(tmp_path / "front-camera")
    first.mkdir()
    assert calibrate._fresh(tmp_path / "front-camera").name == "front-camera-2"
