"""A drawn camera that can be unplugged, blinded, frozen and hung, to practise what happens then."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import Field

from cascade.contracts import DeviceError
from robot_io.cameras.config import SyntheticConfig
from robot_io.cameras.process import CameraProcess
from robot_io.cameras.source import SourceFrame, SourceInfo
from robot_io.cameras.synthetic import SyntheticSource

FOREVER_S = 3600.0


class LoopbackCameraConfig(SyntheticConfig):
    """Options of the loopback camera: those of the drawn one, and where its knobs are."""

    control: Path = Field(description="File that `LoopbackCamera` writes its knobs to.")


class LoopbackCamera:
    """The knobs of a loopback camera; `camera()` makes the camera that obeys them.

    Args:
        folder: an existing folder for the file that carries the knobs to the camera's process.
        options: of `LoopbackCameraConfig`.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self.config = LoopbackCameraConfig(control=folder / "camera.json", **options)
        self._knobs: dict[str, Any] = {}
        self._write()

    def camera(self) -> CameraProcess:
        """Return a supervised camera on this device, still closed."""
        return CameraProcess(LoopbackSource, self.config)

    def unplug(self) -> None:
        """Send no more images; opening finds no camera."""
        self._set(unplugged=True)

    def plug(self, serial: str | None = None) -> None:
        """Plug the camera in again, or another one with this serial."""
        self._set(unplugged=False, serial=serial)

    def hang(self, *, on_close: bool = False) -> None:
        """Let the next call of the vendor's library never return: a read, or also `close`."""
        self._set(hang=True, hang_on_close=on_close)

    def crash(self) -> None:
        """End the camera's process at once, as a vendor's library does that fails badly."""
        self._set(crash=True)

    def black(self) -> None:
        """Put the cap on."""
        self._set(black=True)

    def freeze(self) -> None:
        """Send the same pixels again and again, with new numbers and stamps."""
        self._set(freeze=True)

    def blind(self) -> None:
        """Measure no depth."""
        self._set(blind=True)

    def duplicate(self) -> None:
        """Send the same image again and again, number and stamp included."""
        self._set(duplicate=True)

    def skew(self, seconds: float) -> None:
        """Take depth this much later than colour."""
        self._set(skew_s=seconds)

    def change_clock(self) -> None:
        """Stamp images by another clock."""
        self._set(clock="system_time")

    def change_intrinsics(self) -> None:
        """Send images of another focal length."""
        self._set(zoom=1.2)

    def mend(self) -> None:
        """Take all faults back."""
        self._knobs = {}
        self._write()

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take all faults back."""
        self.mend()

    def _set(self, **knobs: Any) -> None:
        self._knobs |= knobs
        self._write()

    def _write(self) -> None:
        part = self.config.control.with_suffix(".part")
        part.write_text(json.dumps(self._knobs))
        part.replace(self.config.control)


class LoopbackSource:
    """The device end, in the camera's process."""

    def __init__(self, config: LoopbackCameraConfig) -> None:
        self._config, self._drawn = config, SyntheticSource(config)
        self._info: SourceInfo | None = None
        self._kept: SourceFrame | None = None

    def open(self, *, serial: str | None = None) -> SourceInfo:
        """Open the device; see `FrameSource`."""
        knobs = self._knobs()
        found = knobs.get("serial") or self._config.serial
        if knobs.get("unplugged"):
            raise DeviceError(f"camera {self._config.name!r}: expected a camera, found none.", "Plug it in.")
        if serial is not None and serial != found:
            raise DeviceError(f"camera {self._config.name!r}: expected serial {serial}, found {found}.", "Swap back.")
        self._info = replace(self._drawn.open(), kind="loopback", serial=found, clock="global_time")
        return self._info

    def read(self, timeout_s: float) -> SourceFrame | None:
        """Return the next image, spoiled as the knobs say."""
        knobs = self._knobs()
        if knobs.get("hang"):
            time.sleep(FOREVER_S)
        if knobs.get("crash"):
            os._exit(139)
        if knobs.get("unplugged"):
            time.sleep(timeout_s)
            return None
        frame = self._drawn.read(timeout_s)
        return None if frame is None else self._spoiled(frame, knobs)

    def close(self) -> None:
        """Let go of the device, or hang."""
        if self._knobs().get("hang_on_close"):
            time.sleep(FOREVER_S)

    def _spoiled(self, frame: SourceFrame, knobs: dict[str, Any]) -> SourceFrame:
        kept = self._kept if self._kept is not None else frame
        if knobs.get("duplicate"):
            return replace(kept, t_host_s=frame.t_host_s)
        frame = replace(frame, clock=knobs.get("clock", "global_time"))
        if knobs.get("freeze"):
            return replace(frame, rgb=kept.rgb)
        self._kept = frame
        if knobs.get("black"):
            frame = replace(frame, rgb=np.zeros_like(frame.rgb))
        if knobs.get("blind") and frame.depth_m is not None:
            frame = replace(frame, depth_m=np.full_like(frame.depth_m, np.nan))
        if knobs.get("skew_s"):
            frame = replace(frame, depth_t_dev_s=frame.t_dev_s + float(knobs["skew_s"]))
        if knobs.get("zoom") and self._info is not None:
            K = np.array(self._info.K)
            K[0, 0], K[1, 1] = K[0, 0] * knobs["zoom"], K[1, 1] * knobs["zoom"]
            frame = replace(frame, K=K)
        return frame

    def _knobs(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self._config.control.read_text())
        return loaded
