"""The file that a calibration leaves, and whether it may be used today for this camera."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cascade.contracts import CameraImage, DataError, PluginConfig, checks
from cascade.contracts.frozen import assign as _set

Floats = NDArray[np.float64]
Matrix3 = tuple[tuple[float, float, float], ...]
Matrix4 = tuple[tuple[float, float, float, float], ...]
SCHEMA_VERSION = 1


class CalibrationError(DataError):
    """A calibration is missing, too old, or of another camera or arm."""


class ForeignCalibrationError(CalibrationError):
    """A calibration belongs to another camera or arm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraCalibration:
    """What is known of one camera, and where it is.

    Attributes:
        serial: of the camera; arm: name or serial of the arm the pose refers to, empty without a pose.
        date: when it was measured, with time zone.
        image_size_px: (width, height) of the images it holds for, upright.
        K: (3, 3) intrinsics [px], pixel centres at (i + 0.5); distortion: OpenCV coefficients, empty for none.
        residual_px: mean reprojection error of the intrinsics.
        T_base_cam: (4, 4) of a camera that stands still; T_ee_cam: (4, 4) of a camera on the hand; at most one.
        residual_m, residual_rad: of the pose, root mean square over the views.
        latency_s: time between exposure and what the device's stamps and the transport account for.
    """

    serial: str
    date: datetime
    image_size_px: tuple[int, int]
    K: Floats
    distortion: tuple[float, ...] = ()
    residual_px: float = 0.0
    arm: str = ""
    T_base_cam: Floats | None = None
    T_ee_cam: Floats | None = None
    residual_m: float | None = None
    residual_rad: float | None = None
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        _set(self, K=checks.array("K", self.K, (3, 3), np.float64))
        for name in ("T_base_cam", "T_ee_cam"):
            if getattr(self, name) is not None:
                _set(self, **{name: checks.pose(name, getattr(self, name))})
        if self.T_base_cam is not None and self.T_ee_cam is not None:
            raise DataError("calibration: expected a camera that stands still or one on the hand, found both poses.")
        if self.date.tzinfo is None:
            raise DataError("calibration: expected a date with a time zone, found none.")
        if not 0 <= self.latency_s < 1:
            raise DataError(f"latency_s: expected 0 to 1 s, found {self.latency_s}.")

    @property
    def kind(self) -> str:
        """'intrinsics', 'eye-to-hand' (camera stands still) or 'eye-in-hand' (camera on the hand)."""
        if self.T_base_cam is not None:
            return "eye-to-hand"
        return "eye-in-hand" if self.T_ee_cam is not None else "intrinsics"

    @property
    def has_extrinsics(self) -> bool:
        """Whether it says where the camera is."""
        return self.kind != "intrinsics"

    def camera_in_base(self, T_base_ee: Floats | None) -> Floats | None:
        """Return T_base_cam (4, 4), from the hand's pose for a camera on the hand; None when it is not known."""
        if self.T_base_cam is not None or self.T_ee_cam is None or T_base_ee is None:
            return self.T_base_cam
        pose: Floats = np.asarray(T_base_ee, dtype=np.float64) @ self.T_ee_cam
        return pose

    def age(self, now: datetime | None = None) -> timedelta:
        """Return how long ago it was measured."""
        return (now or datetime.now(UTC)) - self.date


class _File(PluginConfig):
    """The file as it lies on disk; distances in m, angles in rad."""

    schema_version: int = Field(SCHEMA_VERSION)
    kind: str
    date: datetime
    camera_serial: str
    arm: str = ""
    image_size_px: tuple[int, int]
    K: Matrix3
    distortion: tuple[float, ...] = ()
    residual_px: float = 0.0
    T_base_cam: Matrix4 | None = None
    T_ee_cam: Matrix4 | None = None
    residual_m: float | None = None
    residual_rad: float | None = None
    latency_s: float = 0.0


def save_calibration(path: Path, calibration: CameraCalibration) -> Path:
    """Write a calibration as YAML and return its path; the file is replaced in one step.

    Raises:
        DataError: the file cannot be written.
    """
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": calibration.kind,
        "date": calibration.date.isoformat(timespec="seconds"),
        "camera_serial": calibration.serial,
        "arm": calibration.arm,
        "image_size_px": list(calibration.image_size_px),
        "K": calibration.K.tolist(),
        "distortion": [float(value) for value in calibration.distortion],
        "residual_px": float(calibration.residual_px),
        "latency_s": float(calibration.latency_s),
    }
    for name in ("T_base_cam", "T_ee_cam"):
        pose = getattr(calibration, name)
        if pose is not None:
            values[name] = pose.tolist()
    for name in ("residual_m", "residual_rad"):
        if getattr(calibration, name) is not None:
            values[name] = float(getattr(calibration, name))
    header = "# Written by `cascade calibrate`. Pixel centres lie at (i + 0.5); T_a_b maps points given in b to a.\n"
    text = header + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}).", "Choose another place.") from error
    return path


def load_calibration(
    path: Path,
    *,
    serial: str | None = None,
    arm: str | None = None,
    max_age: timedelta | None = None,
    now: datetime | None = None,
) -> CameraCalibration:
    """Read a calibration and refuse it when it must not be used.

    Args:
        path: the YAML file.
        serial: of the camera that is connected, or None to take any.
        arm: of the arm that is connected, or None to take any.
        max_age: oldest that is accepted, or None for any age.
        now: the present, for tests.

    Raises:
        CalibrationError: missing, unreadable or too old.
        ForeignCalibrationError: of another camera or arm.
    """
    remedy = "Run: cascade calibrate hand-eye (or camera, for the intrinsics alone)."
    if not path.is_file():
        raise CalibrationError(f"calibration {path}: expected a file, found none.", remedy)
    try:
        stored = _File.model_validate(yaml.safe_load(path.read_text()))
        calibration = _record(stored)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CalibrationError(f"calibration {path}: {where}: {first['msg'].lower()}.", remedy) from error
    except (yaml.YAMLError, UnicodeDecodeError, DataError) as error:
        what = error.problem if isinstance(error, DataError) else "it is not YAML"
        raise CalibrationError(f"calibration {path}: expected a calibration file; {what}", remedy) from error
    if stored.schema_version != SCHEMA_VERSION:
        raise CalibrationError(
            f"calibration {path}: expected version {SCHEMA_VERSION}, found {stored.schema_version}.", remedy
        )
    age = calibration.age(now)
    if age < timedelta(minutes=-5):
        raise CalibrationError(f"calibration {path}: dated in the future ({calibration.date}).", "Set the clock.")
    if max_age is not None and age > max_age:
        raise CalibrationError(
            f"calibration {path}: expected one of the last {max_age.days} days, found one of {age.days} days ago.",
            f"{remedy} Or raise `calibration_max_age_days` if nothing has moved.",
        )
    check_owner(calibration, path, serial=serial, arm=arm)
    return calibration


def check_owner(
    calibration: CameraCalibration, path: Path, *, serial: str | None = None, arm: str | None = None
) -> None:
    """Raise ForeignCalibrationError when a calibration is of another camera or arm."""
    if serial is not None and calibration.serial != serial:
        raise ForeignCalibrationError(
            f"calibration {path}: expected camera {serial!r}, found one of camera {calibration.serial!r}.",
            "Name this camera's own file, or calibrate it.",
        )
    if arm is not None and calibration.has_extrinsics and calibration.arm != arm:
        raise ForeignCalibrationError(
            f"calibration {path}: expected arm {arm!r}, found one of arm {calibration.arm!r}.",
            "Name the file made with this arm, or run: cascade calibrate hand-eye.",
        )


def check_size(calibration: CameraCalibration, path: Path, size_px: tuple[int, int]) -> None:
    """Raise CalibrationError when a calibration is for images of another (width, height)."""
    if calibration.image_size_px != size_px:
        raise CalibrationError(
            f"calibration {path}: expected one for {size_px[0]} x {size_px[1]} px as the camera is set, found "
            f"{calibration.image_size_px[0]} x {calibration.image_size_px[1]}.",
            "Set the camera's width and height to the calibrated ones, or run: cascade calibrate camera.",
        )


def placed(image: CameraImage, calibration: CameraCalibration | None, T_base_ee: Floats | None) -> CameraImage:
    """Return the image with `T_base_cam` filled in, for a camera on the hand from the hand's pose at that time."""
    from dataclasses import replace

    pose = calibration.camera_in_base(T_base_ee) if calibration is not None else None
    return image if pose is None else replace(image, T_base_cam=pose)


def to_opencv(K: Floats) -> Floats:
    """Return intrinsics with pixel centres at whole numbers, as OpenCV and RealSense count them."""
    return _shifted(K, -0.5)


def from_opencv(K: Floats) -> Floats:
    """Return intrinsics with pixel centres at (i + 0.5), as everything in this project counts them."""
    return _shifted(K, 0.5)


def _shifted(K: Floats, by: float) -> Floats:
    moved = np.array(K, dtype=np.float64)
    moved[:2, 2] += by
    return moved


def _record(stored: _File) -> CameraCalibration:
    date = stored.date if stored.date.tzinfo is not None else stored.date.replace(tzinfo=UTC)
    return CameraCalibration(
        serial=stored.camera_serial,
        date=date,
        image_size_px=stored.image_size_px,
        K=np.array(stored.K, dtype=np.float64),
        distortion=stored.distortion,
        residual_px=stored.residual_px,
        arm=stored.arm,
        T_base_cam=None if stored.T_base_cam is None else np.array(stored.T_base_cam, dtype=np.float64),
        T_ee_cam=None if stored.T_ee_cam is None else np.array(stored.T_ee_cam, dtype=np.float64),
        residual_m=stored.residual_m,
        residual_rad=stored.residual_rad,
        latency_s=stored.latency_s,
    )
