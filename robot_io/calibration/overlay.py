"""A picture that shows whether a calibration is right: corners as seen and as predicted, on the views themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from robot_io.calibration.board import Detection
from robot_io.calibration.intrinsics import project

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]
SHOWN = 6
SEEN, PREDICTED, TEXT = (0, 200, 0), (230, 30, 30), (255, 255, 255)


def draw_overlay(
    path: Path,
    pictures: Sequence[Picture],
    detections: Sequence[Detection],
    T_cam_board: Sequence[Floats],
    K: Floats,
    distortion: Sequence[float],
    *,
    title: str,
) -> Path:
    """Write up to six views with the corners as seen (green rings) and as predicted (red crosses); worst view first.

    Args:
        path: of the PNG.
        pictures: (H, W, 3) uint8 of every view.
        detections: of the board in every view.
        T_cam_board: (4, 4) of the board in every view, as the calibration has it.
        K: (3, 3) intrinsics, pixel centres at (i + 0.5).
        distortion: OpenCV coefficients that go with K.
        title: one line above.

    Raises:
        DataError: the file cannot be written.
    """
    import cv2

    shown = []
    for picture, seen, pose in zip(pictures, detections, T_cam_board, strict=True):
        predicted = project(seen.points_m, pose, K, distortion)
        error_px = float(np.sqrt(np.mean(np.sum((predicted - seen.pixels) ** 2, axis=1))))
        shown.append((error_px, _marked(picture, seen.pixels, predicted, error_px)))
    shown.sort(key=lambda pair: -pair[0])
    tiles = [tile for _, tile in shown[:SHOWN]]
    columns = min(3, len(tiles))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    sheet = np.vstack(rows)
    head = np.full((40, sheet.shape[1], 3), 24, np.uint8)
    cv2.putText(head, title, (10, 27), cv2.FONT_HERSHEY_SIMPLEX, 0.6, TEXT, 1, cv2.LINE_AA)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), np.vstack([head, sheet])[..., ::-1])
    except (OSError, cv2.error) as error:
        raise DataError(f"{path}: cannot be written ({error}).", "Choose another place.") from error
    if not written:
        raise DataError(f"{path}: cannot be written.", "Choose a name ending in .png.")
    return path


def _marked(picture: Picture, seen: Floats, predicted: Floats, error_px: float) -> Picture:
    import cv2

    # In sixteenths of a pixel (the last argument, 4 bits): marks lie where the corners do, between pixels.
    marked = np.ascontiguousarray(picture).copy()
    for x, y in seen:
        cv2.circle(marked, (round(x * 16), round(y * 16)), 5 * 16, SEEN, 1, cv2.LINE_AA, 4)
    for x, y in predicted:
        for dx, dy in ((4, 4), (4, -4)):
            ends = [(round((x + s * dx) * 16), round((y + s * dy) * 16)) for s in (-1, 1)]
            cv2.line(marked, ends[0], ends[1], PREDICTED, 1, cv2.LINE_AA, 4)
    cv2.putText(marked, f"{error_px:.2f} px", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 4, cv2.LINE_AA)
    cv2.putText(marked, f"{error_px:.2f} px", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, TEXT, 1, cv2.LINE_AA)
    return marked
