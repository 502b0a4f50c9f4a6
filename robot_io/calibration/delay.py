"""`cascade calibrate latency`: watch the arm move, find the delay, write it into the camera's calibration file."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Camera, ConfigError, DataError, DeviceError, Rig
from robot_io.calibration.calibrators import as_the_lens_sees
from robot_io.calibration.collect import Say
from robot_io.calibration.config import LatencyConfig
from robot_io.calibration.files import load_calibration, save_calibration
from robot_io.calibration.latency import Latency, MotionWatch, find_latency
from robot_io.calibration.motion import go

RECORD = "latency.npz"
ARM_S = 0.008


class LatencyCalibrator:
    """The delay between the arm's readings and the camera's stamps."""

    needs_camera = True
    needs_arm = True

    def __init__(self, config: LatencyConfig) -> None:
        self._config = config

    @property
    def moves(self) -> bool:
        """Whether the arm moves by itself."""
        return self._config.visit

    def collect(self, device: Camera, rig: Rig | None, folder: Path, say: Say) -> None:
        """Watch the arm and the picture for a while and save both; rig and camera must be closed."""
        config = self._config
        if rig is None:
            raise ConfigError("latency: expected a rig with an arm, found a camera alone.", "Name a rig.")
        watch, over = MotionWatch(), threading.Event()
        with as_the_lens_sees(device, rig):
            info = getattr(device, "info", None)
            serial = device.name if info is None else info.serial
            if config.visit:
                ready = getattr(rig, "ready", None)
                if callable(ready):
                    ready()
            else:
                say(f"Move the hand to and fro in view of the camera for {config.seconds:.0f} s, not to a beat.")
            watcher = threading.Thread(target=_watch, args=(device, rig, watch, over), daemon=True)
            watcher.start()
            try:
                if config.visit:
                    self._to_and_fro(rig)
                else:
                    time.sleep(config.seconds)
            finally:
                over.set()
                watcher.join()
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / RECORD,
            arm_s=watch.arm_s,
            arm_m=np.array(watch.arm_m).reshape(-1, 3),
            image_s=watch.image_s,
            image_motion=watch.image_motion,
            serial=serial,
        )

    def solve(self, folder: Path | None, output: Path) -> Mapping[str, Any]:
        """Find the delay in what was saved, and write it into the calibration file `output`, which must exist."""
        path = (folder or Path()) / RECORD
        if folder is None or not path.is_file():
            raise DataError(f"latency: expected {path}, found none.", "Run it with a rig first.")
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
        times, places = values["arm_s"], values["arm_m"]
        speed = np.linalg.norm(np.diff(places, axis=0), axis=1) / np.diff(times)
        found = find_latency(
            (times[1:] + times[:-1]) / 2,
            speed,
            values["image_s"],
            values["image_motion"],
            longest_s=self._config.longest_s,
            least_correlation=self._config.least_correlation,
        )
        calibration = load_calibration(output, serial=str(values["serial"]))
        save_calibration(output, replace(calibration, latency_s=max(0.0, found.latency_s)))
        picture = output.with_name(output.stem + "-latency.png")
        plot(picture, (times[1:] + times[:-1]) / 2, speed, values["image_s"], values["image_motion"], found)
        return {
            "file": str(output),
            "overlay": str(picture),
            "latency_ms": round(found.latency_s * 1e3, 1),
            "correlation": round(found.correlation, 3),
        }

    def _to_and_fro(self, rig: Rig) -> None:
        """Move sideways by changing amounts, so that no beat arises; ends where it began."""
        start = np.array(rig.arm.read().T_base_ee, dtype=np.float64)
        end_s, n = time.monotonic() + self._config.seconds, 0
        while time.monotonic() < end_s:
            place = start.copy()
            place[1, 3] += self._config.visit_shift_m * np.sin(2.4 * n) * (0.5 + 0.5 * np.cos(1.3 * n))
            go(rig, place, self._config.speed_m_s, settle_s=0.15 + 0.1 * (n % 3))
            n += 1
        go(rig, start, self._config.speed_m_s)
        rig.arm.stop()


def plot(
    path: Path,
    arm_s: NDArray[np.float64],
    speed: NDArray[np.float64],
    image_s: NDArray[np.float64],
    motion: NDArray[np.float64],
    found: Latency,
) -> None:
    """Draw the arm's speed and the picture's motion over time, as measured above and with the delay taken off below."""
    import cv2

    width, height = 1200, 200
    sheet = np.full((2 * height, width, 3), 24, np.uint8)
    first, span = float(arm_s[0]), float(arm_s[-1] - arm_s[0])
    for row, shift in ((0, 0.0), (1, found.latency_s)):
        for times, values, colour in ((arm_s, speed, (90, 200, 90)), (image_s - shift, motion, (240, 160, 60))):
            x = (np.asarray(times) - first) / span * (width - 1)
            y = height * (row + 0.95) - 0.85 * height * np.asarray(values) / max(float(np.max(values)), 1e-12)
            line = np.stack([x, y], axis=-1).round().astype(np.int32)
            cv2.polylines(sheet, [line.reshape(-1, 1, 2)], False, colour, 1, cv2.LINE_AA)
        words = (
            "green: speed of the arm; orange: motion in the picture"
            if row == 0
            else (f"with {found.latency_s * 1e3:.0f} ms taken off (agreement {found.correlation:.2f})")
        )
        cv2.putText(
            sheet, words, (8, row * height + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA
        )
    if not cv2.imwrite(str(path), sheet[..., ::-1]):
        raise DataError(f"{path}: cannot be written.", "Choose another place.")


def _watch(device: Camera, rig: Rig, watch: MotionWatch, over: threading.Event) -> None:
    """Read arm and camera until told to stop; what cannot be read now is read a little later."""
    while not over.wait(ARM_S):
        try:
            state = rig.arm.read()
            watch.feel(state.position_m, state.stamp_s)
            image = device.read(max_age_s=0.5)
            watch.see(image.rgb, image.stamp_s)
        except DeviceError:
            continue
