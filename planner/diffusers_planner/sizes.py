"""From plan pixels to the model's canvas and back; legal sizes and frame counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import ConfigError, DataError
from planner.diffusers_planner.families import Family

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The model's picture with a square view in its middle; what lies around repeats the view's border.

    Attributes:
        size_px: (width, height) the model works at.
        box_px: (u, v, side) of the view inside it.
    """

    size_px: tuple[int, int]
    box_px: tuple[int, int, int]

    @classmethod
    def around(cls, width: int, height: int) -> Canvas:
        """Return the canvas whose view is the largest centred square."""
        side = min(width, height)
        return cls(size_px=(width, height), box_px=((width - side) // 2, (height - side) // 2, side))

    def place(self, view: Image) -> Image:
        """Return the (height, width, 3) picture that shows the square `view` (N, N, 3)."""
        import cv2

        width, height = self.size_px
        u, v, side = self.box_px
        inner = _resize(view, side)
        border = (v, height - v - side, u, width - u - side)
        picture: Any = cv2.copyMakeBorder(inner, *border, cv2.BORDER_REPLICATE)
        return np.asarray(picture, dtype=np.uint8)

    def cut(self, frames: Image, size_px: int) -> Image:
        """Return the view in every frame (T, height, width, 3), scaled to size_px x size_px.

        Frames of another size than the canvas (a pipeline that rounds) are cut in proportion.

        Raises:
            DataError: the frames are of another shape than the canvas.
        """
        height, width = frames.shape[1:3]
        su, sv = width / self.size_px[0], height / self.size_px[1]
        if abs(su / sv - 1) > 0.1:
            raise DataError(
                f"diffusers planner: expected frames shaped like {self.size_px[0]}x{self.size_px[1]}, "
                f"found {width}x{height}."
            )
        u, v, side = self.box_px
        rows = slice(round(v * sv), round((v + side) * sv))
        columns = slice(round(u * su), round((u + side) * su))
        return np.stack([_resize(frame[rows, columns], size_px) for frame in frames])


def _resize(image: Image, size: int) -> Image:
    import cv2

    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    shrinks = size < image.shape[1]
    scaled: Any = cv2.resize(
        np.ascontiguousarray(image), (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return np.asarray(scaled, dtype=np.uint8)


def choose_canvas(family: Family, width: int | None, height: int | None) -> Canvas:
    """Return the size to work at: the one asked for, or the square with the family's native number of pixels.

    Raises:
        ConfigError: a size is not legal for the family.
    """
    step = family.multiple_px
    if width is None and height is None:
        if family.fixed_size:
            return Canvas.around(family.width_px, family.height_px)
        side = max(step, round(math.sqrt(family.width_px * family.height_px) / step) * step)
        return Canvas.around(side, side)
    w, h = width or height or 0, height or width or 0
    for name, value in (("width_px", w), ("height_px", h)):
        if value % step:
            near = max(step, round(value / step) * step)
            raise ConfigError(
                f"{name}: expected a multiple of {step} for {family.name}, found {value}.", f"Use {near}."
            )
    if family.fixed_size and (w, h) != (family.width_px, family.height_px):
        raise ConfigError(
            f"width_px, height_px: {family.name} works at {family.width_px}x{family.height_px} only, found {w}x{h}.",
            "Leave them out.",
        )
    return Canvas.around(w, h)


def choose_frames(family: Family, count: int | None) -> int:
    """Return the number of frames the model makes; raises ConfigError when `count` is not legal for the family."""
    if count is None:
        return family.num_frames
    step = family.frame_step
    if (count - 1) % step or count <= step:
        near = max(1, round((count - 1) / step)) * step + 1
        raise ConfigError(f"num_frames: expected {step}k+1 for {family.name}, found {count}.", f"Use {near}.")
    return count


def as_bytes(video: Any) -> Image:
    """Return (T, H, W, 3) uint8 frames of a video that is 0..1.

    Raises:
        DataError: it has another shape, fewer than 2 frames, or holds NaN.
    """
    frames = np.asarray(video, dtype=np.float32)
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
        raise DataError(
            f"diffusers planner: expected a video (T, H, W, 3) of 2 frames or more, found {frames.shape}.",
            "Raise num_frames, or use a pipeline that makes video.",
        )
    if not np.isfinite(frames).all():
        raise DataError(
            "diffusers planner: expected finite pixels, found NaN in the video.",
            "Use dtype: bfloat16 or float32; float16 overflows in many video models.",
        )
    scaled: Image = (frames * 255).round().clip(0, 255).astype(np.uint8)
    return scaled
