"""What a kind of camera must offer inside the camera process: open, read, close.

A source lives in a process of its own and is called by one thread. It copies pixels out of the vendor's buffers at
capture, never reconnects by itself, and never waits longer than it is told. Everything around it (shared memory,
supervision, re-opening, health, calibration) is `robot_io.cameras.process`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DeviceError

Floats = NDArray[np.float64]


class EndOfRecordingError(DeviceError):
    """A recording has no further image; playback never starts again by itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceInfo:
    """What is known of a camera once it is open.

    Attributes:
        kind: name of the plug-in, such as 'realsense'.
        serial: names this very device; a re-opened camera must show the same one.
        model: for people.
        width, height: of the images [px].
        fps: images per second as configured at the device.
        K: (3, 3) intrinsics [px], pixel centres at (i + 0.5); distortion: OpenCV coefficients, or empty.
        nominal: True when K is only a guess from the field of view, because nobody calibrated the camera.
        has_depth: whether frames carry depth aligned to colour.
        clock: name of the device's clock, such as 'global_time'.
        live: False for recordings, whose images count as taken when they are played.
    """

    kind: str
    serial: str
    model: str
    width: int
    height: int
    fps: float
    K: Floats
    distortion: tuple[float, ...] = ()
    nominal: bool = False
    has_depth: bool = False
    clock: str = "monotonic"
    live: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceFrame:
    """One image as the device gave it.

    Attributes:
        rgb: (H, W, 3) uint8, a copy.
        depth_m: (H, W) float32 aligned to colour, NaN where there is no return, or None.
        t_dev_s: time of exposure on the device's clock [s]; depth_t_dev_s: that of the depth image.
        t_host_s: monotonic time of arrival [s].
        number: the device's own frame counter.
        clock: name of the clock `t_dev_s` is on.
        K: (3, 3) intrinsics of this very image, or None when they are those of `SourceInfo`.
    """

    rgb: NDArray[np.uint8]
    t_dev_s: float
    t_host_s: float
    number: int
    depth_m: NDArray[np.float32] | None = None
    depth_t_dev_s: float | None = None
    clock: str = "monotonic"
    K: Floats | None = None


@runtime_checkable
class FrameSource(Protocol):
    """A kind of camera. Constructors do no I/O."""

    def open(self, *, serial: str | None = None) -> SourceInfo:
        """Open the device, or the one with this serial and no other.

        Raises:
            DeviceError: no device, another serial, a missing library; at once, with the remedy.
            DataError: a recording that is missing, cut off or of the wrong kind.
        """
        ...

    def read(self, timeout_s: float) -> SourceFrame | None:
        """Return the next image, or None when none came within `timeout_s`.

        Raises:
            DeviceError: the device is gone.
            EndOfRecordingError: the recording is over.
        """
        ...

    def close(self) -> None:
        """Let go of the device; never raises. It may hang: the process is killed then."""
        ...


SourceFactory = Callable[[Any], FrameSource]
"""Makes a source from the validated options of its plug-in; a module-level function or class, so that it pickles."""


def pinhole(width: int, height: int, hfov_deg: float) -> Floats:
    """Return the (3, 3) intrinsics of an ideal camera with this horizontal field of view; the centre is W/2, H/2."""
    f = width / (2 * np.tan(np.radians(hfov_deg) / 2))
    return np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]], dtype=np.float64)
