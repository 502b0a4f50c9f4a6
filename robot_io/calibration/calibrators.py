"""The calibrations as `cascade calibrate` runs them: collect into a folder, then solve from that folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import Camera, ConfigError, DataError, Rig
from robot_io.calibration.board import print_board
from robot_io.calibration.collect import Looker, Say, carried, hand_held, hand_of, view_set
from robot_io.calibration.config import BoardConfig, HandEyeConfig, IntrinsicsConfig
from robot_io.calibration.files import (
    CalibrationError,
    CameraCalibration,
    check_size,
    load_calibration,
    save_calibration,
)
from robot_io.calibration.hand_eye import LEAST_VIEWS, solve_hand_eye
from robot_io.calibration.intrinsics import LEAST_VIEWS as LEAST_LENS_VIEWS
from robot_io.calibration.intrinsics import estimate, judge, locate
from robot_io.calibration.motion import places_around
from robot_io.calibration.overlay import draw_overlay
from robot_io.calibration.views import ViewSet, load_views, poses, save_views, seen


class BoardPrinter:
    """Prints the board."""

    needs_camera = False
    needs_arm = False
    moves = False

    def __init__(self, config: BoardConfig) -> None:
        self._config = config

    def solve(self, folder: Path | None, output: Path) -> Mapping[str, Any]:
        """Write the board as PNG; see `board.print_board`."""
        path = print_board(output.with_suffix(".png"), self._config)
        return {"file": str(path), **self._config.model_dump()}


class LensCalibrator:
    """Intrinsics of a camera."""

    needs_camera = True
    needs_arm = False
    moves = False

    def __init__(self, config: IntrinsicsConfig) -> None:
        self._config = config

    def collect(self, device: Camera, rig: Rig | None, folder: Path, say: Say) -> None:
        """Take views while a person moves the board, and save them; the camera must be closed."""
        with as_the_lens_sees(device):
            say("Tilt the board by 20 to 40 degrees, and bring it near every edge and corner of the picture.")
            taken = hand_held(Looker(device, self._config.board), self._config.views, say, least=LEAST_LENS_VIEWS)
            save_views(folder, view_set(device, taken, ""))

    def solve(self, folder: Path | None, output: Path) -> Mapping[str, Any]:
        """Estimate (or check) the intrinsics from a folder of views, and write file and overlay."""
        config = self._config
        views = load_views(_given(folder), serial=config.serial)
        used, detections = seen(views, config.board, LEAST_LENS_VIEWS)
        if config.check and views.K is None:
            raise DataError("camera: expected intrinsics to check, the camera knows none.", "Leave `check` out.")
        if config.check and views.K is not None:
            lens = judge(detections, views.K, views.distortion)
        else:
            lens = estimate(detections, views.size_px)
        overlay = draw_overlay(
            _overlay(output),
            [view.rgb for view in used],
            detections,
            [locate(each, lens.K, lens.distortion) for each in detections],
            lens.K,
            lens.distortion,
            title=f"lens: {lens.residual_px:.2f} px over {len(used)} views; worst first",
        )
        if lens.residual_px > config.max_residual_px:
            raise DataError(
                f"camera: expected a residual of {config.max_residual_px:g} px at most, found {lens.residual_px:.2f}.",
                f"Look at {overlay}: take blurred views away, and measure the printed squares.",
            )
        save_calibration(
            output,
            CameraCalibration(
                serial=_serial(views),
                date=datetime.now(UTC),
                image_size_px=views.size_px,
                K=lens.K,
                distortion=lens.distortion,
                residual_px=lens.residual_px,
            ),
        )
        return {
            "file": str(output),
            "overlay": str(overlay),
            "views": len(used),
            "residual_px": round(lens.residual_px, 3),
            "K": lens.K.round(2).tolist(),
        }


class HandEyeCalibrator:
    """Where a camera is, beside the arm or on its hand."""

    needs_camera = True
    needs_arm = True

    def __init__(self, config: HandEyeConfig) -> None:
        self._config = config

    @property
    def moves(self) -> bool:
        """Whether the arm moves by itself."""
        return self._config.visit

    def collect(self, device: Camera, rig: Rig | None, folder: Path, say: Say) -> None:
        """Take views with the hand's pose, and save them; rig and camera must be closed."""
        config = self._config
        if rig is None:
            raise ConfigError("hand-eye: expected a rig with an arm, found a camera alone.", "Name a rig.")
        with as_the_lens_sees(device, rig):
            looker, hand = Looker(device, config.board), hand_of(rig)
            if config.visit:
                _make_ready(rig)
                places = places_around(hand(), 2 * config.views, config.visit_tilt_deg, config.visit_shift_m)
                taken = carried(looker, rig, places, config.views, say, speed_m_s=config.speed_m_s)
            else:
                say("Move the hand by its free-drive or pendant; tilt it in several directions by 20 degrees or more.")
                taken = hand_held(looker, config.views, say, hand=hand, least=LEAST_VIEWS)
            save_views(folder, view_set(device, taken, rig.arm.spec.name))

    def solve(self, folder: Path | None, output: Path) -> Mapping[str, Any]:
        """Find the camera from a folder of views, and write file and overlay."""
        config = self._config
        views = load_views(_given(folder), serial=config.serial)
        known = self._lens(views, output)
        used, detections = seen(views, config.board, LEAST_VIEWS)
        hands = poses(used)
        found = solve_hand_eye(detections, hands, known.K, known.distortion, config.mount)
        in_hand = config.mount == "eye-in-hand"
        cameras = [np.linalg.inv((T if in_hand else np.linalg.inv(T)) @ found.X) @ found.Z for T in hands]
        angle_deg = float(np.degrees(found.residual_rad))
        words = f"{found.residual_m * 1e3:.1f} mm, {angle_deg:.2f} deg, {found.residual_px:.2f} px"
        overlay = draw_overlay(
            _overlay(output),
            [view.rgb for view in used],
            detections,
            cameras,
            known.K,
            known.distortion,
            title=f"{config.mount}: {words} over {len(used)} views; worst first",
        )
        if found.residual_m > config.max_residual_m or angle_deg > config.max_residual_deg:
            raise DataError(
                f"hand-eye: expected at most {config.max_residual_m * 1e3:g} mm and {config.max_residual_deg:g} deg, "
                f"found {words}.",
                f"Look at {overlay}: is the board fixed, its squares measured, `mount` right, the hand still in every "
                "view?",
            )
        written = replace(
            known,
            date=datetime.now(UTC),
            arm=views.arm,
            residual_m=found.residual_m,
            residual_rad=found.residual_rad,
            T_base_cam=None if in_hand else found.X,
            T_ee_cam=found.X if in_hand else None,
        )
        save_calibration(output, written)
        return {
            "file": str(output),
            "overlay": str(overlay),
            "mount": config.mount,
            "views": len(used),
            "residual_mm": round(found.residual_m * 1e3, 2),
            "residual_deg": round(angle_deg, 3),
            "residual_px": round(found.residual_px, 3),
            "T_ee_cam" if in_hand else "T_base_cam": found.X.round(5).tolist(),
        }

    def _lens(self, views: ViewSet, output: Path) -> CameraCalibration:
        """Return the intrinsics: of the file given, of the file to be replaced, or the camera's own."""
        path = self._config.intrinsics or (output if output.is_file() else None)
        if path is not None:
            known = load_calibration(path, serial=views.serial or None)
            check_size(known, path, views.size_px)
            return known
        if views.K is None:
            raise CalibrationError(
                "hand-eye: expected known intrinsics, this camera's are only guessed.",
                "Run: cascade calibrate camera, with the same --output.",
            )
        return CameraCalibration(
            serial=_serial(views),
            date=datetime.now(UTC),
            image_size_px=views.size_px,
            K=views.K,
            distortion=views.distortion,
        )


def as_the_lens_sees(device: Camera, rig: Rig | None = None) -> ExitStack:
    """Open a camera, or the rig it belongs to, so that it gives images without calibration and with distortion."""
    plain = getattr(device, "for_calibration", None)
    if callable(plain):
        plain()
    stack = ExitStack()
    stack.enter_context(device if rig is None else rig)
    return stack


def _make_ready(rig: Rig) -> None:
    ready = getattr(rig, "ready", None)
    if callable(ready):
        ready()


def _given(folder: Path | None) -> Path:
    if folder is None:
        raise DataError("calibrate: expected views, found none.", "Name a rig, or a folder with --views.")
    return folder


def _overlay(output: Path) -> Path:
    return output.with_name(output.stem + "-overlay.png")


def _serial(views: ViewSet) -> str:
    if not views.serial:
        raise DataError(
            "views: expected the serial of the camera, the folder does not tell.", "Add --set serial=NUMBER."
        )
    return views.serial
