"""Taking views of the board with a camera: whenever it is held still somewhere new, or where the arm carries it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import Camera, CameraImage, DataError, DeviceError, Rig, StaleImageError
from robot_io.calibration.board import Detection, find_board
from robot_io.calibration.config import BoardConfig
from robot_io.calibration.motion import go, inside, turn_deg
from robot_io.calibration.views import View, ViewSet

Floats = NDArray[np.float64]
Say = Callable[[str], None]
PATIENCE_S = 5.0
STILL_PX, STILL_M, STILL_DEG = 0.8, 0.001, 0.2
STILL_S = 0.25
NEW_SHARE = 0.1  # of the picture's width that some corner of the board must have moved
NEW_M, NEW_DEG = 0.03, 8.0


class Looker:
    """Reads a camera patiently and finds the board.

    Args:
        device: an open camera.
        board: what to look for.
    """

    def __init__(self, device: Camera, board: BoardConfig) -> None:
        self._device, self._board = device, board

    def image(self) -> CameraImage:
        """Return the newest image; raises DeviceError when none comes for `PATIENCE_S`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._device.read(max_age_s=0.5)
            except StaleImageError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def look(self) -> tuple[CameraImage, Detection | None]:
        """Return an image and the board in it."""
        image = self.image()
        return image, find_board(image.rgb, self._board)


def hand_held(
    looker: Looker, count: int, say: Say, *, hand: Callable[[], Floats] | None = None, least: int
) -> tuple[View, ...]:
    """Take a view whenever the board, or the hand, is held still somewhere new; ctrl-C ends early.

    Args:
        looker: at an open camera.
        count: views to take.
        say: tells the person what to do.
        hand: reads T_base_ee where the arm's pose matters.
        least: fewest views that are of use when ended early.

    Raises:
        DataError: ended with fewer than `least`.
    """
    taken: list[View] = []
    marks: list[Detection] = []
    say(f"Show the board, hold it still, move on: {count} views are wanted. Ctrl-C ends early.")
    try:
        while len(taken) < count:
            found = _still(looker, hand)
            if found is None:
                continue
            image, board, pose = found
            if _is_new(board, marks, image.rgb.shape[1], pose, taken):
                taken.append(View(rgb=image.rgb, T_base_ee=pose))
                marks.append(board)
                say(f"  view {len(taken)} of {count}, {len(board.pixels)} corners. Now somewhere else.")
    except KeyboardInterrupt:
        if len(taken) < least:
            raise DataError(
                f"views: expected {least} or more, ended after {len(taken)}.", "Take more before you press ctrl-C."
            ) from None
    return tuple(taken)


def carried(
    looker: Looker, rig: Rig, places: list[Floats], count: int, say: Say, *, speed_m_s: float
) -> tuple[View, ...]:
    """Take a view at every place (4, 4) that the arm goes to, until there are `count`; then go back to the start.

    Places outside the workspace are left out, and those where the board is not seen do not count. Errors are those of
    the arm; whatever happens, it is told to stop at the end.
    """
    start = hand_of(rig)()
    taken: list[View] = []
    try:
        for number, place in enumerate(places, 1):
            if len(taken) >= count:
                break
            if not inside(rig, place):
                continue
            go(rig, place, speed_m_s)
            image, board = looker.look()
            if board is None:
                say(f"  place {number}: the board is not seen")
                continue
            taken.append(View(rgb=image.rgb, T_base_ee=hand_of(rig)()))
            say(f"  view {len(taken)} of {count}, {len(board.pixels)} corners")
        go(rig, start, speed_m_s)
    finally:
        rig.arm.stop()
    return tuple(taken)


def view_set(device: Camera, views: tuple[View, ...], arm: str) -> ViewSet:
    """Return the views with what the camera tells of itself: serial, and intrinsics unless they are a guess."""
    if not views:
        raise DataError("views: expected at least one with the board, took none.", "Show the board to the camera.")
    info: Any = getattr(device, "info", None)
    if info is None:  # a camera of another package: its images tell all there is
        return ViewSet(views=views, serial=device.name, arm=arm, K=np.array(device.read(max_age_s=PATIENCE_S).K))
    known = None if info.nominal else np.array(info.K)
    return ViewSet(views=views, serial=info.serial, arm=arm, K=known, distortion=tuple(info.distortion))


def hand_of(rig: Rig) -> Callable[[], Floats]:
    """Return what reads T_base_ee from a rig; raises DeviceError when the arm is not connected."""

    def read() -> Floats:
        return np.array(rig.arm.read().T_base_ee, dtype=np.float64)

    try:
        read()
    except DeviceError as error:
        raise DeviceError(f"rig {rig.name!r}: {error.problem}", error.fix) from error
    return read


def _still(looker: Looker, hand: Callable[[], Floats] | None) -> tuple[CameraImage, Detection, Floats | None] | None:
    """Look twice; return the second look when nothing moved in between."""
    first, pose_before = looker.look()[1], hand() if hand is not None else None
    time.sleep(STILL_S)
    image, board = looker.look()
    pose = hand() if hand is not None else None
    if first is None or board is None or not _same(first, board):
        return None
    if pose is not None and pose_before is not None:
        moved_m = float(np.linalg.norm(pose[:3, 3] - pose_before[:3, 3]))
        if moved_m > STILL_M or turn_deg(pose, pose_before) > STILL_DEG:
            return None
    return image, board, pose


def _same(a: Detection, b: Detection) -> bool:
    return a.pixels.shape == b.pixels.shape and float(np.abs(a.pixels - b.pixels).max()) < STILL_PX


def _is_new(board: Detection, marks: list[Detection], width: int, pose: Floats | None, taken: list[View]) -> bool:
    if pose is not None:
        others = [np.asarray(view.T_base_ee) for view in taken if view.T_base_ee is not None]
        return all(turn_deg(pose, T) > NEW_DEG or float(np.linalg.norm(pose[:3, 3] - T[:3, 3])) > NEW_M for T in others)
    return all(_moved_px(board, mark) > NEW_SHARE * width for mark in marks)


def _moved_px(a: Detection, b: Detection) -> float:
    """Return how far the corners seen in both have moved at most, so that a mere tilt counts too."""
    both = {tuple(point): pixel for point, pixel in zip(np.round(a.points_m, 6), a.pixels, strict=True)}
    moves = [
        float(np.linalg.norm(pixel - both[tuple(point)]))
        for point, pixel in zip(np.round(b.points_m, 6), b.pixels, strict=True)
        if tuple(point) in both
    ]
    return max(moves, default=float("inf"))
