"""Conformance of cameras: what rigs and stages rely on, tried on the camera or on a recording."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from cascade.contracts.errors import CascadeError, StaleImageError
from cascade.contracts.interfaces import Camera
from cascade.contracts.observation import CameraImage
from cascade.testing.requirement import require, require_cascade_error, require_members

MOST_S = 5.0
KEPT = 60


def check_camera(factory: Callable[[], Camera], *, images: int = 20) -> CameraImage:
    """Check that a camera keeps the contract; returns its last image.

    Args:
        factory: makes a camera that is not open; called twice.
        images: how many different images to wait for.

    Raises:
        PluginError: what the contract wants, what was found, what to change.
        DeviceError: the camera cannot be opened.
    """
    camera = factory()
    require_members(camera, ("name", "read", "__enter__", "__exit__"), "Camera")
    require(bool(str(camera.name).strip()), "name: expected the name of the view, found nothing.")
    require_cascade_error("read() before the camera is open", camera.read)
    with camera:
        last = _check_stream(camera, images)
        _check_age(camera)
        _check_copies(camera, last)
    require_cascade_error("read() after the camera was closed", camera.read)
    with factory() as again:
        _check_image(again, _next(again, -np.inf))
    return last


def _check_stream(camera: Camera, count: int) -> CameraImage:
    first = image = _next(camera, -np.inf)
    for _ in range(count):
        following = _next(camera, image.stamp_s)
        _check_image(camera, following)
        require(following.rgb.shape == first.rgb.shape, "read(): expected images of one size.")
        require(bool(np.allclose(following.K, first.K)), "read(): expected the same intrinsics in every image.")
        had, has = first.depth_m is not None, following.depth_m is not None
        require(had == has, "read(): expected depth in every image or in none.")
        image = following
    return image


def _check_age(camera: Camera) -> None:
    time.sleep(0.002)
    try:
        image = camera.read(max_age_s=1e-6)
    except StaleImageError:
        return
    fresh = time.monotonic() - image.stamp_s < 0.05  # a camera that draws on demand is never stale
    require(fresh, "read(max_age_s): expected StaleImageError for an image older than asked, found the image.")


def _check_copies(camera: Camera, last: CameraImage) -> None:
    """Images that are kept neither change nor stop the stream."""
    before = last.rgb.copy()
    kept = [last]
    deadline = time.monotonic() + MOST_S
    while len(kept) < KEPT and time.monotonic() < deadline:
        kept.append(_next(camera, kept[-1].stamp_s))
    require(len(kept) > 2, "read(): expected new images while old ones are kept, found none.")
    same = bool(np.array_equal(before, last.rgb))
    require(same, "read(): expected an image to stay as it was, found it overwritten.", "Return a copy.")


def _next(camera: Camera, after_s: float) -> CameraImage:
    deadline = time.monotonic() + MOST_S
    while time.monotonic() < deadline:
        try:
            image = camera.read(max_age_s=1.0)
        except StaleImageError:
            image = None
        except CascadeError:
            raise
        except Exception as error:
            require(False, f"read(): expected a CameraImage or CascadeError, found {type(error).__name__}: {error}.")
            raise
        if image is not None and image.stamp_s > after_s:
            return image
        time.sleep(0.003)
    require(False, f"read(): expected a new image within {MOST_S:.0f} s, found none.", "Stamp every exposure anew.")
    raise AssertionError("unreachable")


def _check_image(camera: Camera, image: CameraImage) -> None:
    require(isinstance(image, CameraImage), f"read(): expected CameraImage, found {type(image).__name__}.")
    age = time.monotonic() - image.stamp_s
    require(
        -0.01 < age < 10.0,
        f"stamp_s: expected time.monotonic() at exposure, found one {age:.2f} s ago.",
        "Convert the camera's clock to monotonic time.",
    )
    height, width = image.rgb.shape[:2]
    inside = 0 < image.K[0, 2] < width and 0 < image.K[1, 2] < height and min(image.K[0, 0], image.K[1, 1]) > 0
    require(bool(inside), f"K: expected the principal point inside the image, found {image.K.tolist()}.")
    if image.depth_m is not None:
        seen = image.depth_m[np.isfinite(image.depth_m)]
        right = seen.size == 0 or (float(seen.min()) > 0 and float(np.median(seen)) < 50)
        require(
            right, "depth_m: expected positive depth in metres, NaN where there is none.", "Not millimetres, not 0."
        )
