"""What cameras are plugged in, without opening any."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from cascade.contracts import DeviceError

SYSTEM = Path("/sys/class/video4linux")
PLUG_IN = "Plug it into a USB 3 port, then try: cascade cameras list"


def realsense_library() -> Any:
    """Return pyrealsense2; raises DeviceError with the package to install when it cannot be imported."""
    try:
        return import_module("pyrealsense2")
    except ModuleNotFoundError as error:
        raise DeviceError(
            "realsense: expected the package pyrealsense2, found none.", 'Run: pip install "cascade-wam[realsense]"'
        ) from error
    except ImportError as error:  # the wheel is there, a system library is not
        what = "libusb-1.0-0" if "usb" in str(error) else "its system libraries"
        raise DeviceError(
            f"realsense: pyrealsense2 cannot be loaded ({error}).", f"Install {what}: sudo apt install libusb-1.0-0"
        ) from error


def realsense_devices() -> list[tuple[str, str]]:
    """Return (serial, model) of every RealSense that is plugged in; at once, also when there is none."""
    rs = realsense_library()
    return [
        (device.get_info(rs.camera_info.serial_number), device.get_info(rs.camera_info.name))
        for device in rs.context().query_devices()
    ]


def choose_realsense(found: list[tuple[str, str]], serial: str | None) -> str:
    """Return the serial to open.

    Args:
        found: (serial, model) of what is plugged in.
        serial: the one wanted, or None when there should be just one.

    Raises:
        DeviceError: none, several without a choice, or not the one wanted.
    """
    names = ", ".join(f"{number} ({model})" for number, model in found) or "none"
    if not found:
        raise DeviceError(f"realsense: expected a camera{f' {serial}' if serial else ''}, found none.", PLUG_IN)
    if serial is None and len(found) > 1:
        raise DeviceError(f"realsense: expected one camera, found {names}.", "Set `serial` to the one you mean.")
    if serial is not None and serial not in {number for number, _ in found}:
        raise DeviceError(f"realsense: expected serial {serial}, found {names}.", f"Set `serial`, or: {PLUG_IN}")
    return serial if serial is not None else found[0][0]


def v4l2_devices(system: Path = SYSTEM) -> list[tuple[str, str]]:
    """Return (device path, model) of every V4L2 capture device, from /sys, without opening any."""
    if not system.is_dir():
        return []
    nodes = sorted(system.iterdir(), key=lambda node: (len(node.name), node.name))
    # A webcam has two nodes; the second carries metadata, no images.
    return [(f"/dev/{node.name}", _text(node / "name")) for node in nodes if _text(node / "index") in ("", "0")]


def identity(device: str, system: Path = SYSTEM) -> str:
    """Return what names a V4L2 device for good: its USB serial, else where it is plugged in, else its path."""
    node = system / Path(device).resolve().name
    for folder in (node / "device").resolve(), *list((node / "device").resolve().parents)[:3]:
        serial = _text(folder / "serial")
        if serial:
            return serial
    return (node / "device").resolve().name if node.exists() else device


def v4l2_model(device: str, system: Path = SYSTEM) -> str:
    """Return what a V4L2 device calls itself, empty when it does not say."""
    return _text(system / Path(device).resolve().name / "name")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
