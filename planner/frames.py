"""From camera images to plan pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ImageTransform, Observation
from cascade.contracts.errors import DataError

Image = NDArray[np.uint8]
View = Literal["square", "whole"]
"""What of the camera image a plan shows: its centred square, or all of it, squeezed into a square."""


def centre_square(width: int, height: int, size: int) -> ImageTransform:
    """Return the transform whose crop lies on whole pixels."""
    side = min(width, height)
    crop = (float((width - side) // 2), float((height - side) // 2), float(side), float(side))
    return ImageTransform(crop_px=crop, size_px=(size, size))


def plan_transform(width: int, height: int, size: int, view: View) -> ImageTransform:
    """Return how a camera image becomes size x size plan pixels; 'whole' scales width and height differently."""
    if view == "square":
        return centre_square(width, height, size)
    return ImageTransform(crop_px=(0.0, 0.0, float(width), float(height)), size_px=(size, size))


def resize_video(frames: Image, size: int) -> Image:
    """Return the centred square of every frame (T, H, W, 3), scaled to size x size."""
    transform = centre_square(frames.shape[2], frames.shape[1], size)
    return np.stack([transform.apply(frame) for frame in frames])


def sample_frames(frames: Image, count: int) -> Image:
    """Return `count` frames spread evenly from the first to the last; raises DataError on fewer than 2 frames."""
    if len(frames) < 2:
        raise DataError(f"plan video: expected at least 2 frames, found {len(frames)}.", "Give a longer video.")
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(np.int64)]


def first_frame(
    observation: Observation, camera: str, size: int, view: View = "square"
) -> tuple[Image, ImageTransform]:
    """Return the observation's image as plan pixels, and how it became them."""
    rgb = observation.image(camera).rgb
    transform = plan_transform(rgb.shape[1], rgb.shape[0], size, view)
    return transform.apply(rgb), transform
