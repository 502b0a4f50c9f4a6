"""The ChArUco board: what is printed, where its corners are, and finding them in an image."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import ConfigError, DataError
from robot_io.calibration.config import BoardConfig

Floats = NDArray[np.float64]
PAPERS_M = {"a4": (0.297, 0.210), "a3": (0.420, 0.297), "letter": (0.2794, 0.2159)}
LEAST_CORNERS = 8
RULER_M = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detection:
    """The board as seen in one image.

    Attributes:
        points_m: (N, 3) corners in the board's frame (x along the columns, y along the rows, z = 0).
        pixels: (N, 2) where they are seen [px], pixel centres at whole numbers, as OpenCV counts.
    """

    points_m: Floats
    pixels: Floats


def find_board(rgb: NDArray[np.uint8], config: BoardConfig) -> Detection | None:
    """Return the corners of the board in an image, or None when fewer than `LEAST_CORNERS` are seen."""
    import cv2

    board, detector = _made(config)
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    corners, ids = detector.detectBoard(grey)[:2]
    if corners is None or ids is None or len(ids) < LEAST_CORNERS:
        return None
    points = np.asarray(board.getChessboardCorners(), dtype=np.float64)[np.asarray(ids).ravel()]
    if len(np.unique(points[:, 0])) < 2 or len(np.unique(points[:, 1])) < 2:
        return None  # all on one line: nothing can be told from them
    return Detection(points_m=points, pixels=np.asarray(corners, dtype=np.float64).reshape(-1, 2))


def board_image(config: BoardConfig, pixels_per_square: int) -> NDArray[np.uint8]:
    """Return the board alone, without margin, (rows * n, columns * n) uint8."""
    import cv2

    board, _ = _made(config)
    n, scale = pixels_per_square, pixels_per_square / config.square_m
    image = np.zeros((config.rows * n, config.columns * n), dtype=np.uint8)
    # OpenCV's own generateImage fails for sizes where a marker is not a whole number of pixels.
    for marker, corners in zip(np.asarray(board.getIds()).ravel(), board.getObjPoints(), strict=True):
        middle = np.asarray(corners).mean(axis=0) * scale
        column, row = int(middle[0] // n), int(middle[1] // n)
        image[row * n : (row + 1) * n, column * n : (column + 1) * n] = 255
        side = round(config.marker_m * scale)
        top, left = row * n + (n - side) // 2, column * n + (n - side) // 2
        drawn = cv2.aruco.generateImageMarker(board.getDictionary(), int(marker), side)
        image[top : top + side, left : left + side] = drawn
    return image


def print_board(path: Path, config: BoardConfig) -> Path:
    """Write the board as a PNG that prints at its true size, with a ruler to check that it did.

    Raises:
        ConfigError: it does not fit on the paper.
        DataError: the file cannot be written.
    """
    import cv2

    dots = config.dpi / 0.0254
    width, height = (round(side * dots) for side in PAPERS_M[config.paper])
    n = round(config.square_m * dots)
    board = board_image(config, n)
    if board.shape[1] + 0.01 * dots > width or board.shape[0] + 0.03 * dots > height:
        raise ConfigError(
            f"board: {config.columns} x {config.rows} squares of {config.square_m * 1e3:g} mm do not fit on "
            f"{config.paper}.",
            "Make the squares smaller or fewer, or take larger paper.",
        )
    page = np.full((height, width), 255, dtype=np.uint8)
    top, left = round(0.008 * dots), (width - board.shape[1]) // 2
    page[top : top + board.shape[0], left : left + board.shape[1]] = board
    base = top + board.shape[0] + round(0.008 * dots)
    length = round(RULER_M * dots)
    page[base : base + 6, left : left + length] = 0
    for end in (left, left + length - 6):
        page[base - 12 : base + 18, end : end + 6] = 0
    words = (
        f"This line must be {RULER_M * 1e3:.0f} mm long. ChArUco {config.columns} x {config.rows}, squares "
        f"{config.square_m * 1e3:g} mm, markers {config.marker_m * 1e3:g} mm, {config.dictionary}. Print at 100 %."
    )
    at = (left, base + round(0.007 * dots))
    cv2.putText(page, words, at, cv2.FONT_HERSHEY_SIMPLEX, config.dpi / 300, 0, 2, cv2.LINE_AA)
    coded, data = cv2.imencode(".png", page)
    if not coded:
        raise DataError(f"{path}: the board cannot be drawn.", "Choose another size.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_with_resolution(data.tobytes(), dots))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}).", "Choose another place.") from error
    return path


@lru_cache(maxsize=8)
def _made(config: BoardConfig) -> tuple[Any, Any]:
    import cv2

    names = {"4x4": cv2.aruco.DICT_4X4_250, "5x5": cv2.aruco.DICT_5X5_250, "6x6": cv2.aruco.DICT_6X6_250}
    dictionary = cv2.aruco.getPredefinedDictionary(names[config.dictionary])
    board = cv2.aruco.CharucoBoard((config.columns, config.rows), config.square_m, config.marker_m, dictionary)
    return board, cv2.aruco.CharucoDetector(board)


def _with_resolution(png: bytes, dots_per_m: float) -> bytes:
    """Insert the size of a pixel into a PNG (chunk pHYs, https://www.w3.org/TR/png-3/#11pHYs), after its header."""
    content = b"pHYs" + struct.pack(">IIB", round(dots_per_m), round(dots_per_m), 1)
    chunk = struct.pack(">I", 9) + content + struct.pack(">I", zlib.crc32(content))
    header = 8 + 25  # signature, IHDR
    return png[:header] + chunk + png[header:]
