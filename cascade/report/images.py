"""Frames for the page: WebP sheets inside data URIs.

Sheets and not videos, because seeking in a `<video>` answers late and, in some browsers, one frame off; a sheet drawn
to a canvas shows exactly the frame that was asked for, at once, and lets the page compute the difference itself.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError, ImageTransform

Frames = NDArray[np.uint8]
COLUMNS = 8
ROWS = 8
LARGEST_SIDE = 320


@dataclass(frozen=True, slots=True)
class Sheets:
    """T frames of one size in sheets of COLUMNS x ROWS, each a data URI."""

    width: int
    height: int
    count: int
    sources: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes these sheets take in the page."""
        return sum(len(source) for source in self.sources)

    def as_json(self) -> dict[str, Any]:
        """Return what the page's script needs."""
        return {
            "width": self.width,
            "height": self.height,
            "count": self.count,
            "columns": COLUMNS,
            "rows": ROWS,
            "sources": list(self.sources),
        }


def encode_sheets(frames: Frames, *, quality: int) -> Sheets:
    """Return (T, H, W, 3) uint8 RGB frames as WebP sheets; T may be 0.

    Args:
        frames: the frames.
        quality: 1..100, WebP's lossy quality.
    """
    count, height, width = frames.shape[:3]
    sources = []
    for first in range(0, count, COLUMNS * ROWS):
        part = frames[first : first + COLUMNS * ROWS]
        rows = -(-len(part) // COLUMNS)
        sheet = np.zeros((rows * height, min(len(part), COLUMNS) * width, 3), dtype=np.uint8)
        for index, frame in enumerate(part):
            v, u = index // COLUMNS * height, index % COLUMNS * width
            sheet[v : v + height, u : u + width] = frame
        sources.append(data_uri(sheet, quality=quality))
    return Sheets(width, height, count, tuple(sources))


def data_uri(image: Frames, *, quality: int) -> str:
    """Return one (H, W, 3) uint8 RGB image as a WebP data URI."""
    import cv2

    done, data = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise DataError("report: expected OpenCV to write WebP, found that it cannot.", "Reinstall opencv-python.")
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def fit(frames: Frames, *, largest: int = LARGEST_SIDE) -> Frames:
    """Return frames no larger than `largest` pixels on a side, aspect kept."""
    height, width = frames.shape[1:3]
    scale = largest / max(height, width)
    return frames if scale >= 1 else _resize(frames, max(2, round(width * scale)), max(2, round(height * scale)))


def as_plan_sees(frames: Frames, transform: ImageTransform) -> Frames:
    """Return camera frames cropped and scaled as plan frames are, so that the two can be subtracted.

    A video that has already the plan's form (same aspect, smaller than the crop) is only scaled.
    """
    width, height = transform.size_px
    u, v, w, h = (round(value) for value in transform.crop_px)
    if frames.shape[2] >= u + w and frames.shape[1] >= v + h and w > 1 and h > 1:
        frames = frames[:, v : v + h, u : u + w]
    return frames if frames.shape[1:3] == (height, width) else _resize(frames, width, height)


def _resize(frames: Frames, width: int, height: int) -> Frames:
    import cv2

    shrink = width < frames.shape[2]
    how = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return np.stack([cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=how) for frame in frames])
