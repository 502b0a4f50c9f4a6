"""Views of the board: pictures in a folder with what was known when they were taken, so that anyone can solve again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cascade.contracts import DataError, PluginConfig, checks
from robot_io.calibration.board import Detection, find_board
from robot_io.calibration.config import BoardConfig
from robot_io.calibration.files import Matrix3, Matrix4

Floats = NDArray[np.float64]
LIST = "views.yaml"
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """One picture.

    Attributes:
        rgb: (H, W, 3) uint8 as the lens makes it.
        T_base_ee: (4, 4) of the hand when it was taken, or None.
    """

    rgb: NDArray[np.uint8]
    T_base_ee: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewSet:
    """Pictures of one camera.

    Attributes:
        views: at least one, all of one size.
        serial: of the camera; arm: name of the arm; empty when not known.
        K: (3, 3) the camera's own intrinsics, pixel centres at (i + 0.5), or None when nobody knows them.
        distortion: OpenCV coefficients that go with K.
    """

    views: tuple[View, ...]
    serial: str = ""
    arm: str = ""
    K: Floats | None = None
    distortion: tuple[float, ...] = ()

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the pictures."""
        height, width = self.views[0].rgb.shape[:2]
        return width, height

    def detections(self, board: BoardConfig) -> list[Detection | None]:
        """Return the board in every view, None where it is not seen."""
        return [find_board(view.rgb, board) for view in self.views]


class _Entry(PluginConfig):
    file: str
    T_base_ee: Matrix4 | None = None


class _List(PluginConfig):
    camera_serial: str = ""
    arm: str = ""
    K: Matrix3 | None = None
    distortion: tuple[float, ...] = ()
    views: tuple[_Entry, ...] = Field(min_length=1)


def save_views(folder: Path, views: ViewSet) -> Path:
    """Write pictures and list into a folder and return it; raises DataError when that fails."""
    import cv2

    entries: list[dict[str, Any]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, view in enumerate(views.views):
            name = f"view-{number:03d}.png"
            cv2.imwrite(str(folder / name), np.ascontiguousarray(view.rgb[..., ::-1]))
            pose = None if view.T_base_ee is None else np.asarray(view.T_base_ee).tolist()
            entries.append({"file": name, "T_base_ee": pose})
        values = {
            "camera_serial": views.serial,
            "arm": views.arm,
            "K": None if views.K is None else np.asarray(views.K).tolist(),
            "distortion": [float(value) for value in views.distortion],
            "views": entries,
        }
        (folder / LIST).write_text(yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=200))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}).", "Choose another place.") from error
    return folder


def load_views(folder: Path, *, serial: str | None = None) -> ViewSet:
    """Read a folder of views: with its list, or any pictures in it by name.

    Args:
        folder: written by `save_views`, or holding PNG or JPEG pictures.
        serial: of the camera where the folder does not tell.

    Raises:
        DataError: no pictures, of different sizes, or a damaged list.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of views, found none.", "Check the path.")
    listed = _read_list(folder)
    if listed is None:
        names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICTURES)
        if not names:
            raise DataError(f"{folder}: expected pictures (PNG, JPEG), found none.", "Check the path.")
        listed = _List(views=tuple(_Entry(file=name) for name in names))
    views = tuple(_view(folder, entry) for entry in listed.views)
    sizes = {view.rgb.shape[:2] for view in views}
    if len(sizes) > 1:
        found = ", ".join(f"{width} x {height}" for height, width in sorted(sizes))
        raise DataError(f"{folder}: expected pictures of one size, found {found}.", "Use those of one camera.")
    return ViewSet(
        views=views,
        serial=listed.camera_serial or serial or "",
        arm=listed.arm,
        K=None if listed.K is None else np.array(listed.K, dtype=np.float64),
        distortion=listed.distortion,
    )


def seen(views: ViewSet, board: BoardConfig, least: int) -> tuple[list[View], list[Detection]]:
    """Return the views in which the board is seen, and where.

    Raises:
        DataError: fewer than `least`.
    """
    pairs = [
        (view, found) for view, found in zip(views.views, views.detections(board), strict=True) if found is not None
    ]
    if len(pairs) < least:
        raise DataError(
            f"views: expected the board in at least {least} of them, found it in {len(pairs)} of {len(views.views)}.",
            "Check that rows, columns and dictionary are those of the board; light it well, avoid glare and blur.",
        )
    return [view for view, _ in pairs], [found for _, found in pairs]


def poses(views: Sequence[View]) -> list[Floats]:
    """Return the hand's pose of every view; raises DataError when one has none."""
    missing = sum(view.T_base_ee is None for view in views)
    if missing:
        raise DataError(
            f"views: expected the hand's pose with every view, {missing} have none.",
            f"Collect them with a rig, or write T_base_ee into {LIST}.",
        )
    return [checks.pose("T_base_ee", view.T_base_ee) for view in views]


def _view(folder: Path, entry: _Entry) -> View:
    import cv2

    picture = cv2.imread(str(folder / entry.file), cv2.IMREAD_COLOR) if (folder / entry.file).is_file() else None
    if picture is None:
        raise DataError(f"{folder / entry.file}: expected a picture, found none that can be read.", "Take it away.")
    pose = None if entry.T_base_ee is None else np.array(entry.T_base_ee, dtype=np.float64)
    return View(rgb=np.ascontiguousarray(picture[..., ::-1]), T_base_ee=pose)


def _read_list(folder: Path) -> _List | None:
    path = folder / LIST
    if not path.is_file():
        return None
    try:
        return _List.model_validate(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is not YAML"
        raise DataError(f"{path}: expected a list of views; {reason}.", "Collect the views again.") from error
